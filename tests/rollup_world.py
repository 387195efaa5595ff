"""Monitors with a past of a test's making: how they were watched, their health, their results; and the roller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from common.clock import from_ms
from common.domain.accounting_cover import Level
from common.domain.checks import Kind, Verdict
from common.domain.health import Health
from common.store import rollups, uptime_history
from common.store.rollups import Piece
from tests.conftest import Databases
from tests.stack import Seed

FINE = Level.FINE.ms


class Tenant(Seed):
    """Rows of an organization that is there already."""

    def __post_init__(self) -> None:
        self.location()


@dataclass
class Past:
    """The past of some monitors. Times are Unix milliseconds; `start_ms` is a whole hour that has long been over."""

    databases: Databases
    seed: Seed

    def __post_init__(self) -> None:
        now_ms = int(self.seed.run("SELECT extract(epoch FROM clock_timestamp()) * 1000")[0][0])
        self.start_ms = (now_ms // Level.HOUR.ms - 2) * Level.HOUR.ms
        self.location = self.seed.location()
        self.partitions()
        self.since(self.start_ms)

    def partitions(self) -> None:
        """The past has partitions of results as well."""
        for day in (from_ms(self.start_ms - days * Level.DAY.ms).date() for days in range(3)):
            self.seed.run(
                f"CREATE TABLE IF NOT EXISTS results_{day:%Y%m%d} PARTITION OF results"
                f" FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
            )

    def since(self, at_ms: int) -> None:
        """Nothing is rolled yet, and counting begins here."""
        self.seed.run(
            "UPDATE rollup_progress SET since = %s, fine_from = %s, kept_from = %s, fine_to = %s,"
            " hours_to = date_bin('1 hour', %s + interval '59 minutes 59 seconds', 'epoch'),"
            " days_to = date_bin('1 day', %s + interval '23:59:59', 'epoch')",
            *[from_ms(at_ms)] * 6,
        )
        self.keep()

    def keep(self) -> None:
        """The partitions of it all."""
        with self.databases.worker.begin() as connection:
            rollups.keep(connection, fine_days=3650, days=3650)

    def monitor(self, **columns: Any) -> int:
        """A monitor without a past; the next calls give it one."""
        number = self.seed.monitors(["http://t"], interval_s=60, **columns)[0]
        self.seed.run("DELETE FROM watch_changes WHERE monitor_no = %s", number)
        self.seed.run("DELETE FROM health_changes WHERE monitor_no = %s", number)
        return number

    def plain(self, at_ms: int | None = None, health: Health = Health.UP, **columns: Any) -> int:
        """A monitor that has been watched, with this health, since before the start."""
        number, at_ms = self.monitor(**columns), at_ms or self.start_ms - 600_000
        self.watch(number, at_ms, interval_s=columns.get("interval_s", 60))
        self.health(number, at_ms, health)
        return number

    def watch(self, number: int, at_ms: int, *, enabled: bool = True, interval_s: int = 60, gone: bool = False) -> None:
        """How it is watched from then on; the last one is also what it is now."""
        self.seed.run(
            "INSERT INTO watch_changes (monitor_no, interval_s, places, enabled, gone, at) VALUES (%s,%s,1,%s,%s,%s)",
            number, interval_s, enabled, gone, from_ms(at_ms),
        )  # fmt: skip
        self._quietly(
            "UPDATE monitors SET enabled = %s, interval_s = %s, timeout_s = least(timeout_s, %s),"
            " deleted_at = CASE WHEN %s THEN %s::timestamptz END, created_at = least(created_at, %s)"
            " WHERE monitor_no = %s",
            enabled, interval_s, interval_s, gone, from_ms(at_ms), from_ms(at_ms), number,
        )  # fmt: skip

    def health(self, number: int, at_ms: int, health: Health) -> None:
        """Its health from then on."""
        self.seed.run(
            "INSERT INTO health_changes (monitor_no, health, at) VALUES (%s, %s, %s)",
            number, int(health), from_ms(at_ms),
        )  # fmt: skip
        self._quietly("UPDATE monitor_states SET health = %s WHERE monitor_no = %s", int(health), number)

    def _quietly(self, sql: str, *values: Any) -> None:
        """Without the triggers, which know only the present."""
        with psycopg.connect(self.seed.database_url) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(sql, values)  # type: ignore[arg-type]

    def results(
        self, number: int, slots: Iterable[int], verdict: Verdict = Verdict.UP, *,
        latency_ms: float = 20.0, kind: Kind = Kind.SCHEDULED, location: int | None = None,
    ) -> None:  # fmt: skip
        """Results of these slots."""
        rows = [
            (from_ms(slot), number, 1, -1, -1, -1, -1, latency_ms, location or self.location, 0, 0,
             str(int(verdict)), str(int(kind)))
            for slot in slots
        ]  # fmt: skip
        with psycopg.connect(self.seed.database_url) as connection, connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO results VALUES ({', '.join(['%s'] * 13)})", rows)

    def every_minute(self, begin_ms: int | None = None, end_ms: int | None = None, step_ms: int = 60_000) -> range:
        """Slots that are no round times."""
        begin_ms = self.start_ms - 60_000 if begin_ms is None else begin_ms
        return range(begin_ms + 7_777 % step_ms, end_ms or self.start_ms + Level.HOUR.ms, step_ms)

    def roll(self, pieces: int = 1) -> list[Piece]:
        """So many pieces, as the roller makes them."""
        made = []
        for _ in range(pieces):
            with self.databases.worker.begin() as connection:
                piece = rollups.step(connection)
            if piece is None:
                break
            made.append(piece)
        return made

    def roll_all(self) -> list[Piece]:
        return self.roll(10_000)

    def rows(self, table: str = "rollups_5m") -> dict[tuple[int, int], dict[str, Any]]:
        """{(monitor, beginning): row}, 0 where nothing is."""
        with self.databases.owner.begin() as connection:
            found = connection.exec_driver_sql(
                f"SELECT (extract(epoch FROM at) * 1000)::bigint AS at_ms, * FROM {table} ORDER BY at, monitor_no"
            ).mappings()
            return {
                (row["monitor_no"], row["at_ms"]): {
                    name: value if value is not None else 0
                    for name, value in row.items() if name not in ("at", "at_ms", "monitor_no")
                }
                for row in found
            }  # fmt: skip

    def times(self, number: int, at_ms: int | None = None, table: str = "rollups_5m") -> dict[str, int]:
        """What a row says of a monitor's time; categories of no length are left out."""
        row = self.rows(table).get((number, self.start_ms if at_ms is None else at_ms), {})
        return {name.removesuffix("_ms"): ms for name, ms in row.items() if name.endswith("_ms") and ms}

    def exactly(self, numbers: Sequence[int], at_ms: int) -> dict[int, uptime_history.Account]:
        """What the accounting itself says of a bucket, without any shortcut."""
        window = (at_ms, at_ms + FINE)
        with self.databases.worker.begin() as connection:
            found = uptime_history.accounts(uptime_history.read(connection, numbers, window), window)
            return {one.monitor_no: one for one in found}


def labelled(**labels: str) -> Any:
    """Labels as a column takes them."""
    return Jsonb(labels)
