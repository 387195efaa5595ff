"""A bucket of five minutes in one statement, for all monitors in which nothing happened; the others by number.

Plain is a monitor whose health has not changed since the bucket began, and the way it is watched not for one interval
before either, and which was seen all the time by one location (its slots follow each other without a gap), or not at
all; or which one maintenance window covered from the bucket's beginning to its end. Whatever is not plain is accounted
for by common.domain.accounting; a test holds this statement to that function.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from common.store.engine import Connection

BUCKET = timedelta(minutes=5)

#: Slots before a bucket reach into it: up to this interval they are read with the bucket, for longer ones looked up.
_READ_BACK = timedelta(seconds=60)
_LONGEST_INTERVAL = timedelta(days=1)

#: Hash joins over a whole bucket of 100,000 monitors stay in memory; nothing is worth compiling for a second.
_PLAN = "SET LOCAL work_mem = '64MB'; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0"
_SUMMARIZE = "SELECT summarize_results()"
_FORGET = "DELETE FROM rollups_5m WHERE at = %(begin)s"

# `best` is whether one location's slots cover the bucket: the first reaches back to its beginning, the last to its end,
# and there are as many as fit between.
_ROLL = """
WITH rows AS MATERIALIZED (
  SELECT r.monitor_no, r.location, r.scheduled_at AS at, r.verdict, r.total_ms
    FROM results r
   WHERE r.scheduled_at > %(read_from)s AND r.scheduled_at < %(end)s AND r.kind = '0'
), changed AS MATERIALIZED (
  SELECT monitor_no FROM health_changes WHERE at >= %(begin)s
  UNION
  SELECT w.monitor_no FROM watch_changes w JOIN monitors m USING (monitor_no)
   WHERE w.at > %(back_to)s AND w.at > %(begin)s - m.interval_s * interval '1 second'
), kept AS MATERIALIZED (
  SELECT monitor_no, bool_or(begins_at <= %(begin)s AND ends_at >= %(end)s) AS whole
    FROM maintenance_spans WHERE ends_at > %(begin)s AND begins_at < %(end)s AND ends_at > begins_at GROUP BY 1
), mine AS MATERIALIZED (
  SELECT m.monitor_no, m.enabled, m.interval_s * interval '1 second' AS every, m.location_ids, s.health,
         c.monitor_no IS NOT NULL OR NOT coalesce(k.whole, true) AS changed, coalesce(k.whole, false) AS kept
    FROM monitors m JOIN monitor_states s USING (monitor_no) LEFT JOIN changed c USING (monitor_no)
    LEFT JOIN kept k USING (monitor_no)
   WHERE m.deleted_at IS NULL OR c.monitor_no IS NOT NULL
), here AS (
  SELECT r.monitor_no, r.location, mine.every,
         count(*) FILTER (WHERE r.at >= %(begin)s AND r.verdict <> '0') AS seen,
         count(*) FILTER (WHERE r.at >= %(begin)s AND r.verdict IN ('1', '2')) AS well,
         count(*) FILTER (WHERE s.speaks) AS n, min(r.at) FILTER (WHERE s.speaks) AS first,
         max(r.at) FILTER (WHERE s.speaks) AS last
    FROM rows r JOIN mine USING (monitor_no)
   CROSS JOIN LATERAL (SELECT r.verdict <> '0' AND (r.at >= %(begin)s OR
                         (mine.every <= %(read_back)s AND r.at > %(begin)s - mine.every)) AS speaks) s
   GROUP BY 1, 2, 3
), before AS (
  SELECT mine.monitor_no, l.location, mine.every, 0 AS seen, 0 AS well, 1 AS n, x.scheduled_at AS first,
         x.scheduled_at AS last
    FROM mine CROSS JOIN LATERAL unnest(mine.location_ids) AS l(location) CROSS JOIN LATERAL (
      SELECT r.scheduled_at FROM results r
       WHERE r.monitor_no = mine.monitor_no AND r.location = l.location AND r.kind = '0' AND r.verdict <> '0'
         AND r.scheduled_at > %(begin)s - mine.every AND r.scheduled_at > %(back_to)s AND r.scheduled_at < %(begin)s
       ORDER BY r.scheduled_at DESC LIMIT 1) x
   WHERE mine.every > %(read_back)s AND mine.enabled AND NOT mine.changed
), places AS (
  SELECT monitor_no, sum(seen) AS seen, sum(well) AS well, sum(n) AS n,
         coalesce(min(first) <= %(begin)s AND max(last) + every >= %(end)s
                  AND max(last) - min(first) = (sum(n) - 1) * every, false) AS covers
    FROM (SELECT * FROM here UNION ALL SELECT * FROM before) u GROUP BY monitor_no, location, every
), found AS (
  SELECT monitor_no, sum(seen)::int AS seen, sum(well)::int AS well, sum(n) AS n, bool_or(covers) AS best
    FROM places GROUP BY 1
), latencies AS (
  SELECT monitor_no, string_agg(int4send((least(n, 8388607) * 256 + bucket)::int), '' ORDER BY bucket) AS latencies
    FROM (
    SELECT monitor_no, CASE WHEN total_ms > 0 THEN
             greatest(0, least(255, ceil(10 * ln(total_ms::float8)) + 46))::int ELSE 0 END AS bucket, count(*) AS n
      FROM rows WHERE at >= %(begin)s AND verdict IN ('1', '2') AND total_ms >= 0 GROUP BY 1, 2) x
   GROUP BY 1
), judged AS MATERIALIZED (
  SELECT mine.*, found.seen, found.well, found.best,
         NOT changed AND (NOT enabled OR kept OR coalesce(found.n, 0) = 0 OR found.best) AS plain
    FROM mine LEFT JOIN found USING (monitor_no)
), added AS (
  INSERT INTO rollups_5m (at, monitor_no, seen, well, up_ms, degraded_ms, down_ms, unknown_ms, paused_ms,
                          maintenance_ms, latencies)
  SELECT %(begin)s, j.monitor_no, coalesce(j.seen, 0), coalesce(j.well, 0), CASE WHEN c.category = 1 THEN 300000 END,
         CASE WHEN c.category = 2 THEN 300000 END, CASE WHEN c.category = 3 THEN 300000 END,
         CASE WHEN c.category = 0 THEN 300000 END, CASE WHEN c.category = -1 THEN 300000 END,
         CASE WHEN c.category = -2 THEN 300000 END, l.latencies
    FROM judged j LEFT JOIN latencies l USING (monitor_no)
   CROSS JOIN LATERAL (SELECT CASE WHEN NOT j.enabled THEN -1 WHEN j.kept THEN -2 WHEN j.best THEN j.health
                                   ELSE 0 END AS category) c
   WHERE j.plain
)
SELECT (SELECT count(*) FROM rows WHERE at >= %(begin)s),
       coalesce((SELECT array_agg(monitor_no ORDER BY monitor_no) FROM judged WHERE NOT plain), '{}')
"""


@dataclass(frozen=True, slots=True)
class Plain:
    """What one statement did: how many results it saw, and the monitors it leaves to be accounted for."""

    results: int
    eventful: list[int]


def roll(connection: Connection, begin: datetime) -> Plain:
    """Make the rows of a bucket anew, in this transaction. The results it counts are the ones it saw."""
    connection.exec_driver_sql(_PLAN)
    connection.exec_driver_sql(_SUMMARIZE)
    connection.exec_driver_sql(_FORGET, {"begin": begin})
    row = connection.exec_driver_sql(
        _ROLL,
        {
            "begin": begin,
            "end": begin + BUCKET,
            "read_from": begin - _READ_BACK,
            "read_back": _READ_BACK,
            "back_to": begin - _LONGEST_INTERVAL,
        },
    ).one()
    return Plain(row[0], list(row[1]))
