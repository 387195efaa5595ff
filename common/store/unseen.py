"""Monitors that nobody looks at any more: shown as unknown, until a result comes.

Of a vote without a fresh slot the newest verdict becomes `unknown`, which every reader shows; the vote itself stays as
it is, and the next result overwrites it. In pieces, in the order of monitors' numbers.
"""

from __future__ import annotations

from collections.abc import Collection

from common.store.arrays import integers
from common.store.engine import Connection

#: Monitors in one piece.
PIECE = 5_000

_END = """
SELECT max(monitor_no) FROM (
  SELECT monitor_no FROM monitors WHERE monitor_no > %(after)s ORDER BY monitor_no LIMIT %(piece)s) p
"""

# As _STALE in common.store.monitors, looking at the state of heartbeats alone: this is asked of every monitor there is.
# A writer that holds a vote right now makes it fresh, or comes by again.
_MARK = """
WITH stale AS (
  SELECT v.monitor_no, v.location FROM monitors m JOIN votes v ON v.monitor_no = m.monitor_no
   WHERE m.monitor_no > %(after)s AND m.monitor_no <= %(to)s AND m.enabled AND m.deleted_at IS NULL
     AND v.monitor_no > %(after)s AND v.monitor_no <= %(to)s AND v.last_verdict <> 0 AND v.last_slot > 'epoch'
     AND greatest(v.last_slot, m.check_from)
         < clock_timestamp() - make_interval(secs => 2 * m.interval_s + m.timeout_s + 5)
     AND (m.type <> 'heartbeat' OR (SELECT s.health FROM monitor_states s WHERE s.monitor_no = m.monitor_no) <> 0)
   ORDER BY v.monitor_no, v.location
     FOR UPDATE OF v SKIP LOCKED
)
UPDATE votes v SET last_verdict = 0 FROM stale s
 WHERE v.monitor_no = s.monitor_no AND v.location = s.location
RETURNING v.monitor_no
"""

# For those who listen for changes, since no check touches a state that stays as it is: monitors of which no location is
# left that sees, and such ones that are seen again. A verdict that is unknown by itself is none of this.
_LOSE = """
WITH lost AS (
  SELECT s.monitor_no FROM monitor_states s
   WHERE s.monitor_no = ANY(%(monitors)s::int[]) AND NOT s.unseen
     AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.monitor_no = s.monitor_no AND v.last_verdict > 0)
   ORDER BY s.monitor_no FOR UPDATE OF s SKIP LOCKED
)
UPDATE monitor_states s SET unseen = true FROM lost l WHERE s.monitor_no = l.monitor_no
"""
_FIND = """
WITH found AS (
  SELECT s.monitor_no FROM monitor_states s
   WHERE s.unseen AND s.monitor_no > %(after)s AND s.monitor_no <= %(to)s
     AND EXISTS (SELECT 1 FROM votes v WHERE v.monitor_no = s.monitor_no AND v.last_verdict > 0)
   ORDER BY s.monitor_no FOR UPDATE OF s SKIP LOCKED
)
UPDATE monitor_states s SET unseen = false FROM found f WHERE s.monitor_no = f.monitor_no
"""


def end_of(connection: Connection, after: int) -> int | None:
    """The last monitor of the piece after this one; None: there are no more."""
    last: int | None = connection.exec_driver_sql(_END, {"after": after, "piece": PIECE}).scalar_one()
    return last


def mark(connection: Connection, after: int, to: int) -> set[int]:
    """Show as unknown what is stale; whose votes these are."""
    return {row[0] for row in connection.exec_driver_sql(_MARK, {"after": after, "to": to})}


def tell(connection: Connection, marked: Collection[int], after: int, to: int) -> None:
    """Note which of the marked ones nobody sees, and of those noted before, in this piece, who is seen again."""
    if marked:
        connection.exec_driver_sql(_LOSE, {"monitors": integers(sorted(marked))})
    connection.exec_driver_sql(_FIND, {"after": after, "to": to})
