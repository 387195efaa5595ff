"""The loops that make rollups, a piece a step, and index the past for them: the first scheduler to come, none waits."""

from __future__ import annotations

from collections.abc import Callable

from common import log, telemetry
from common.domain.errors import Contended
from common.settings import Settings
from common.store import rollups, rollups_fill
from common.store.engine import Connection, Database

_KEEP_EVERY_S = 3600.0
#: So long is worked on the past in one go, before the loop rests: it must not hold up anybody.
_PAST_S = 2.0


class Roller:
    """Makes rollups out of results and keeps their partitions. `step` runs in one thread, on its own connection."""

    def __init__(self, database: Database, settings: Settings, *, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._settings = settings
        self._monotonic = monotonic
        self._keep_at_s = monotonic()

    def step(self) -> bool:
        """Make one piece; False when there is none for now. Then some of the past are made, while there are any."""
        if self._monotonic() >= self._keep_at_s:
            self._keep()
        if self._made(rollups.step):
            return True
        until_s = self._monotonic() + _PAST_S
        while self._made(rollups.fill) and self._monotonic() < until_s:
            pass
        return False

    def _made(self, make: Callable[[Connection], rollups.Piece | None]) -> bool:
        started_s = self._monotonic()
        with self._database.begin() as connection:
            piece = make(connection)
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


class Indexer:
    """Indexes old results that rollups are still to be made of. A loop of its own: a day of them may take minutes."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._retention_days = settings.result_retention_days

    def step(self) -> bool:
        """Index a day; False when there is none."""
        try:
            with self._database.begin() as connection:
                day = rollups_fill.index(connection, self._retention_days)
        except Contended as error:
            # Not silently again and again: a day that cannot be read in this time has no figures until it can.
            log.get_logger().warning("rollup_day_not_indexed", error=str(error.__cause__ or error))
            return False
        if day is not None:
            log.get_logger().info("rollup_day_indexed", day=str(day))
        return day is not None
