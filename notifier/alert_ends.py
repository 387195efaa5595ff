"""The end of alerts that nobody repeats: their incidents are resolved, as if their senders had said so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from common import log, telemetry
from common.domain.alerts import Outcome
from common.domain.errors import Contended
from common.store import alert_ends
from common.store.engine import Database

#: How often it looks: an alert ends no later than this after its time.
LOOK_EVERY_S = 1.0

#: Incidents in one transaction.
BATCH = 500


class AlertEnds:
    """`step` is one look; several notifiers may look at once."""

    def __init__(self, database: Database, now: Callable[[], datetime], *, batch: int = BATCH) -> None:
        self._database = database
        self._now = now
        self._batch = batch

    def step(self) -> bool:
        """Resolve what was not repeated in time; whether there may be more."""
        try:
            with self._database.begin() as connection:
                resolved, more = alert_ends.expire(connection, self._now(), limit=self._batch)
        except Contended:
            return True  # the same again, now
        if resolved:
            telemetry.ALERTS.labels("expired", Outcome.RESOLVED.value).inc(resolved)
            log.get_logger().info("alerts_expired", count=resolved)
        return more
