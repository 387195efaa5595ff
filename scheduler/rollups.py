"""The loop that makes rollups: a piece a step, whichever scheduler comes first; it never waits for another."""

from __future__ import annotations

from collections.abc import Callable

from common import log, telemetry
from common.settings import Settings
from common.store import rollups
from common.store.engine import Database

_KEEP_EVERY_S = 3600.0


class Roller:
    """Makes rollups out of results and keeps their partitions. `step` runs in one thread, on its own connection."""

    def __init__(self, database: Database, settings: Settings, *, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._settings = settings
        self._monotonic = monotonic
        self._keep_at_s = monotonic()

    def step(self) -> bool:
        """Make one piece; False when there is none for now."""
        if self._monotonic() >= self._keep_at_s:
            self._keep()
        started_s = self._monotonic()
        with self._database.begin() as connection:
            piece = rollups.step(connection)
        if piece is None:
            return False
        took_s = self._monotonic() - started_s
        telemetry.ROLLUP_DURATION.labels(piece.level.name.lower()).observe(took_s)
        log.get_logger().debug(
            "rolled_up",
            level=piece.level.name.lower(),
            at_ms=piece.at_ms,
            again=piece.again,
            results=piece.results,
            eventful=piece.eventful,
            seconds=round(took_s, 3),
        )
        return True

    def _keep(self) -> None:
        with self._database.begin() as connection:
            changed = rollups.keep(
                connection,
                fine_days=self._settings.fine_rollup_retention_days,
                days=self._settings.rollup_retention_days,
            )
        self._keep_at_s = self._monotonic() + _KEEP_EVERY_S
        if changed:
            log.get_logger().info("rollup_partitions_kept", changed=changed)
