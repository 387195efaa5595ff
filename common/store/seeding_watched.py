"""Made monitors and their results, as tocsin_owner: what would be there, had they been checked for days.

`seeding_outages` writes what follows from the results, out of the same draft.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from common.domain.checks import Kind, Reason, Verdict
from common.store.arrays import integers
from common.store.engine import Connection

# The oldest organization, or the one of this name or id.
_ORGANIZATION = """
SELECT id::text, name FROM organizations
 WHERE deleted_at IS NULL AND (%(wanted)s = '' OR name = %(wanted)s OR id::text = lower(%(wanted)s))
 ORDER BY created_at, id LIMIT 2
"""
_PRESENT = "SELECT count(*) FROM monitors WHERE org_id = %(org)s AND deleted_at IS NULL"
_KNOWN = "SELECT EXISTS (SELECT 1 FROM monitors WHERE org_id = %(org)s AND key = %(key)s AND deleted_at IS NULL)"
_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"

# The roller makes rollups of it again, or at last.
_REFILL = "SELECT refill_rollups(%(first)s, now())"

# What the rest is made from. fate: 0 up, 1 degraded, 2 down, 3 paused.
_DRAFT = """
CREATE TEMP TABLE seeded (
  n int PRIMARY KEY, id uuid NOT NULL, monitor_no int NOT NULL, fate smallint NOT NULL, results int NOT NULL,
  outages int NOT NULL, last_ms bigint NOT NULL, latency_ms float8 NOT NULL
) ON COMMIT DROP
"""

# Created before the first result, one a second; check_from lies in the past: only slots are due, and no check at once.
_MONITORS = """
WITH made AS (
  INSERT INTO monitors (id, org_id, key, name, type, target, interval_s, timeout_s, failure_threshold,
                        recovery_threshold, retry_interval_s, severity, labels, location_ids, enabled, options,
                        assertions, check_from, created_at, updated_at)
  SELECT u.id, %(org)s, u.key, u.name, 'http', u.target, %(interval_s)s, least(10, %(interval_s)s), 2, 1, 5,
         u.severity, u.labels::jsonb, ARRAY[%(location)s::smallint], u.fate <> 3,
         '{"method": "GET", "headers": {}, "body": null, "follow_redirects": true, "verify_tls": true}',
         u.assertions::jsonb, born.at, born.at, born.at
    FROM unnest(%(numbers)s::int[], %(ids)s::uuid[], %(keys)s::text[], %(names)s::text[], %(targets)s::text[],
                %(severities)s::text[], %(labels)s::text[], %(assertions)s::text[], %(fates)s::int[])
         AS u(n, id, key, name, target, severity, labels, assertions, fate)
   CROSS JOIN LATERAL (SELECT to_timestamp(%(born_s)s::float8 + u.n) AS at) born
   ORDER BY u.n
  RETURNING id, monitor_no
)
INSERT INTO seeded
SELECT u.n, u.id, made.monitor_no, u.fate, u.results, u.outages, u.last_ms,
       4 + (hashint8extended(u.n, %(seed)s) & 255)
  FROM unnest(%(numbers)s::int[], %(ids)s::uuid[], %(fates)s::int[], %(results)s::int[], %(outages)s::int[],
              %(lasts)s::bigint[]) AS u(n, id, fate, results, outages, last_ms)
  JOIN made USING (id)
"""

# A day's partition as keep_result_partitions makes them.
_PARTITION = (
    "CREATE TABLE IF NOT EXISTS {parent}_{day:%Y%m%d} PARTITION OF {parent}"
    " FOR VALUES FROM ('{day:%Y-%m-%d} 00:00+00') TO ('{after:%Y-%m-%d} 00:00+00')"
)
_CLOSE_PARTITION = "ALTER TABLE {parent}_{day:%Y%m%d} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"

# Results by their age, 0 is the newest. An outage q of the past is two of them, ages 4q + 6 and 4q + 5, and over with
# 4q + 4; whoever fails right now does so since age 2.
TROUBLE = """
CASE WHEN s.fate IN (1, 2) AND a.age < 3 THEN CASE s.fate WHEN 1 THEN 4 ELSE 3 END
     WHEN a.age > 4 AND mod(a.age - 4, 4) IN (1, 2) AND (a.age - 4) / 4 < s.outages THEN 1 + mod(s.n, 3)
     ELSE 0 END
"""
_VERDICTS = ", ".join(
    f"'{int(verdict)}'" for verdict in (Verdict.UP, Verdict.DOWN, Verdict.DOWN, Verdict.DOWN, Verdict.DEGRADED)
)
_REASONS = ", ".join(
    str(int(reason))
    for reason in (Reason.NONE, Reason.STATUS_MISMATCH, Reason.TIMEOUT, Reason.CONNECT_REFUSED, Reason.HEADER_MISMATCH)
)
# What the trouble is: none, a wrong status, no answer in time, a refused connection, a missing header.
TROUBLES = f"""
SELECT (ARRAY[{_REASONS}])[t.no + 1] AS reason,
       (ARRAY[200, 503, 0, 0, 200])[t.no + 1] AS code,
       (ARRAY[{_VERDICTS}])[t.no + 1] AS verdict,
       (ARRAY['', 'status is 503, expected in 200-299', 'no answer within the timeout', 'connection refused',
              'header X-Complete is absent, expected eq yes'])[t.no + 1] AS message,
       CASE t.no
         WHEN 1 THEN '{{"source": "status", "op": "in", "expected": "200-299", "seen": "503"}}'::jsonb
         WHEN 4 THEN '{{"source": "header", "op": "eq", "expected": "yes", "seen": ""}}'::jsonb END AS failed_assertion
"""
# When a result of this age was due: a step after the one before. Those of an outage, and the one that ends it, follow
# each other slot by slot: so it was seen for as long as its incident was open.
AT = """to_timestamp((s.last_ms - CASE
  WHEN {age} < 3 AND s.fate IN (1, 2) THEN {age} * %(interval_s)s::bigint * 1000
  WHEN {age} > 3 AND mod({age}, 4) < 3 AND {age} / 4 <= s.outages
    THEN ({age} - mod({age}, 4)) * %(step_ms)s::bigint + mod({age}, 4) * %(interval_s)s::bigint * 1000
  ELSE {age} * %(step_ms)s::bigint END) / 1000.0::float8)"""

# The results of some monitors: their latency wavers around the monitor's own.
_RESULTS = f"""
INSERT INTO results (scheduled_at, monitor_no, config_version, dns_ms, connect_ms, tls_ms, ttfb_ms, total_ms, location,
                     reason, code, verdict, kind)
SELECT {AT.format(age="a.age")}, s.monitor_no, 1, 0.3, CASE WHEN k.code = 0 THEN -1 ELSE 0.8 END, -1,
       CASE WHEN k.code = 0 THEN -1 ELSE l.ms * 0.8 END,
       CASE WHEN k.reason = {int(Reason.TIMEOUT)} THEN 10000 WHEN k.code = 0 THEN 0.6 ELSE l.ms END,
       %(location)s, k.reason, k.code, k.verdict::"char", '{int(Kind.SCHEDULED)}'
  FROM seeded s
 CROSS JOIN LATERAL generate_series(s.results - 1, 0, -1) AS a(age)
 CROSS JOIN LATERAL (SELECT {TROUBLE} AS no) t
 CROSS JOIN LATERAL ({TROUBLES}) k
 CROSS JOIN LATERAL (
   SELECT s.latency_ms * (0.8 + 0.4 * (hashint8extended(s.n * 1048576::bigint + a.age, %(seed)s) & 1023) / 1023.0) AS ms
 ) l
 WHERE s.n >= %(first)s AND s.n < %(end)s
"""


def organization(connection: Connection, wanted: str) -> tuple[str, str] | None:
    """(id, name) of the organization with this name or id, "" for the oldest; None where that is none, or several."""
    rows = connection.exec_driver_sql(_ORGANIZATION, {"wanted": wanted}).all()
    return (rows[0][0], rows[0][1]) if rows and (not wanted or len(rows) == 1) else None


def present(connection: Connection, org_id: str) -> int:
    """How many monitors the organization has."""
    return int(connection.exec_driver_sql(_PRESENT, {"org": org_id}).scalar_one())


def known(connection: Connection, org_id: str, key: str) -> bool:
    """Whether there is a monitor with this key."""
    return bool(connection.exec_driver_sql(_KNOWN, {"org": org_id, "key": key}).scalar_one())


def now_ms(connection: Connection) -> int:
    """The database's clock."""
    return int(connection.exec_driver_sql(_NOW).scalar_one())


def begin(connection: Connection, days: Iterable[date]) -> None:
    """Make room for what is to be seeded, with results of these days."""
    connection.exec_driver_sql(_DRAFT)
    for day in days:
        for parent in ("results", "result_details"):
            for statement in (_PARTITION, _CLOSE_PARTITION):
                text = statement.format(parent=parent, day=day, after=day + timedelta(days=1))
                connection.exec_driver_sql(text)


def add_monitors(connection: Connection, columns: Mapping[str, Sequence[Any]], **shared: Any) -> None:
    """Make monitors from columns of equal length: numbers, ids, keys, names, targets, severities, labels and so on."""
    connection.exec_driver_sql(
        _MONITORS,
        {
            **shared,
            **columns,
            "numbers": integers(columns["numbers"]),
            "fates": integers(int(fate) for fate in columns["fates"]),
            "results": integers(columns["results"]),
            "outages": integers(columns["outages"]),
            "lasts": integers(columns["lasts"]),
            "labels": [json.dumps(labels) for labels in columns["labels"]],
            "assertions": [json.dumps(assertions) for assertions in columns["assertions"]],
        },
    )


def add_results(connection: Connection, first: int, end: int, **shared: Any) -> None:
    """The results of the monitors from number `first` to before `end`."""
    connection.exec_driver_sql(_RESULTS, {"first": first, "end": end, **shared})


def refill(connection: Connection, first: datetime) -> int:
    """Have rollups made of everything from `first` on; how many pieces that is."""
    return int(connection.exec_driver_sql(_REFILL, {"first": first}).scalar_one())
