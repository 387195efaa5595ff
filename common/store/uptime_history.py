"""What accounting needs of some monitors: how they were watched, their health, and their results slot by slot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common.clock import from_ms, to_ms
from common.domain.accounting import HealthSince, History, Span, Times, Watch, account, merged
from common.domain.checks import Verdict
from common.domain.health import Health
from common.domain.histogram import collect
from common.store.engine import Connection

# What holds when the window begins, and what changes in it. Three before it: a change of locations alone breaks no row
# of slots, so that what was before it may still speak.
_WATCHES = """
SELECT u.monitor_no, w.at, w.enabled, w.interval_s, w.places, w.gone
  FROM unnest(%(monitors)s::int[]) AS u(monitor_no) CROSS JOIN LATERAL (
    (SELECT * FROM watch_changes x WHERE x.monitor_no = u.monitor_no AND x.at <= %(begin)s
      ORDER BY x.at DESC, x.no DESC LIMIT 3)
    UNION ALL
    (SELECT * FROM watch_changes x WHERE x.monitor_no = u.monitor_no AND x.at > %(begin)s AND x.at < %(end)s)) w
 ORDER BY u.monitor_no, w.at, w.no
"""
_HEALTHS = """
SELECT u.monitor_no, h.at, h.health
  FROM unnest(%(monitors)s::int[]) AS u(monitor_no) CROSS JOIN LATERAL (
    (SELECT * FROM health_changes x WHERE x.monitor_no = u.monitor_no AND x.at <= %(begin)s
      ORDER BY x.at DESC, x.no DESC LIMIT 1)
    UNION ALL
    (SELECT * FROM health_changes x WHERE x.monitor_no = u.monitor_no AND x.at > %(begin)s AND x.at < %(end)s)) h
 ORDER BY u.monitor_no, h.at, h.no
"""

# Spans of maintenance that reach into the window.
_MAINTENANCE = """
SELECT u.monitor_no, s.begins_at, s.ends_at
  FROM unnest(%(monitors)s::int[]) AS u(monitor_no) CROSS JOIN LATERAL (
    SELECT x.begins_at, x.ends_at FROM maintenance_spans x WHERE x.monitor_no = u.monitor_no OFFSET 0) s
 WHERE s.begins_at < %(end)s AND s.ends_at > %(begin)s
 ORDER BY u.monitor_no, s.begins_at
"""

# One index range per monitor and location, in the partitions of at most the longest interval before.
_RESULTS = """
SELECT u.monitor_no, r.scheduled_at, r.verdict::text::smallint, r.total_ms
  FROM unnest(%(monitors)s::int[], %(froms)s::timestamptz[]) AS u(monitor_no, read_from)
 CROSS JOIN locations l CROSS JOIN LATERAL (
   SELECT x.scheduled_at, x.verdict, x.total_ms FROM results x
    WHERE x.monitor_no = u.monitor_no AND x.location = l.id AND x.kind = '0'
      AND x.scheduled_at >= u.read_from AND x.scheduled_at >= %(first)s AND x.scheduled_at < %(end)s
    OFFSET 0) r
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A scheduled result: when it was due, what it said, how long it took."""

    slot_ms: int
    verdict: Verdict
    latency_ms: float


@dataclass(slots=True)
class Facts:
    """All of one monitor around a window."""

    history: History
    results: list[Seen] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Account:
    """A window of one monitor: its time by category, and its results."""

    monitor_no: int
    times: Times
    seen: int
    well: int
    latencies: dict[int, int]


_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_WELL = (Verdict.UP, Verdict.DEGRADED)


def read(connection: Connection, monitors: Sequence[int], window: Span) -> dict[int, Facts]:
    """The facts of these monitors; one that was never watched is absent."""
    return complete(connection, watches(connection, monitors, window), window)


def complete(connection: Connection, watched: Mapping[int, Sequence[Watch]], window: Span) -> dict[int, Facts]:
    """The facts of monitors whose watches are known already, for this window or a longer one that ends with it."""
    healths = _healths(connection, list(watched), window)
    covered = _maintenance(connection, list(watched), window)
    facts = {
        number: Facts(History(found, healths.get(number, ()), covered.get(number, ())))
        for number, found in watched.items()
    }
    froms = {number: window[0] - _reach_ms(found, window[0]) + 1 for number, found in watched.items()}
    rows = connection.exec_driver_sql(
        _RESULTS,
        {
            "monitors": list(froms),
            "froms": [from_ms(ms) for ms in froms.values()],
            "first": from_ms(min(froms.values(), default=window[0])),
            "end": from_ms(window[1]),
        },
    )
    for number, slot, verdict, latency_ms in rows:
        facts[number].results.append(Seen(to_ms(slot), _VERDICTS[verdict], latency_ms))
    return facts


def watches(connection: Connection, monitors: Sequence[int], window: Span) -> dict[int, list[Watch]]:
    """How these monitors were watched, by number; one that never was is absent."""
    keys = {"monitors": list(monitors), "begin": from_ms(window[0]), "end": from_ms(window[1])}
    found: dict[int, list[Watch]] = {}
    for number, at, enabled, interval_s, places, gone in connection.exec_driver_sql(_WATCHES, keys):
        found.setdefault(number, []).append(Watch(to_ms(at), enabled, interval_s * 1000, places, gone))
    return found


def _healths(connection: Connection, monitors: Sequence[int], window: Span) -> dict[int, list[HealthSince]]:
    keys = {"monitors": list(monitors), "begin": from_ms(window[0]), "end": from_ms(window[1])}
    found: dict[int, list[HealthSince]] = {}
    for number, at, health in connection.exec_driver_sql(_HEALTHS, keys):
        found.setdefault(number, []).append(HealthSince(to_ms(at), Health(health)))
    return found


def _maintenance(connection: Connection, monitors: Sequence[int], window: Span) -> dict[int, list[Span]]:
    keys = {"monitors": list(monitors), "begin": from_ms(window[0]), "end": from_ms(window[1])}
    found: dict[int, list[Span]] = {}
    for number, begins_at, ends_at in connection.exec_driver_sql(_MAINTENANCE, keys):
        found.setdefault(number, []).append((to_ms(begins_at), to_ms(ends_at)))
    return {number: merged(spans) for number, spans in found.items()}


def _reach_ms(watched: Sequence[Watch], begin_ms: int) -> int:
    """How far before the window a slot may lie that still speaks in it."""
    before = [watch for watch in watched if watch.at_ms <= begin_ms][-3:]
    after = [watch for watch in watched if watch.at_ms > begin_ms]
    return max(watch.interval_ms for watch in (*before, *after))


def accounts(facts: dict[int, Facts], window: Span) -> Iterator[Account]:
    """Each monitor's part of the window; those that did not live in it are left out."""
    for number, found in facts.items():
        seen = [result.slot_ms for result in found.results if result.verdict is not Verdict.UNKNOWN]
        times = account(found.history, seen, window)
        if not times.total:
            continue
        within = [result for result in found.results if window[0] <= result.slot_ms < window[1]]
        well = [result for result in within if result.verdict in _WELL]
        yield Account(
            number,
            times,
            seen=sum(result.verdict is not Verdict.UNKNOWN for result in within),
            well=len(well),
            latencies=collect(result.latency_ms for result in well if result.latency_ms >= 0),
        )
