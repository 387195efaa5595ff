"""Hand ids of due notifications to the queue, off the relay's path: Redis may be slow or away, the ledger is not.

A hint that cannot be given costs nothing but time: then this process looks at the ledger by itself, at once.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from common import log
from common.broker import QueueBroker, enqueue_notifications
from common.domain.errors import Unavailable

#: After a failure Redis is not asked for so long.
_AWAY = timedelta(seconds=5)

#: Hints that wait for Redis; more than these are not worth keeping.
_MAX_WAITING = 1_000

_IDLE_S = 0.5


class Hints:
    """`give` never blocks; `step` is the loop that talks to Redis; `wake` makes this process's sweeper look."""

    def __init__(self, broker: QueueBroker, wake: Callable[[], None], now: Callable[[], datetime]) -> None:
        self._broker = broker
        self._wake = wake
        self._now = now
        self._waiting: queue.Queue[Sequence[str]] = queue.Queue(_MAX_WAITING)
        self._away_until: datetime | None = None

    def give(self, ids: Sequence[str]) -> None:
        """Hint that these notifications are due."""
        try:
            self._waiting.put_nowait(ids)
        except queue.Full:
            self._wake()

    def step(self) -> bool:
        """Enqueue one hint; whether there was one."""
        try:
            ids = self._waiting.get(timeout=_IDLE_S)
        except queue.Empty:
            return False
        if self._away_until is not None and self._now() < self._away_until:
            self._wake()
            return True
        self._enqueue(ids)
        return True

    def _enqueue(self, ids: Sequence[str]) -> None:
        try:
            enqueue_notifications(self._broker, ids)
        except Unavailable as error:
            if self._away_until is None:
                log.get_logger().warning(
                    "queue_away", error=str(error.__cause__), instead="reading the ledger directly"
                )
            self._away_until = self._now() + _AWAY
            self._wake()
        else:
            self._away_until = None
