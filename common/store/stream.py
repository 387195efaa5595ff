"""What an organization's stream is made of: numbered events in order, and monitors that changed since the last look.

The relay numbers an organization's events while it holds the organization's row, so whoever sees a number sees all
before it. Changed monitors are found by transaction id, as the scheduler finds them (decision 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.store.arrays import words
from common.store.engine import Connection
from common.store.incidents_read import EVENT, EVENT_ACTORS

#: How far back a stream can be resumed.
REPLAY_HOURS = 24

# How far the numbering of these organizations is; disabled and deleted ones are absent.
_HEADS = """
SELECT o.id::text, o.last_seq FROM organizations o
 WHERE o.id = ANY(%(orgs)s::uuid[]) AND o.disabled_at IS NULL AND o.deleted_at IS NULL
"""

# Whether the first event that is missing is young enough; no row when it is not there any more.
_RESUMABLE = f"""
SELECT 1 FROM incident_events e
 WHERE e.org_id = %(org_id)s AND e.seq = %(seq)s AND e.at > clock_timestamp() - interval '{REPLAY_HOURS} hours'
"""

# The next events, with the names of those who still belong to the organization.
_EVENTS = f"""
SELECT e.incident_id::text AS incident_id, {EVENT}
  FROM incident_events e {EVENT_ACTORS}
 WHERE e.org_id = %(org_id)s AND e.seq > %(after)s
 ORDER BY e.seq LIMIT %(limit)s
"""

_FLOOR = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"

# Monitors whose state or settings a transaction changed that was not visible to the snapshot of the floor, some of each
# organization: two ranges of indexes for each, whatever else is stored. The newest vote is that of state.status.
_CHANGED = """
SELECT o.id::text AS org_id, m.id::text AS id, m.enabled, m.deleted_at IS NOT NULL AS deleted, s.health, s.since,
       s.open_incident::text AS incident_id, v.last_slot, v.last_verdict, v.latency_ms,
       (SELECT w.reason FROM votes w WHERE w.monitor_no = m.monitor_no AND w.reason <> 0
         ORDER BY w.last_slot DESC LIMIT 1) AS reason,
       (s.changed_xid::text, m.changed_xid::text)::text AS mark
  FROM unnest(%(orgs)s::uuid[]) AS o(id)
 CROSS JOIN LATERAL (
   (SELECT x.monitor_no FROM monitor_states x
     WHERE x.org_id = o.id AND x.changed_xid >= %(floor)s::text::xid8
       AND x.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
     ORDER BY x.changed_xid LIMIT %(limit)s)
   UNION
   (SELECT x.monitor_no FROM monitors x
     WHERE x.org_id = o.id AND x.changed_xid >= %(floor)s::text::xid8
       AND x.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
     ORDER BY x.changed_xid LIMIT %(limit)s)
 ) c
  JOIN monitors m ON m.monitor_no = c.monitor_no AND m.org_id = o.id
  JOIN monitor_states s ON s.monitor_no = c.monitor_no
  LEFT JOIN LATERAL (
    SELECT x.last_slot, x.last_verdict, x.latency_ms FROM votes x
     WHERE x.monitor_no = c.monitor_no AND x.last_slot > 'epoch' ORDER BY x.last_slot DESC LIMIT 1
  ) v ON true
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A monitor that changed; the same `mark` is the same change. `row` is what its state is shown from."""

    id: str
    mark: str
    deleted: bool
    incident_id: str | None
    row: Mapping[str, Any]


def heads(connection: Connection, orgs: Sequence[str]) -> dict[str, int]:
    """{organization: number of its last event}; organizations that are gone are absent."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_HEADS, {"orgs": words(orgs)})}


def resumable(connection: Connection, *, org_id: str, after: int) -> bool:
    """Whether all events after this number are still there and young enough."""
    found = connection.exec_driver_sql(_RESUMABLE, {"org_id": org_id, "seq": after + 1})
    return found.first() is not None


def events(connection: Connection, *, org_id: str, after: int, limit: int) -> list[dict[str, Any]]:
    """The next events of an organization, in the order of their numbers (`seq`)."""
    rows = connection.exec_driver_sql(_EVENTS, {"org_id": org_id, "after": after, "limit": limit})
    return [dict(row) for row in rows.mappings()]


def floor(connection: Connection) -> str:
    """The transaction id from which on changes may be invisible to this snapshot; read it before what it bounds."""
    value: str = connection.exec_driver_sql(_FLOOR).scalar_one()
    return value


def changed(connection: Connection, orgs: Sequence[str], *, floor: str, limit: int) -> dict[str, list[Change]]:
    """Monitors of these organizations that changed since the floor; of one with more, more than `limit`."""
    rows = connection.exec_driver_sql(_CHANGED, {"orgs": words(orgs), "floor": floor, "limit": limit + 1})
    found: dict[str, list[Change]] = {}
    for row in rows.mappings():
        change = Change(row["id"], row["mark"], row["deleted"], row["incident_id"], dict(row))
        found.setdefault(row["org_id"], []).append(change)
    return found
