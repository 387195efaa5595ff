"""What Prometheus is told of an organization's monitors: each one's newest result at each location, and its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from common.store.engine import Connection

#: When certificates expire, by the number of their monitors.
Expiries = Callable[[Sequence[int]], Mapping[int, int]]

#: Monitors in one statement: it takes milliseconds, and what it brings is small.
_PAGE = 1_000

# A page of the organization's monitors in the order of their numbers, which is how their rows lie. LIMIT inside: each
# newest result is looked up by its key, whatever the planner thinks of the tables.
_SEEN = """
WITH page AS MATERIALIZED (
  SELECT m.monitor_no, m.id, m.key, m.name, m.type, m.target, m.severity, m.labels, m.interval_s, m.enabled,
         m.location_ids
    FROM monitors m
   WHERE m.org_id = %(org_id)s AND m.deleted_at IS NULL AND m.monitor_no > %(after)s
     AND m.monitor_no %% %(shards)s = %(shard)s AND (%(id)s::uuid IS NULL OR m.id = %(id)s)
     AND (%(types)s::text[] IS NULL OR m.type = ANY(%(types)s))
     AND (%(labels)s::jsonb IS NULL OR m.labels @> %(labels)s)
   ORDER BY m.monitor_no LIMIT %(page)s
)
SELECT m.monitor_no, m.id::text, m.key, m.name, m.type, m.target, m.severity, m.labels, m.interval_s, m.enabled,
       coalesce(s.health, 0), coalesce(s.maintenance, false), coalesce(l.name, ''), coalesce(v.last_verdict, -1),
       coalesce(v.reason, 0), coalesce(extract(epoch FROM v.last_slot), 0)::float8,
       coalesce(extract(epoch FROM clock_timestamp() - v.last_slot), 0)::float8,
       r.code, r.dns_ms, r.connect_ms, r.tls_ms, r.ttfb_ms, r.total_ms
  FROM page m
  LEFT JOIN LATERAL (SELECT * FROM monitor_states x WHERE x.monitor_no = m.monitor_no LIMIT 1) s ON true
  LEFT JOIN LATERAL (
    SELECT * FROM votes x WHERE x.monitor_no = m.monitor_no AND x.location = ANY(m.location_ids) LIMIT 1000
  ) v ON true
  LEFT JOIN locations l ON l.id = v.location
  LEFT JOIN LATERAL (
    SELECT * FROM results x
     WHERE x.monitor_no = v.monitor_no AND x.location = v.location AND x.scheduled_at = v.last_slot LIMIT 1
  ) r ON true
 ORDER BY m.monitor_no, l.name
"""

# What others may watch as well, one row a monitor: whatever has a target.
_TARGETS = """
SELECT m.monitor_no, m.id::text, m.key, m.name, m.type, m.target, m.severity, m.labels, m.interval_s
  FROM monitors m
 WHERE m.org_id = %(org_id)s AND m.deleted_at IS NULL AND m.enabled AND m.target <> '' AND m.monitor_no > %(after)s
   AND m.monitor_no %% %(shards)s = %(shard)s AND (%(id)s::uuid IS NULL OR m.id = %(id)s)
   AND (%(types)s::text[] IS NULL OR m.type = ANY(%(types)s)) AND (%(labels)s::jsonb IS NULL OR m.labels @> %(labels)s)
 ORDER BY m.monitor_no LIMIT %(page)s
"""


_NUMBERS = """
SELECT m.monitor_no, m.id::text FROM monitors m
 WHERE m.org_id = %(org_id)s AND m.deleted_at IS NULL AND m.monitor_no > %(after)s
 ORDER BY m.monitor_no LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of an organization's monitors: all that pass every filter, of `shards` equal parts the part `shard`."""

    org_id: str
    monitor_id: str | None = None
    types: Sequence[str] | None = None
    labels: Mapping[str, str] | None = None
    shards: int = 1
    shard: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A monitor at a location. Verdict -1: no result yet; `age_s` is that of its newest slot that could see.

    Phases are milliseconds as `common.domain.checks.Phases` has them, None where there is no such result any more.
    """

    monitor_no: int
    id: str
    key: str | None
    name: str
    type: str
    target: str
    severity: str
    labels: Mapping[str, str]
    interval_s: int
    enabled: bool
    health: int
    maintenance: bool
    location: str
    verdict: int
    reason: int
    slot_s: float
    age_s: float
    code: int | None
    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    ttfb_ms: float | None
    total_ms: float | None
    expires_s: int | None = None  # when the target's certificate does (Unix time), where that is known


@dataclass(frozen=True, slots=True)
class Target:
    """A monitor as others may watch it."""

    monitor_no: int
    id: str
    key: str | None
    name: str
    type: str
    target: str
    severity: str
    labels: Mapping[str, str]
    interval_s: int


def seen(connection: Connection, wanted: Wanted, expiries: Expiries) -> Iterator[Seen]:
    """All of them, monitor by monitor, a page at a time; `expiries` knows when certificates of some monitors expire."""
    for rows in _pages(connection, _SEEN, wanted):
        known = expiries(list({row[0]: None for row in rows}))
        for row in rows:
            yield Seen(*(*row, known.get(row[0])))


def targets(connection: Connection, wanted: Wanted) -> Iterator[Target]:
    """Those that are not paused and have a target."""
    for rows in _pages(connection, _TARGETS, wanted):
        for row in rows:
            yield Target(*row)


def numbers(connection: Connection, org_id: str, *, after: int, limit: int) -> dict[int, str]:
    """{number: id} of the organization's monitors behind a number."""
    rows = connection.exec_driver_sql(_NUMBERS, {"org_id": org_id, "after": after, "limit": limit})
    return {row[0]: row[1] for row in rows}


def _pages(connection: Connection, sql: str, wanted: Wanted) -> Iterator[Sequence[Any]]:
    after = 0
    while True:
        rows = connection.exec_driver_sql(
            sql,
            {
                "org_id": wanted.org_id,
                "id": wanted.monitor_id,
                "types": None if wanted.types is None else list(wanted.types),
                "labels": None if wanted.labels is None else Jsonb(dict(wanted.labels)),
                "shards": wanted.shards,
                "shard": wanted.shard,
                "after": after,
                "page": _PAGE,
            },
        ).all()
        yield rows
        # Of a monitor there is a row for each location, and one in any case: a page has no more monitors than rows.
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]
