"""What the scheduler reads: every monitor's timing, exactly what changed since, and confirmations that come due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.clock import from_ms, to_ms
from common.store.engine import Connection

#: What the API tells the scheduler after a monitor changed (a hint; the scheduler also looks twice a second).
MONITORS_CHANNEL = "tocsin_monitors"

#: What a writer tells the scheduler about lanes: payload "<location>:<monitor_no>:<0|1>,…".
LANES_CHANNEL = "tocsin_lanes"

_TIMING = """
SELECT m.monitor_no, m.id::text, m.config_version, m.interval_s, m.check_from, m.location_ids,
       m.enabled AND m.deleted_at IS NULL AND m.type <> 'heartbeat',
       (SELECT array_agg(v.location) FROM votes v WHERE v.monitor_no = m.monitor_no AND v.slow)
  FROM monitors m
"""

# Every monitor that is to be checked, a chunk at a time in the order of its number.
_ACTIVE = f"""{_TIMING}
 WHERE m.monitor_no > %(after)s AND m.enabled AND m.deleted_at IS NULL AND m.type <> 'heartbeat'
 ORDER BY m.monitor_no LIMIT %(limit)s
"""

# Everything that a transaction changed which was not yet visible to the snapshot the floor comes from. No commit
# order can hide a change, and the ceiling keeps transaction ids of another server (a restored dump) out of the way.
_CHANGED = f"""{_TIMING}
 WHERE m.changed_xid >= %(floor)s::text::xid8 AND m.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
"""
_FLOOR = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"

_CONFIRMATIONS = """
SELECT v.monitor_no, v.location, m.config_version, v.confirm_at
  FROM votes v JOIN monitors m USING (monitor_no)
 WHERE v.confirm_at > %(after)s AND v.confirm_at <= %(until)s AND m.enabled AND m.deleted_at IS NULL
"""

_LOCATIONS = "SELECT id, name FROM locations"
_KEEP_PARTITIONS = "SELECT keep_result_partitions(2, %(retention_days)s)"

_NOTE_LANES = f"SELECT pg_notify('{LANES_CHANNEL}', %(payload)s)"
#: A payload may have 8,000 bytes; one note has at most about 20.
_NOTES_PER_NOTIFY = 300


@dataclass(frozen=True, slots=True)
class Timing:
    """When one monitor is checked. `slow` lists the locations where it starts in the slow lane."""

    monitor_no: int
    monitor_id: str
    config_version: int
    interval_s: int
    check_from_ms: int
    locations: tuple[int, ...]
    active: bool
    slow: frozenset[int]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A failed check that is to be repeated at `confirm_at_ms`."""

    monitor_no: int
    location: int
    config_version: int
    confirm_at_ms: int


def floor(connection: Connection) -> str:
    """The transaction id from which on changes may be invisible to this snapshot; read it before what it bounds."""
    value: str = connection.exec_driver_sql(_FLOOR).scalar_one()
    return value


def active(connection: Connection, *, chunk: int = 10_000) -> Iterator[list[Timing]]:
    """All monitors that are to be checked, in chunks."""
    after = 0
    while True:
        rows = connection.exec_driver_sql(_ACTIVE, {"after": after, "limit": chunk}).all()
        if not rows:
            return
        yield [_timing(row) for row in rows]
        after = rows[-1][0]


def changed(connection: Connection, floor_xid: str) -> list[Timing]:
    """Monitors that changed since the floor, paused and deleted ones too (not active)."""
    return [_timing(row) for row in connection.exec_driver_sql(_CHANGED, {"floor": floor_xid})]


def confirmations(connection: Connection, *, after_ms: int, until_ms: int) -> list[Confirmation]:
    """Confirmations due in (after, until]."""
    rows = connection.exec_driver_sql(_CONFIRMATIONS, {"after": from_ms(after_ms), "until": from_ms(until_ms)})
    return [Confirmation(row[0], row[1], row[2], to_ms(row[3])) for row in rows]


def locations(connection: Connection) -> dict[int, str]:
    """Every location's name by its number."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_LOCATIONS)}


def keep_partitions(connection: Connection, retention_days: int) -> int:
    """Make the next days' result partitions and drop those past retention; how many changed."""
    return int(connection.exec_driver_sql(_KEEP_PARTITIONS, {"retention_days": retention_days}).scalar_one())


def _timing(row: Any) -> Timing:
    return Timing(
        monitor_no=row[0],
        monitor_id=row[1],
        config_version=row[2],
        interval_s=row[3],
        check_from_ms=to_ms(row[4]),
        locations=tuple(row[5]),
        active=row[6],
        slow=frozenset(row[7] or ()),
    )


def note_lanes(connection: Connection, moved: Sequence[tuple[tuple[int, int], bool]]) -> None:
    """Tell the schedulers which (monitor_no, location) got slow or quick again; in this transaction."""
    for start in range(0, len(moved), _NOTES_PER_NOTIFY):
        parts = (f"{key[1]}:{key[0]}:{int(slow)}" for key, slow in moved[start : start + _NOTES_PER_NOTIFY])
        connection.exec_driver_sql(_NOTE_LANES, {"payload": ",".join(parts)})
