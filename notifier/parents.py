"""Parents that have recovered: what they held back is decided on; and timelines say what was held back, and why.

Announced is what is still wrong by `cooldowns`, once a check has looked since (holds).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from common import log, telemetry
from common.domain.errors import Contended
from common.store import parents
from common.store.engine import Database
from common.store.notifications import Refused

#: A parent's recovery is seen no later than this after it, and a timeline says no later what was held back.
LOOK_EVERY_S = 1.0

#: Timelines in one transaction.
BATCH = 500

#: A parent about which PostgreSQL refuses something is left alone for so long.
SET_ASIDE = timedelta(minutes=5)


class Parents:
    """`step` is one look; several notifiers may look at once."""

    def __init__(self, database: Database, now: Callable[[], datetime], *, batch: int = BATCH) -> None:
        self._database = database
        self._now = now
        self._batch = batch
        self._set_aside: dict[str, datetime] = {}

    def step(self) -> bool:
        """Release what a parent held back, write some timelines; whether there may be more."""
        now = self._now()
        self._set_aside = {incident: until for incident, until in self._set_aside.items() if until > now}
        try:
            with self._database.begin() as connection:
                noted = parents.write_notes(connection, limit=self._batch)
            return self._release(now) or noted == self._batch
        except Contended:
            return True  # the same again, now

    def _release(self, now: datetime) -> bool:
        with self._database.begin() as connection:
            found = parents.next_over(connection, but=list(self._set_aside))
        if found is None:
            return False
        incident_id, org_id = found
        try:
            with self._database.begin() as connection:
                parents.release(connection, incident_id, org_id, now)
        except Refused as error:
            self._set_aside[incident_id] = now + SET_ASIDE
            telemetry.LOOP_ERRORS.labels("parents").inc()
            log.get_logger().error("parent_set_aside", incident_id=incident_id, error=str(error.orig))
        return True
