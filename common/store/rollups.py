"""Rollups, piece by piece: what is next, made whole in one transaction, by one process at a time.

A piece is a bucket of five minutes, an hour, a day, or a look back at one that is made. It can be made again at any
time with the same outcome, and it counts as made in the transaction that makes it, so a process that dies loses its
piece and nothing else. Results that were written after their bucket was made are found by counting again, five minutes,
an hour and a day later: the marks hold what a bucket's maker saw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from common.clock import from_ms, to_ms
from common.domain.accounting_cover import Level, Rolled
from common.store import rollups_exact, rollups_fill, rollups_merge, rollups_plain
from common.store.engine import Connection
from common.store.rollups_fill import Day

#: A bucket is made so long after its end: nearly all its results are there by then.
GRACE_MS = 90_000

#: After so many further buckets it is counted again: five minutes, an hour, a day.
LOOKS_BACK = (1, 12, 288)

_LOCK = "SELECT pg_try_advisory_xact_lock(7305061974)"
_STALE = "SELECT level, at FROM rollup_marks WHERE stale ORDER BY level, at LIMIT 1"
_PROGRESS = """
SELECT since, fine_from, kept_from, fine_to, hours_to, days_to, clock_timestamp() FROM rollup_progress
"""
_ADVANCE = {
    Level.FINE: "UPDATE rollup_progress SET fine_to = %(to)s",
    Level.HOUR: "UPDATE rollup_progress SET hours_to = %(to)s",
    Level.DAY: "UPDATE rollup_progress SET days_to = %(to)s",
}
_MARK = """
INSERT INTO rollup_marks (level, at, results, changes) VALUES (%(level)s, %(at)s, %(results)s, %(changes)s)
    ON CONFLICT (level, at) DO UPDATE SET results = excluded.results, changes = excluded.changes, stale = false
"""
# Whatever is made of a bucket that was made again; an hour or a day that is not there yet needs nothing.
_OUTDATE_ABOVE = """
UPDATE rollup_marks SET stale = true
 WHERE (level, at) IN ((1, date_bin('1 hour', %(at)s, 'epoch')), (2, date_bin('1 day', %(at)s, 'epoch')))
"""
_CHANGES = """
SELECT (SELECT count(*) FROM health_changes WHERE at >= %(begin)s AND at < %(end)s)
     + (SELECT count(*) FROM watch_changes WHERE at >= %(begin)s AND at < %(end)s)
     + (SELECT count(*) FROM maintenance_spans WHERE begins_at < %(end)s AND ends_at > %(begin)s)
"""
_RESULTS = "SELECT count(*) FROM results WHERE scheduled_at >= %(begin)s AND scheduled_at < %(end)s AND kind = '0'"
_MADE_WITH = "SELECT results, changes FROM rollup_marks WHERE level = 0 AND at = %(begin)s AND NOT stale"
# Health and slots reach beyond their bucket: so may what came late.
_OUTDATE_SINCE = "UPDATE rollup_marks SET stale = true WHERE level = 0 AND at >= %(begin)s"

_KEEP = "SELECT keep_rollup_partitions(2, %(fine_days)s, %(days)s)"
_FORGET_MARKS = "DELETE FROM rollup_marks WHERE at < %(before)s AND NOT stale"
_FORGET_SPANS = """
DELETE FROM maintenance_spans WHERE (monitor_no, window_id, begins_at) IN (
  SELECT monitor_no, window_id, begins_at FROM maintenance_spans
   WHERE phase = 2 AND ends_at < %(before)s ORDER BY ends_at LIMIT 10000)
"""
# What a later change, or the end of the monitor, has replaced for longer than rollups are kept.
_FORGET_CHANGES = """
DELETE FROM {table} c USING (
  SELECT x.monitor_no, x.at, x.no FROM {table} x WHERE x.at < %(before)s AND (EXISTS (
    SELECT 1 FROM {table} y WHERE y.monitor_no = x.monitor_no AND (y.at, y.no) > (x.at, x.no) AND y.at < %(before)s)
      OR EXISTS (SELECT 1 FROM monitors m WHERE m.monitor_no = x.monitor_no AND m.deleted_at < %(before)s))
   ORDER BY x.at LIMIT 10000) old
 WHERE c.monitor_no = old.monitor_no AND c.at = old.at AND c.no = old.no
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """What was made: which level, from when on, and whether again."""

    level: Level
    at_ms: int
    again: bool = False
    results: int = 0
    eventful: int = 0


def step(connection: Connection) -> Piece | None:
    """Make the next piece; None when there is none yet, or another process is at it."""
    if not connection.exec_driver_sql(_LOCK).scalar_one():
        return None
    stale = connection.exec_driver_sql(_STALE).first()
    if stale is not None:
        return _make(connection, Level(stale[0]), to_ms(stale[1]), again=True)
    rolled, now_ms = _read(connection)
    following = _next(rolled, now_ms)
    if following is None:
        return None
    level, at_ms = following
    made = _make(connection, level, at_ms, again=False)
    connection.exec_driver_sql(_ADVANCE[level], {"to": from_ms(at_ms + level.ms)})
    if level is Level.FINE:
        for count in LOOKS_BACK:
            _look_back(connection, at_ms - count * level.ms)
    return made


def fill(connection: Connection) -> Piece | None:
    """Make the next piece of the past, or its day's partitions; None when there is none, or another is at it.

    Also while its results are not indexed, which `rollups_fill.index` sees to beside us: without, each piece would read
    a whole day.
    """
    if not connection.exec_driver_sql(_LOCK).scalar_one():
        return None
    following = rollups_fill.following(connection)
    if following is None:
        return None
    level, at_ms = following
    day = rollups_fill.opened(connection, at_ms)
    if day is Day.BARE:
        return None
    if day is not Day.READY:
        # A transaction of its own: what makes a partition keeps readers waiting until it ends.
        return Piece(level, at_ms, again=True)
    made = _make(connection, level, at_ms, again=False)
    rollups_fill.done(connection, level, at_ms)
    return replace(made, again=True)


def progress(connection: Connection) -> tuple[Rolled, int]:
    """How far everything goes, and the database's time."""
    return _read(connection)


def keep(connection: Connection, *, fine_days: int, days: int) -> int:
    """Make the next days' partitions, drop those past retention, forget old marks and changes; how many partitions."""
    _, now_ms = _read(connection)
    changed = int(connection.exec_driver_sql(_KEEP, {"fine_days": fine_days, "days": days}).scalar_one())
    now = from_ms(now_ms)
    connection.exec_driver_sql(_FORGET_MARKS, {"before": now - timedelta(days=3)})
    connection.exec_driver_sql(_FORGET_SPANS, {"before": now - timedelta(days=days)})
    for table in ("health_changes", "watch_changes"):
        connection.exec_driver_sql(_FORGET_CHANGES.format(table=table), {"before": now - timedelta(days=days)})
    return changed


def _read(connection: Connection) -> tuple[Rolled, int]:
    row = connection.exec_driver_sql(_PROGRESS).one()
    return Rolled(*(to_ms(moment) for moment in row[:6])), to_ms(row[6])


def _next(rolled: Rolled, now_ms: int) -> tuple[Level, int] | None:
    """Coarse ones first: after an outage an hour is made as soon as its buckets are."""
    for level in (Level.DAY, Level.HOUR):
        if rolled.to_ms(level) + level.ms <= rolled.to_ms(Level(level - 1)):
            return level, rolled.to_ms(level)
    if rolled.fine_to_ms + Level.FINE.ms + GRACE_MS <= now_ms:
        return Level.FINE, rolled.fine_to_ms
    return None


def _make(connection: Connection, level: Level, at_ms: int, *, again: bool) -> Piece:
    at = from_ms(at_ms)
    if level is not Level.FINE:
        rollups_merge.make(connection, level, at_ms)
        connection.exec_driver_sql(_MARK, {"level": int(level), "at": at, "results": 0, "changes": 0})
        return Piece(level, at_ms, again)
    # Counted before they are used: what comes in between is found when it is counted again.
    changes = _changes(connection, at_ms)
    plain = rollups_plain.roll(connection, at)
    rollups_exact.roll(connection, plain.eventful, at_ms)
    connection.exec_driver_sql(_MARK, {"level": int(level), "at": at, "results": plain.results, "changes": changes})
    if again:
        connection.exec_driver_sql(_OUTDATE_ABOVE, {"at": at})
    return Piece(level, at_ms, again, plain.results, len(plain.eventful))


def _look_back(connection: Connection, at_ms: int) -> None:
    keys = {"begin": from_ms(at_ms), "end": from_ms(at_ms + Level.FINE.ms)}
    made = connection.exec_driver_sql(_MADE_WITH, keys).first()
    if made is None:
        return
    results = connection.exec_driver_sql(_RESULTS, keys).scalar_one()
    if (results, _changes(connection, at_ms)) != tuple(made):
        connection.exec_driver_sql(_OUTDATE_SINCE, keys)


def _changes(connection: Connection, at_ms: int) -> int:
    keys = {"begin": from_ms(at_ms), "end": from_ms(at_ms + Level.FINE.ms)}
    return int(connection.exec_driver_sql(_CHANGES, keys).scalar_one())
