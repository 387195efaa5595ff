"""Which monitors a maintenance window covers, and from when to when: spans, one per monitor and occurrence.

They are written shortly before an occurrence begins (or with the request that makes a window that begins at once), some
monitors at a time in the order of their numbers, and kept true while it lasts: a monitor that is made or gets another
label meanwhile is found by the transaction that changed it (decision 3). Who writes holds the organization's row and
the window's: what a span that is cut held back is looked at again, and no relay misses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.labels import Matcher, Op, matches_all
from common.domain.routing import labels_of
from common.store import holds
from common.store.arrays import integers
from common.store.engine import Connection

#: Monitors that are looked at in one transaction.
CHUNK = 5_000

# An occurrence that is on or about to begin, ours until the transaction ends.
_HOLD = """
SELECT id::text, org_id::text, monitor_ids::text[], matchers, begins_at, ends_at, greatest(begins_at, cover_from),
       covered_to, covered, seen_xid::text, seen_xid > pg_snapshot_xmax(pg_current_snapshot())
  FROM maintenance_windows
 WHERE id = %(id)s AND begins_at IS NOT NULL AND deleted_at IS NULL
   FOR NO KEY UPDATE
"""

# The organization's next monitors, and from which transaction on a later look has to go on.
_ALL = """
SELECT m.monitor_no, m.id::text, m.name, m.severity, m.labels, pg_snapshot_xmin(pg_current_snapshot())::text
  FROM monitors m WHERE m.org_id = %(org)s AND m.deleted_at IS NULL AND m.monitor_no > %(after)s
 ORDER BY m.monitor_no LIMIT %(limit)s
"""
# Those that were changed since; deleted ones, too. The ceiling keeps the ids of a restored dump out of the way.
_CHANGED = """
SELECT m.monitor_no, m.id::text, m.name, m.severity, m.labels, pg_snapshot_xmin(pg_current_snapshot())::text,
       m.deleted_at IS NOT NULL
  FROM monitors m WHERE m.org_id = %(org)s AND m.changed_xid >= %(xid)s::text::xid8
   AND m.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
 ORDER BY m.changed_xid LIMIT %(limit)s
"""

# Cover these; what is covered already ends with the occurrence as it is now. A span that was cut before it began covers
# nothing.
_COVER = """
INSERT INTO maintenance_spans AS s (monitor_no, window_id, org_id, begins_at, ends_at)
SELECT u.no, %(window)s, %(org)s, %(since)s, %(ends_at)s FROM unnest(%(numbers)s::int[]) AS u(no)
 WHERE NOT EXISTS (SELECT 1 FROM maintenance_spans x
                    WHERE x.monitor_no = u.no AND x.window_id = %(window)s AND x.phase < 2
                      AND x.ends_at > greatest(%(now)s, x.begins_at))
 ORDER BY u.no
    ON CONFLICT (monitor_no, window_id, begins_at) DO UPDATE SET ends_at = excluded.ends_at, phase = 0
"""
# Those of them that are covered already. What has not begun begins when the occurrence does.
_ADJUST = """
UPDATE maintenance_spans s SET ends_at = %(ends_at)s
 WHERE s.window_id = %(window)s AND s.phase < 2 AND s.ends_at > greatest(%(now)s, s.begins_at)
   AND s.ends_at <> %(ends_at)s AND s.monitor_no = ANY(%(numbers)s::int[])
"""
_CUT = """
UPDATE maintenance_spans s SET ends_at = greatest(s.begins_at, %(now)s)
 WHERE s.window_id = %(window)s AND s.phase < 2 AND s.ends_at > %(now)s
   AND (%(numbers)s::int[] IS NULL OR s.monitor_no = ANY(%(numbers)s::int[]))
"""
# Too many to be looked at one transaction later, or nobody knows which: all are.
_ALL_ANEW = """
UPDATE maintenance_windows
   SET covered = false, covered_to = 0, cover_from = %(now)s, seen_xid = pg_snapshot_xmin(pg_current_snapshot())
 WHERE id = %(id)s
"""
_NOTE = """
UPDATE maintenance_windows SET covered = %(covered)s, covered_to = %(to)s, seen_xid = %(xid)s::text::xid8
 WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class Window:
    """An occurrence whose window is locked; what is found now is covered from `since` on.

    `restored`: what it saw is another server's, of whose transactions nothing is known here.
    """

    id: str
    org_id: str
    monitor_ids: frozenset[str]
    matchers: tuple[Matcher, ...]
    begins_at: datetime
    ends_at: datetime
    since: datetime
    covered_to: int
    covered: bool
    seen_xid: str
    restored: bool

    def covers(self, row: Sequence[Any]) -> bool:
        """Whether it covers the monitor with these (number, id, name, severity, labels)."""
        if row[1] in self.monitor_ids:
            return True
        labels = labels_of(row[4], severity=row[3], source="monitor", name=row[2])
        return bool(self.matchers) and matches_all(self.matchers, labels)


def hold(connection: Connection, window_id: str) -> Window | None:
    """Lock a window; None when it has no occurrence."""
    row = connection.exec_driver_sql(_HOLD, {"id": window_id}).first()
    if row is None:
        return None
    id_, org_id, monitor_ids, kept, *rest = row
    return Window(id_, org_id, frozenset(monitor_ids), matchers_of(kept), *rest)


def cover(connection: Connection, window: Window, now: datetime, *, limit: int = CHUNK) -> bool:
    """Look at the next monitors; whether these were the last. The organization is held."""
    rows = connection.exec_driver_sql(_ALL, {"org": window.org_id, "after": window.covered_to, "limit": limit}).all()
    # Monitors are made and changed while this goes on: all since the first of these looks are looked at again.
    xid = window.seen_xid if window.covered_to else _xid(connection, rows)
    _settle(connection, window, rows, window.since, now)
    last = len(rows) < limit
    to = rows[-1][0] if rows else window.covered_to
    connection.exec_driver_sql(_NOTE, {"id": window.id, "covered": last, "to": to, "xid": xid})
    return last


def refresh(connection: Connection, window: Window, now: datetime, *, limit: int = CHUNK) -> int:
    """Look again at monitors that were changed; how many are covered, or no longer. The organization is held."""
    rows = connection.exec_driver_sql(_CHANGED, {"org": window.org_id, "xid": window.seen_xid, "limit": limit}).all()
    if len(rows) == limit:
        anew(connection, window, now)
        return 0
    changed = _settle(connection, window, rows, max(window.begins_at, now), now)
    xid = rows[0][5] if rows else window.seen_xid
    connection.exec_driver_sql(_NOTE, {"id": window.id, "covered": True, "to": window.covered_to, "xid": xid})
    return changed


def anew(connection: Connection, window: Window, now: datetime) -> Window | None:
    """Have all monitors looked at again, for what is from now on; the window as it is then."""
    connection.exec_driver_sql(_ALL_ANEW, {"id": window.id, "now": now})
    return hold(connection, window.id)


def cut(connection: Connection, window: Window, now: datetime) -> None:
    """Nothing is covered by it any more; what it held back is looked at again. The organization is held."""
    connection.exec_driver_sql(_CUT, {"window": window.id, "now": now, "numbers": None})
    holds.look_again(connection, [window.id], now)


def matchers_of(kept: Iterable[Mapping[str, str]]) -> tuple[Matcher, ...]:
    """Stored matchers."""
    return tuple(Matcher(one["label"], Op(one["op"]), one["value"]) for one in kept)


def _settle(connection: Connection, window: Window, rows: Sequence[Any], since: datetime, now: datetime) -> int:
    if not rows:
        return 0
    covered = [row[0] for row in rows if not _deleted(row) and window.covers(row)]
    others = sorted({row[0] for row in rows} - set(covered))
    keys = {"window": window.id, "org": window.org_id, "since": since, "ends_at": window.ends_at, "now": now}
    added = connection.exec_driver_sql(_COVER, {**keys, "numbers": integers(covered)}).rowcount if covered else 0
    moved = connection.exec_driver_sql(_ADJUST, {**keys, "numbers": integers(covered)}).rowcount if covered else 0
    gone = connection.exec_driver_sql(_CUT, {**keys, "numbers": integers(others)}).rowcount if others else 0
    if moved or gone:
        holds.look_again(connection, [window.id], now)
    return added + moved + gone


def _deleted(row: Sequence[Any]) -> bool:
    return len(row) > 6 and bool(row[6])


def _xid(connection: Connection, rows: Sequence[Any]) -> str:
    if rows:
        return str(rows[0][5])
    return str(connection.exec_driver_sql("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").scalar_one())
