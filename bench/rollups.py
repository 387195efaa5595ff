"""What rollups cost: seconds of PostgreSQL for every bucket, bytes for every monitor and day, and reading them.

`python -m bench.rollups [monitors] [minutes]`: a server of its own, results of one location every 60 s, written in the
order of time as workers write them; it ends by itself.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import psycopg

from common.clock import from_ms
from common.domain.accounting_cover import Level, cover
from common.embedded import EmbeddedServers
from common.store import rollups, uptime
from common.store.engine import Database, DatabaseRole
from migrations.run import migrate

_MONITORS = """
WITH org AS (INSERT INTO organizations (id, name) VALUES (gen_random_uuid(), 'bench') RETURNING id),
     place AS (INSERT INTO locations (name) VALUES ('local') ON CONFLICT (name) DO UPDATE SET name = 'local'
               RETURNING id),
     made AS (
  INSERT INTO monitors (id, org_id, name, type, target, interval_s, timeout_s, failure_threshold, recovery_threshold,
                        retry_interval_s, severity, labels, location_ids, check_from, created_at)
  SELECT gen_random_uuid(), org.id, 'm' || n, 'http', 'http://192.0.2.7/' || n, 60, 10, 2, 1, 5, 'error',
         jsonb_build_object('team', 't' || n %% 100), ARRAY[place.id], %(begin)s, %(begin)s
    FROM org, place, generate_series(1, %(count)s::int) AS n RETURNING monitor_no, org_id)
INSERT INTO monitor_states (monitor_no, org_id, health, since)
SELECT monitor_no, org_id, CASE WHEN monitor_no %% 200 = 0 THEN 3 ELSE 1 END, %(begin)s FROM made
"""
# One minute of all monitors, in the order of their slots. One in 500 is not seen in a minute.
_MINUTE = """
INSERT INTO results
SELECT %(at)s::timestamptz + (monitor_no %% 60000) * interval '1 millisecond', monitor_no, 1, 0.2, 0.4, -1, 3,
       exp(2.5 + random() + random())::real, l.id, 0, 200,
       CASE WHEN monitor_no %% 200 = 0 THEN '3' ELSE '1' END::"char", '0'::"char"
  FROM monitors, locations l WHERE l.name = 'local' AND random() > 0.002 ORDER BY monitor_no %% 60000
"""
_BYTES = """
SELECT sum(pg_total_relation_size(i.inhrelid))::float8 / greatest((SELECT count(*) FROM {0}), 1) FROM pg_inherits i
 WHERE i.inhparent = '{0}'::regclass
"""


def main() -> int:
    """Measure and print."""
    monitors = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    minutes = int(sys.argv[2]) if len(sys.argv) > 2 else 65
    data_dir = Path(tempfile.mkdtemp(prefix="tocsin-"))
    data_dir.chmod(0o755)
    try:
        with EmbeddedServers(data_dir, lambda _line: None) as servers:
            url = servers.start().database_url
            migrate(url)
            _fill(url, monitors, minutes)
            _roll(url)
            _age(url)
            _read(url)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    return 0


def _fill(url: str, monitors: int, minutes: int) -> None:
    now = datetime.now(UTC)
    begin = (now - timedelta(minutes=minutes)).replace(minute=0, second=0, microsecond=0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE rollup_progress SET since = %(b)s, fine_from = %(b)s, kept_from = %(b)s, fine_to = %(b)s,"
            " hours_to = %(b)s, days_to = date_bin('1 day', %(b)s + interval '1 day', 'epoch')",
            {"b": begin},
        )
        connection.execute("SELECT keep_rollup_partitions(2, 3650, 3650)")
        print(f"making {monitors:,} monitors: {_timed(lambda: _many(connection, monitors, begin)):.1f} s")
        started, rows = time.monotonic(), 0
        for minute in range(-1, int((now - begin).total_seconds() // 60)):
            rows += connection.execute(_MINUTE, {"at": begin + timedelta(minutes=minute)}).rowcount
        print(f"{rows:,} results written in {time.monotonic() - started:.0f} s")
        connection.execute("ANALYZE")


def _many(connection: psycopg.Connection[object], monitors: int, begin: datetime) -> None:
    connection.execute(_MONITORS, {"begin": begin - timedelta(minutes=2), "count": monitors})


def _roll(url: str) -> None:
    database = Database(url, DatabaseRole.WORKER, application="bench", statement_timeout_s=300)
    took: dict[Level, list[float]] = {level: [] for level in Level}
    with _Neighbour() as neighbour:
        while True:
            neighbour.worst_s = 0.0
            with database.begin() as connection:
                backend: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                started, used_s = time.monotonic(), _cpu_s(backend)
                piece = rollups.step(connection)
                seconds, elapsed_s = _cpu_s(backend) - used_s, time.monotonic() - started
            if piece is None:
                break
            took[piece.level].append(seconds)
            print(
                f"{piece.level.name:5} {from_ms(piece.at_ms):%H:%M} {seconds:6.2f} CPU-s in {elapsed_s:.2f} s,"
                f" {piece.results:,} results, {piece.eventful:,} one by one;"
                f" another thread waited {neighbour.worst_s * 1000:.0f} ms"
            )
    for level, all_s in took.items():
        if all_s:
            median = sorted(all_s)[len(all_s) // 2]
            print(f"{level.name}: CPU-s of PostgreSQL: median {median:.2f}, most {max(all_s):.2f}")
    with psycopg.connect(url) as connection:
        for table, a_day in (("rollups_5m", 288), ("rollups_hour", 24)):
            found = connection.execute(_BYTES.format(table)).fetchone()
            size = found[0] if found else 0
            print(f"{table}: {size:.0f} bytes a row, all included; {size * a_day:,.0f} a monitor and day")
    database.dispose()


def _cpu_s(pid: int) -> float:
    """What a process has used so far; others may be busy on this machine as well."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Neighbour:
    """A thread that wants to run every 50 ms, as the dispatcher does; `worst_s` is by how much it was late."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            wanted = time.monotonic() + 0.05
            time.sleep(0.05)
            self.worst_s = max(self.worst_s, time.monotonic() - wanted)


def _age(url: str) -> None:
    """Thirty days of days and hours, as copies of the hour that there is."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = 0
        connection.execute(
            "UPDATE rollup_progress SET days_to = date_bin('1 day', now() - interval '31 days', 'epoch')"
        )
        connection.execute("SELECT keep_rollup_partitions(2, 3650, 3650)")
        for table, unit, count in (("rollups_day", "day", 31), ("rollups_hour", "hour", 47)):
            for number in range(1, count + 1):
                rows += connection.execute(
                    f"INSERT INTO {table} SELECT date_bin('1 {unit}', now(), 'epoch') - %s * interval '1 {unit}',"
                    " monitor_no, seen, well, up_ms, degraded_ms, down_ms, unknown_ms, paused_ms, maintenance_ms,"
                    " latencies"
                    " FROM rollups_hour WHERE at = (SELECT max(at) FROM rollups_hour) ON CONFLICT DO NOTHING",
                    (number,),
                ).rowcount  # fmt: skip
        connection.execute(
            "UPDATE rollup_progress SET days_to = date_bin('1 day', now(), 'epoch'),"
            " since = now() - interval '31 days', fine_from = now() - interval '31 days',"
            " kept_from = now() - interval '31 days'"
        )
        connection.execute("VACUUM ANALYZE")
        print(f"{rows:,} rows of a month")


def _read(url: str) -> None:
    database = Database(url, DatabaseRole.API, application="bench", statement_timeout_s=300)
    with psycopg.connect(url) as plain:
        org_id, ids = plain.execute(
            "SELECT org_id::text, array_agg((id::text, monitor_no)::text) FROM monitors GROUP BY 1"
        ).fetchone() or ("", [])
    took, used_s = [], time.process_time()
    with database.begin() as connection:
        backend: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    backend_s, sample = _cpu_s(backend), random.Random(1).sample(ids, 1000)
    for text in sample:
        id_, number = text.strip("()").split(",")
        started = time.monotonic()
        with database.begin(org_id) as connection:
            rolled, now_ms = rollups.progress(connection)
            window = cover(rolled, now_ms - 30 * Level.DAY.ms, now_ms)
            uptime.read(connection, uptime.Asked(org_id, id_, int(number), window, now_ms - 12_000))
        took.append(time.monotonic() - started)
    used_ms = (time.process_time() - used_s + _cpu_s(backend) - backend_s) * 1000 / len(sample)
    rows = sum(map(len, window.rows.values()))
    p50, p95, most = (_at(took, share) for share in (0.5, 0.95, 1))
    print(f"uptime, 30 days, {rows} rows: p50 {p50:.1f} ms, p95 {p95:.1f} ms, most {most:.1f} ms; {used_ms:.1f} CPU-ms")
    with database.begin(org_id) as connection:
        page = [text.strip("()").split(",")[0] for text in ids[:1000]]
        print(f"sums of 1,000 monitors, 30 days: {_timed(lambda: uptime.sums(connection, page, window)) * 1000:.0f} ms")
        total = _timed(lambda: uptime.totals(connection, labels=None, label_name=None, cover=window))
        print(f"total of {len(ids):,} monitors, 30 days: {total:.2f} s")
        total = _timed(lambda: uptime.totals(connection, labels={"team": "t7"}, label_name=None, cover=window))
        print(f"total of {len(ids) // 100:,} monitors with a label, 30 days: {total:.2f} s")
    database.dispose()


def _at(took: list[float], share: float) -> float:
    return sorted(took)[min(len(took) - 1, int(share * len(took)))] * 1000


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
