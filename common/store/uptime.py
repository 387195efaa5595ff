"""Uptime of some monitors over a window: stored figures, the moments since the last of them, and incidents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from common.clock import from_ms
from common.domain import histogram
from common.domain.accounting import History, Span, Times, due
from common.domain.accounting_cover import Cover, Level
from common.store import uptime_history
from common.store.engine import Connection

# Look at the organization of the transaction; their plans are in the functions.
_SUMS = """
SELECT s.id::text, s.seen, s.up_ms, s.degraded_ms, s.down_ms, s.unknown_ms, s.paused_ms, s.maintenance_ms, s.latencies
  FROM sum_rollups(%(ids)s::uuid[], %(day)s::timestamptz[], %(hour)s::timestamptz[], %(fine)s::timestamptz[],
                   %(latencies)s) s
"""
_TOTALS = """
SELECT t.name, t.monitors, t.up_ms, t.degraded_ms, t.down_ms, t.unknown_ms, t.paused_ms, t.maintenance_ms
  FROM total_rollups(%(labels)s, %(label_name)s, %(day)s::timestamptz[], %(hour)s::timestamptz[],
                     %(fine)s::timestamptz[]) t
"""

# Opened within the window. An incident that ended because its monitor was paused or deleted was not repaired.
_INCIDENTS = """
SELECT count(*), avg(extract(epoch FROM i.resolved_at - i.opened_at)) FILTER (
         WHERE i.status = 'resolved' AND coalesce(i.cause ->> 'reason', '') NOT IN ('paused', 'deleted'))::float8
  FROM incidents i
 WHERE i.org_id = %(org_id)s AND i.monitor_id = %(monitor_id)s
   AND i.opened_at >= %(begin)s AND i.opened_at < %(end)s
"""


@dataclass(frozen=True, slots=True)
class Sums:
    """What stored figures add up to: time by category, scheduled results that saw, latencies by bucket."""

    times: Times = field(default_factory=Times)
    seen: int = 0
    latencies: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Total:
    """Some monitors together: the value of the label that they share (None: all), and their time."""

    name: str | None
    monitors: int
    times: Times


@dataclass(frozen=True, slots=True)
class Failures:
    """Incidents that were opened within a window, and how long until they were resolved (seconds; None: none was)."""

    count: int
    mttr_s: float | None


@dataclass(frozen=True, slots=True)
class Uptime:
    """All of one monitor's window. It begins no earlier than the monitor, and ends at the last settled moment."""

    window: Span
    times: Times
    seen: int
    due: int
    latencies: Counter[int]
    failures: Failures


@dataclass(frozen=True, slots=True)
class Asked:
    """Which monitor over which window: its stored figures, and up to where the moments after them go."""

    org_id: str
    monitor_id: str
    monitor_no: int
    cover: Cover
    end_ms: int


def sums(connection: Connection, ids: Sequence[str], cover: Cover, *, latencies: bool = False) -> dict[str, Sums]:
    """What is stored of these monitors of the transaction's organization, by id."""
    rows = connection.exec_driver_sql(_SUMS, {"ids": list(ids), "latencies": latencies, **_beginnings(cover)})
    return {row[0]: Sums(Times(*row[2:8]), row[1], histogram.merge(map(bytes, row[8] or ()))) for row in rows}


def totals(
    connection: Connection, *, labels: Mapping[str, str] | None, label_name: str | None, cover: Cover
) -> list[Total]:
    """All monitors of the transaction's organization with these labels, by the value of one label or together."""
    keys = {"labels": None if labels is None else Jsonb(dict(labels)), "label_name": label_name}
    rows = connection.exec_driver_sql(_TOTALS, {**keys, **_beginnings(cover)})
    return [Total(row[0], row[1], Times(*row[2:8])) for row in rows]


def read(connection: Connection, asked: Asked) -> Uptime:
    """One monitor's window."""
    stored = sums(connection, [asked.monitor_id], asked.cover, latencies=True).get(asked.monitor_id, Sums())
    times, seen, latencies = stored.times, stored.seen, stored.latencies
    window = (asked.cover.begin_ms, max(asked.cover.end_ms, asked.end_ms))
    tail = (asked.cover.end_ms, window[1])
    watched = uptime_history.watches(connection, [asked.monitor_no], window)
    if tail[0] < tail[1]:
        facts = uptime_history.complete(connection, watched, tail)
        for recent in uptime_history.accounts(facts, tail):
            times, seen = times + recent.times, seen + recent.seen
            latencies = latencies + Counter(recent.latencies)
    history = History(watched.get(asked.monitor_no, ()))
    life = history.life()
    begin_ms = window[1] if life is None else min(window[1], max(window[0], life[0]))
    return Uptime(
        window=(begin_ms, window[1]),
        times=times,
        seen=seen,
        due=due(history, asked.monitor_id, window),
        latencies=latencies,
        failures=_failures(connection, asked, (begin_ms, window[1])),
    )


def _failures(connection: Connection, asked: Asked, window: Span) -> Failures:
    keys = {"org_id": asked.org_id, "monitor_id": asked.monitor_id}
    row = connection.exec_driver_sql(_INCIDENTS, {**keys, "begin": from_ms(window[0]), "end": from_ms(window[1])}).one()
    return Failures(row[0], row[1])


def _beginnings(cover: Cover) -> dict[str, Any]:
    return {level.name.lower(): [from_ms(at) for at in cover.rows[level]] for level in Level}
