"""Look at the ledger itself: what a lost hint left behind, what has become due, what a failing channel may try.

It needs no queue. While Redis is away this is how everything is delivered; otherwise it finds little to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from common import log, telemetry
from common.clock import DatabaseClock, monotonic_s
from common.domain.errors import Unavailable
from common.store import notifications
from common.store.engine import Database, now_s

#: How often it looks without being woken; a notification whose hint was lost waits no longer.
LOOK_EVERY_S = 1.0
_SYNC_CLOCK_EVERY_S = 10.0
#: When the database was away, leases have expired that nobody could settle: whoever holds them goes first.
AFTER_TROUBLE_S = 3.0


class Sweeper:
    """`wake` (from any thread) makes it look at once; `clock` is kept in step with the database on the way."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        now: Callable[[], datetime],
        *,
        monotonic: Callable[[], float] = monotonic_s,
    ) -> None:
        self._database = database
        self._clock = clock
        self._now = now
        self._monotonic = monotonic
        self._woken = threading.Event()
        self._tidy_at = 0.0
        self._sync_at = 0.0
        self._quiet_until = 0.0

    def wake(self) -> None:
        """Look at the ledger now."""
        self._woken.set()

    def step(self, start_due: Callable[[], int]) -> bool:
        """Wait for the next look, then have everything started that is due; whether there was anything."""
        self._woken.wait(LOOK_EVERY_S)
        # Cleared before looking: what comes while we look is looked for again.
        self._woken.clear()
        now_s_ = self._monotonic()
        if now_s_ < self._quiet_until:
            return False
        try:
            if now_s_ >= self._sync_at:
                self._sync(now_s_)
            if now_s_ >= self._tidy_at:
                self._tidy_at = now_s_ + LOOK_EVERY_S
                self._suppress()
            return start_due() > 0
        except Unavailable:
            self._quiet_until = self._monotonic() + AFTER_TROUBLE_S
            raise

    def _sync(self, now_s_: float) -> None:
        with self._database.begin() as connection:
            self._clock.sync(lambda: now_s(connection))
        telemetry.CLOCK_SKEW.labels("notifier").set(self._clock.skew_s())
        self._sync_at = now_s_ + _SYNC_CLOCK_EVERY_S

    def _suppress(self) -> None:
        with self._database.begin() as connection:
            suppressed = notifications.suppress_disabled(connection, self._now())
        if suppressed:
            telemetry.NOTIFICATIONS.labels("any", "suppressed").inc(len(suppressed))
            log.get_logger().info("notifications_suppressed", count=len(suppressed), reason="channel_disabled")
