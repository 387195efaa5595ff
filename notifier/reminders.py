"""Bring to mind what is still open: a reminder is an event of the incident, told through the route that repeats."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from common import log
from common.domain.errors import Contended
from common.store import reminders
from common.store.engine import Database

#: How often it looks, and how many incidents one transaction holds.
LOOK_EVERY_S = 2.0
_BATCH = 100


class Reminders:
    """`step` reminds of what is due. Several notifiers may do so: each reminder is one's alone."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def step(self) -> bool:
        """Remind of a batch; whether there was anything."""
        try:
            with self._database.begin() as connection:
                count, found = reminders.remind(connection, self._now(), limit=_BATCH)
        except Contended:
            return True  # the same again, now
        if count:
            log.get_logger().info("reminders_added", count=count)
        return found
