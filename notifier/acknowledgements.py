"""Acknowledgements whose time is over: their incidents are open again, and those who heard of them are reminded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from common import log
from common.domain.errors import Contended
from common.store import incident_changes
from common.store.engine import Database

#: How often it looks: nobody is reminded later than this after the time that was set.
LOOK_EVERY_S = 1.0

_BATCH = 500


class Acknowledgements:
    """`step` is one look; several notifiers may look at once."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def step(self) -> bool:
        """Open again what is due; whether there may be more."""
        try:
            with self._database.begin() as connection:
                expired = incident_changes.expire_acknowledgements(connection, self._now(), limit=_BATCH)
        except Contended:
            return True  # the same again, now
        if expired:
            log.get_logger().info("acknowledgements_expired", count=expired)
        return expired == _BATCH
