"""Hours out of five minutes, days out of hours: sums, and latencies bucket by bucket."""

from __future__ import annotations

from datetime import timedelta

from common.clock import from_ms
from common.domain.accounting import CATEGORIES
from common.domain.accounting_cover import Level
from common.store.engine import Connection

_TABLES = {Level.FINE: "rollups_5m", Level.HOUR: "rollups_hour", Level.DAY: "rollups_day"}

_PLAN = "SET LOCAL work_mem = '64MB'; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0"
_SUMS = ", ".join(f"sum({category}_ms)::int AS {category}_ms" for category in CATEGORIES)
_COLUMNS = ", ".join(f"{category}_ms" for category in CATEGORIES)

# `packed` is count * 256 + bucket, as common.domain.histogram has it.
_MERGE = """
WITH parts AS MATERIALIZED (
  SELECT * FROM {source} WHERE at >= %(begin)s AND at < %(end)s
), sums AS (
  SELECT monitor_no, sum(seen)::int AS seen, sum(well)::int AS well, {sums} FROM parts GROUP BY 1
), latencies AS (
  SELECT monitor_no, string_agg(int4send((least(n, 8388607) * 256 + bucket)::int), '' ORDER BY bucket) AS latencies
    FROM (
    SELECT p.monitor_no, get_byte(p.latencies, o + 3) AS bucket,
           sum((get_byte(p.latencies, o) << 16) + (get_byte(p.latencies, o + 1) << 8) + get_byte(p.latencies, o + 2))
             AS n
      FROM parts p CROSS JOIN LATERAL generate_series(0, octet_length(p.latencies) - 4, 4) AS o
     WHERE p.latencies IS NOT NULL GROUP BY 1, 2) x
   GROUP BY 1
)
INSERT INTO {target} (at, monitor_no, seen, well, {columns}, latencies)
SELECT %(begin)s, s.monitor_no, s.seen, s.well, {columns}, l.latencies
  FROM sums s LEFT JOIN latencies l USING (monitor_no) ORDER BY s.monitor_no
"""
_FORGET = "DELETE FROM {target} WHERE at = %(begin)s"


def make(connection: Connection, level: Level, at_ms: int) -> None:
    """Make the rows of an hour or a day anew, in this transaction."""
    names = {
        "source": _TABLES[Level(level - 1)], "target": _TABLES[level], "sums": _SUMS, "columns": _COLUMNS,
    }  # fmt: skip
    begin = from_ms(at_ms)
    keys = {"begin": begin, "end": begin + timedelta(milliseconds=level.ms)}
    connection.exec_driver_sql(_PLAN)
    connection.exec_driver_sql(_FORGET.format(**names), keys)
    connection.exec_driver_sql(_MERGE.format(**names), keys)
