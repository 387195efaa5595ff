"""What the time brings to maintenance windows: they begin, end, end early, come again; monitors' states show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from common.domain.health import Health
from common.domain.maintenance import occurrence, read
from common.store import held_back, maintenance, maintenance_cover
from common.store.arrays import integers, words
from common.store.engine import Connection

#: An occurrence's monitors are found so long before it begins.
AHEAD = timedelta(seconds=30)

#: Spans that one transaction shows in monitors' states.
_SHOWN_AT_ONCE = 2_000

# Windows by what is to be done about them, those that wait longest first.
_TO_COVER = """
SELECT id::text, org_id::text FROM maintenance_windows
 WHERE begins_at <= %(soon)s AND ends_at > %(now)s AND id <> ALL(%(but)s::uuid[])
   AND (NOT covered OR seen_xid > pg_snapshot_xmax(pg_current_snapshot()))
 ORDER BY begins_at, id LIMIT 1
"""
_TO_REFRESH = """
SELECT w.id::text, w.org_id::text FROM maintenance_windows w
 WHERE w.begins_at <= %(soon)s AND w.ends_at > %(now)s AND w.covered AND w.id > %(after)s::uuid
   AND EXISTS (SELECT 1 FROM monitors m WHERE m.org_id = w.org_id AND m.changed_xid >= w.seen_xid
                  AND m.changed_xid < pg_snapshot_xmax(pg_current_snapshot()))
 ORDER BY w.id LIMIT 1
"""
_OVER = """
SELECT id::text, org_id::text FROM maintenance_windows
 WHERE begins_at IS NOT NULL AND ends_at <= %(now)s AND id <> ALL(%(but)s::uuid[])
 ORDER BY begins_at, id LIMIT 1
"""
_SCHEDULE = "SELECT schedule, planned_end FROM maintenance_windows WHERE id = %(id)s"

# Windows that may end early, in the order of their ids.
_UNTIL_HEALTHY = """
SELECT id::text, org_id::text FROM maintenance_windows
 WHERE until_healthy AND covered AND begins_at <= %(now)s AND ends_at > %(now)s AND id > %(after)s::uuid
   AND id <> ALL(%(but)s::uuid[])
 ORDER BY id LIMIT %(limit)s
"""
# Something that one covers and that is checked is not up, or not for long enough, or was not seen so since it began.
# One look-up a step, whatever the planner believes (LIMIT, OFFSET 0), and no further than the first that is not well.
_UNWELL = f"""
SELECT 1 FROM (SELECT x.healthy_for_s FROM maintenance_windows x WHERE x.id = %(id)s LIMIT 1) w
 CROSS JOIN LATERAL (SELECT x.monitor_no, x.begins_at, x.ends_at FROM maintenance_spans x
                      WHERE x.window_id = %(id)s AND x.phase < 2 OFFSET 0) s
 CROSS JOIN LATERAL (SELECT x.enabled, x.deleted_at FROM monitors x WHERE x.monitor_no = s.monitor_no LIMIT 1) m
 CROSS JOIN LATERAL (SELECT x.health, x.since FROM monitor_states x WHERE x.monitor_no = s.monitor_no LIMIT 1) h
  LEFT JOIN LATERAL (SELECT true AS well FROM votes x WHERE x.monitor_no = s.monitor_no AND x.last_slot > s.begins_at
                        AND x.last_verdict = 1 LIMIT 1) v ON true
 WHERE s.ends_at > %(now)s AND m.enabled AND m.deleted_at IS NULL
   AND NOT (h.health = {Health.UP.value} AND h.since <= %(now)s - w.healthy_for_s * interval '1 second'
            AND coalesce(v.well, false))
 LIMIT 1
"""
# Something was not up in the meantime: what has not begun to go wrong is waited for, until the end.
_WAS_WRONG = """
SELECT 1 FROM (SELECT x.monitor_no, x.begins_at FROM maintenance_spans x
                WHERE x.window_id = %(id)s AND x.phase < 2 OFFSET 0) s CROSS JOIN LATERAL (
       (SELECT c.health FROM health_changes c
         WHERE c.monitor_no = s.monitor_no AND c.at >= s.begins_at AND c.health IN (2, 3) LIMIT 1)
       UNION ALL
       (SELECT c.health FROM health_changes c WHERE c.monitor_no = s.monitor_no AND c.at < s.begins_at
         ORDER BY c.at DESC, c.no DESC LIMIT 1)) c
 WHERE c.health IN (2, 3) LIMIT 1
"""

# Spans whose beginning or end no state shows yet.
_BEGUN = """
SELECT monitor_no, window_id::text, begins_at FROM maintenance_spans
 WHERE phase = 0 AND begins_at <= %(now)s ORDER BY begins_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""
_ENDED = """
SELECT monitor_no, window_id::text, begins_at FROM maintenance_spans
 WHERE phase = 1 AND ends_at <= %(now)s ORDER BY ends_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""
_PHASE = """
UPDATE maintenance_spans s SET phase = CASE WHEN s.ends_at <= %(now)s THEN 2 ELSE 1 END
  FROM unnest(%(numbers)s::int[], %(windows)s::uuid[], %(begins)s::timestamptz[]) AS u(no, window_id, begins_at)
 WHERE s.monitor_no = u.no AND s.window_id = u.window_id AND s.begins_at = u.begins_at
"""
# In the order in which the writer locks them.
_LOCK_STATES = """
SELECT 1 FROM monitor_states WHERE monitor_no = ANY(%(numbers)s::int[]) ORDER BY monitor_no FOR NO KEY UPDATE
"""
_SHOW = """
UPDATE monitor_states t SET maintenance = c.covered
  FROM (SELECT u.no, EXISTS (SELECT 1 FROM maintenance_spans s
                              WHERE s.monitor_no = u.no AND s.phase < 2 AND s.begins_at <= %(now)s
                                AND s.ends_at > %(now)s) AS covered
          FROM unnest(%(numbers)s::int[]) AS u(no)) c
 WHERE t.monitor_no = c.no AND t.maintenance <> c.covered
"""


@dataclass(frozen=True, slots=True)
class Due:
    """A window about which something is to be done."""

    window_id: str
    org_id: str


def to_cover(connection: Connection, now: datetime, *, but: Sequence[str] = ()) -> Due | None:
    """A window that is on, or about to be, whose monitors are not all found."""
    return _due(connection, _TO_COVER, {"now": now, "soon": now + AHEAD, "but": words(but)})


def to_refresh(connection: Connection, now: datetime, *, after: str) -> Due | None:
    """The next window behind `after` (an id) in whose organization monitors were changed."""
    return _due(connection, _TO_REFRESH, {"now": now, "soon": now + AHEAD, "after": after})


def over(connection: Connection, now: datetime, *, but: Sequence[str] = ()) -> Due | None:
    """A window whose occurrence has ended."""
    return _due(connection, _OVER, {"now": now, "but": words(but)})


def until_healthy(
    connection: Connection, now: datetime, *, after: str, limit: int, but: Sequence[str] = ()
) -> list[Due]:
    """The next windows behind `after` (an id) that end early once all is well."""
    keys = {"now": now, "after": after, "limit": limit, "but": words(but)}
    return [Due(row[0], row[1]) for row in connection.exec_driver_sql(_UNTIL_HEALTHY, keys)]


def is_healthy(connection: Connection, due: Due, now: datetime) -> bool:
    """Whether everything that this window covers is well, after something was not."""
    keys = {"id": due.window_id, "now": now}
    if connection.exec_driver_sql(_UNWELL, keys).first() is not None:
        return False
    return connection.exec_driver_sql(_WAS_WRONG, keys).first() is not None


def cover(connection: Connection, due: Due, now: datetime) -> None:
    """Find some more of its monitors."""
    held_back.hold(connection, due.org_id)
    window = maintenance_cover.hold(connection, due.window_id)
    if window is not None and window.restored:
        window = maintenance_cover.anew(connection, window, now)
    if window is not None and not window.covered and window.ends_at > now:
        maintenance_cover.cover(connection, window, now)


def refresh(connection: Connection, due: Due, now: datetime) -> int:
    """Look again at changed monitors; how many it covers now, or no longer."""
    held_back.hold(connection, due.org_id)
    window = maintenance_cover.hold(connection, due.window_id)
    if window is None or not window.covered or window.ends_at <= now:
        return 0
    return maintenance_cover.refresh(connection, window, now)


def end_early(connection: Connection, due: Due, now: datetime) -> bool:
    """End the occurrence now, unless somebody has changed it meanwhile; what it held back is looked at."""
    held_back.hold(connection, due.org_id)
    window = maintenance_cover.hold(connection, due.window_id)
    if window is None or window.begins_at > now or window.ends_at <= now:
        return False
    maintenance_cover.cut(connection, window, now)
    maintenance.end_now(connection, window.id, now)
    return True


def move_on(connection: Connection, due: Due, now: datetime) -> None:
    """Let the next occurrence come, if there is one."""
    held_back.hold(connection, due.org_id)
    window = maintenance_cover.hold(connection, due.window_id)
    if window is None or window.ends_at > now:
        return
    kept, planned_end = connection.exec_driver_sql(_SCHEDULE, {"id": due.window_id}).one()
    maintenance.move_on(connection, due.window_id, occurrence(read(kept), now, not_before=planned_end))


def show(connection: Connection, now: datetime) -> int:
    """Let monitors' states show what has begun and what is over; how many spans, fewer than a batch: all."""
    shown = 0
    for statement in (_BEGUN, _ENDED):
        rows = connection.exec_driver_sql(statement, {"now": now, "limit": _SHOWN_AT_ONCE}).all()
        if rows:
            _show(connection, rows, now)
            shown += len(rows)
    return shown


def _show(connection: Connection, rows: Sequence[Any], now: datetime) -> None:
    numbers = integers(sorted({row[0] for row in rows}))
    keys = {
        "numbers": integers(row[0] for row in rows),
        "windows": words(row[1] for row in rows),
        "begins": words(row[2].isoformat() for row in rows),
        "now": now,
    }
    connection.exec_driver_sql(_PHASE, keys)
    connection.exec_driver_sql(_LOCK_STATES, {"numbers": numbers})
    connection.exec_driver_sql(_SHOW, {"numbers": numbers, "now": now})


def _due(connection: Connection, statement: str, parameters: dict[str, Any]) -> Due | None:
    row = connection.exec_driver_sql(statement, parameters).first()
    return None if row is None else Due(row[0], row[1])
