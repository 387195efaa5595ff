"""Reminders: of an incident that is open and that nobody has acknowledged, through the routes that told of it.

A row says when the next one is due. What was sent through a route that repeats puts it off by the route's interval; so
does an acknowledgement, which may expire, when it comes due. A resolved incident loses it then. So only what is due is
ever looked at, however many incidents are open.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from common.domain.incident import EventType, Status
from common.domain.matching import ANNOUNCING
from common.store import incidents
from common.store.engine import Connection
from common.store.incidents import Alteration
from common.store.notifications import Claimed

#: Events after which somebody is waited for.
ASKING = [event.value for event in ANNOUNCING | {EventType.REMINDER}]

# Told through routes that repeat: from now on it takes a whole interval.
_PLAN = """
INSERT INTO reminders AS m (route_id, incident_id, org_id, due_at)
SELECT r.id, u.incident_id, r.org_id, %(now)s + r.repeat_interval_s * interval '1 second'
  FROM (SELECT DISTINCT * FROM unnest(%(routes)s::uuid[], %(incidents)s::uuid[]) AS u(route_id, incident_id)) u
  JOIN routes r ON r.id = u.route_id
 WHERE r.repeat_interval_s IS NOT NULL AND r.deleted_at IS NULL
 ORDER BY 1, 2
    ON CONFLICT (route_id, incident_id) DO UPDATE SET due_at = excluded.due_at
"""

# The same for all open incidents, after a route got another interval.
_REPLAN = """
INSERT INTO reminders AS m (route_id, incident_id, org_id, due_at)
SELECT r.id, n.incident_id, r.org_id, max(n.sent_at) + r.repeat_interval_s * interval '1 second'
  FROM routes r JOIN incidents i ON i.org_id = r.org_id AND i.status = 'open'
  JOIN notifications n ON n.org_id = i.org_id AND n.incident_id = i.id AND n.route_id = r.id
 WHERE r.org_id = %(org_id)s AND r.id = %(route_id)s AND r.repeat_interval_s IS NOT NULL AND r.deleted_at IS NULL
   AND n.status = 'sent' AND n.event_type = ANY(%(asking)s)
 GROUP BY r.id, n.incident_id, r.org_id
 ORDER BY 1, 2
    ON CONFLICT (route_id, incident_id) DO UPDATE SET due_at = excluded.due_at
"""

# What is due, with how things stand. Reminder and incident are ours until the transaction ends; what another notifier
# (or somebody who acknowledges) holds is left to the next look. A route without an interval of now reminds no more.
_DUE = """
SELECT m.route_id::text, m.incident_id::text, i.status, i.correlation_id, r.enabled,
       CASE WHEN r.deleted_at IS NULL THEN r.repeat_interval_s END,
       EXISTS (SELECT 1 FROM notifications n
                WHERE n.incident_id = m.incident_id AND n.route_id = m.route_id AND n.status = 'pending'
                  AND n.event_type = ANY(%(asking)s))
  FROM reminders m JOIN incidents i ON i.org_id = m.org_id AND i.id = m.incident_id
  JOIN routes r ON r.org_id = m.org_id AND r.id = m.route_id
 WHERE m.due_at <= %(now)s
 ORDER BY m.due_at LIMIT %(limit)s
   FOR UPDATE OF m SKIP LOCKED FOR NO KEY UPDATE OF i SKIP LOCKED
"""

_PUT_OFF = """
UPDATE reminders m SET due_at = %(now)s + u.wait_s * interval '1 second'
  FROM unnest(%(routes)s::uuid[], %(incidents)s::uuid[], %(waits)s::int[]) AS u(route_id, incident_id, wait_s)
 WHERE m.route_id = u.route_id AND m.incident_id = u.incident_id
"""
_FORGET = """
DELETE FROM reminders m USING unnest(%(routes)s::uuid[], %(incidents)s::uuid[]) AS u(route_id, incident_id)
 WHERE m.route_id = u.route_id AND m.incident_id = u.incident_id
"""


def plan(connection: Connection, sent: Sequence[Claimed], now: datetime) -> None:
    """Note when to remind of what these notifications told."""
    told = [claim for claim in sent if claim.route_id is not None and claim.event_type in ASKING]
    if told:
        connection.exec_driver_sql(
            _PLAN,
            {
                "now": now,
                "routes": [claim.route_id for claim in told],
                "incidents": [claim.incident_id for claim in told],
            },
        )


def replan(connection: Connection, *, org_id: str, route_id: str) -> None:
    """Apply a route's new interval to what it has told of: for whoever changes the route, in the same transaction."""
    connection.exec_driver_sql(_REPLAN, {"org_id": org_id, "route_id": route_id, "asking": ASKING})


def remind(connection: Connection, now: datetime, *, limit: int) -> tuple[int, bool]:
    """Remind of what is due, up to `limit`; how many incidents, and whether there was anything at all."""
    rows = connection.exec_driver_sql(_DUE, {"now": now, "limit": limit, "asking": ASKING}).all()
    over = [(row[0], row[1]) for row in rows if row[2] == Status.RESOLVED or row[5] is None]
    _forget(connection, over)
    alterations: dict[str, Alteration] = {}
    waits: list[tuple[str, str, int]] = []
    for route, incident, status, correlation, enabled, interval_s, on_its_way in rows:
        if (route, incident) in over:
            continue
        if status == Status.OPEN and enabled and not on_its_way:
            if incident in alterations:
                continue  # by another route as well: an event of its own, at the next look
            alterations[incident] = Alteration(incident, EventType.REMINDER, now, correlation, data={"route_id": route})
        waits.append((route, incident, interval_s))
    incidents.alter_all(connection, list(alterations.values()))
    _put_off(connection, waits, now)
    return len(alterations), bool(rows)


def _forget(connection: Connection, keys: Sequence[tuple[str, str]]) -> None:
    if keys:
        connection.exec_driver_sql(_FORGET, {"routes": [k[0] for k in keys], "incidents": [k[1] for k in keys]})


def _put_off(connection: Connection, waits: Sequence[tuple[str, str, int]], now: datetime) -> None:
    if waits:
        connection.exec_driver_sql(
            _PUT_OFF,
            {
                "now": now,
                "routes": [wait[0] for wait in waits],
                "incidents": [wait[1] for wait in waits],
                "waits": [wait[2] for wait in waits],
            },
        )
