"""What waits at a channel that has been failing for a while is told to its fallback as well, before it dies there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from common import log
from common.domain.errors import Contended
from common.store import fallbacks
from common.store.engine import Database

#: How often it looks: a fallback hears no later than this after its time.
LOOK_EVERY_S = 2.0

#: Announcements in one transaction.
BATCH = 200


class Fallbacks:
    """`step` is one look; several notifiers may look at once. `hint` is told the ids of what may leave now."""

    def __init__(self, database: Database, hint: Callable[[Sequence[str]], None], now: Callable[[], datetime]) -> None:
        self._database = database
        self._hint = hint
        self._now = now

    def step(self) -> bool:
        """Give some of what waits; whether there may be more."""
        try:
            with self._database.begin() as connection:
                given, more = fallbacks.hand_over_waiting(connection, self._now(), limit=BATCH)
        except Contended:
            return True  # the same again, now
        if given:
            self._hint(given)
            log.get_logger().info("fallbacks_told", count=len(given))
        return more
