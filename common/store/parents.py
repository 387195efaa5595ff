"""Parents that have recovered, and what timelines say of beginnings that were held back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from common.domain.incident import EventType
from common.domain.matching import Match
from common.store import held_back, holds, incidents
from common.store.arrays import words
from common.store.engine import Connection
from common.store.incidents import Alteration

# A parent's incident that is over, or whose monitor is not down any more, and that still holds something back.
_NEXT = """
SELECT p.incident_id::text, p.org_id::text FROM parent_holds p
 WHERE NOT EXISTS (SELECT 1 FROM incidents i JOIN monitors m ON m.org_id = i.org_id AND m.id = i.monitor_id
                     JOIN monitor_states s ON s.monitor_no = m.monitor_no
                    WHERE i.id = p.incident_id AND i.status <> 'resolved' AND s.open_incident = i.id AND s.health = 3)
   AND p.incident_id <> ALL(%(but)s::uuid[])
 LIMIT 1
"""
_FORGET = "DELETE FROM parent_holds WHERE incident_id = %(incident)s"

# Incidents whose timelines are to say that they were held back, unless they say so already. One that somebody is
# changing is left to the next look.
_NOTES = """
SELECT h.incident_id::text, i.status, i.correlation_id, h.reason, h.held_by::text, h.at,
       EXISTS (SELECT 1 FROM incident_events e WHERE e.incident_id = i.id AND e.type = %(held_back)s),
       w.name, m.id::text, m.name
  FROM held_notes h JOIN incidents i ON i.org_id = h.org_id AND i.id = h.incident_id
  LEFT JOIN maintenance_windows w ON h.reason = %(maintenance)s AND w.org_id = h.org_id AND w.id = h.held_by
  LEFT JOIN incidents p ON h.reason = %(parent_down)s AND p.org_id = h.org_id AND p.id = h.held_by
  LEFT JOIN monitors m ON m.org_id = p.org_id AND m.id = p.monitor_id
 ORDER BY h.incident_id LIMIT %(limit)s
   FOR UPDATE OF h SKIP LOCKED FOR NO KEY UPDATE OF i SKIP LOCKED
"""
_NOTED = "DELETE FROM held_notes WHERE incident_id = ANY(%(incidents)s::uuid[])"


def next_over(connection: Connection, *, but: Sequence[str]) -> tuple[str, str] | None:
    """(parent's incident, organization) that no longer holds back what it did."""
    row = connection.exec_driver_sql(_NEXT, {"but": words(but)}).first()
    return None if row is None else (row[0], row[1])


def release(connection: Connection, incident_id: str, org_id: str, now: datetime) -> None:
    """What this parent's incident holds back is decided on now."""
    held_back.hold(connection, org_id)
    holds.look_again(connection, [incident_id], now)
    connection.exec_driver_sql(_FORGET, {"incident": incident_id})


def write_notes(connection: Connection, *, limit: int) -> int:
    """Let timelines say what was held back; how many were looked at."""
    rows = connection.exec_driver_sql(
        _NOTES,
        {
            "limit": limit,
            "held_back": EventType.HELD_BACK.value,
            "maintenance": Match.MAINTENANCE.value,
            "parent_down": Match.PARENT_DOWN.value,
        },
    ).all()
    if not rows:
        return 0
    notes = [
        Alteration(id_, EventType.HELD_BACK, at, correlation, data=holds.said(reason, by, *names))
        for id_, status, correlation, reason, by, at, said, *names in rows
        if not said and status != "resolved"
    ]
    incidents.alter_all(connection, notes)
    connection.exec_driver_sql(_NOTED, {"incidents": words(row[0] for row in rows)})
    return len(rows)
