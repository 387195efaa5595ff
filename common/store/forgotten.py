"""Forgets incidents that were resolved long ago, with all that tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from common.store.arrays import words
from common.store.engine import Connection

#: Incidents of one transaction.
STEP = 200

# The next that ended long ago, held; somebody else's are left to them. By one index alone, from where the last step
# ended: what has to stay is not looked at again and again.
_HOLD = """
SELECT id::text, org_id::text, resolved_at FROM incidents
 WHERE resolved_at < now() - %(days)s * interval '1 day'
   AND (resolved_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid)
 ORDER BY resolved_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

# A redelivery by hand makes an old notification wait again: it waits for us, or we see what it did.
_HOLD_NOTIFICATIONS = """
SELECT n.id FROM unnest(%(orgs)s::uuid[], %(ids)s::uuid[]) AS u(org_id, id)
  JOIN notifications n ON n.org_id = u.org_id AND n.incident_id = u.id
 ORDER BY n.id FOR UPDATE OF n
"""

# Those that somebody still needs: a message that is to leave, an event that is to be relayed, an alert whose repeat
# has to be known, an open incident that came of it, what a parent holds back, a blind location, a monitor that has been
# down ever since.
_NEEDED = """
SELECT u.id::text FROM unnest(%(orgs)s::uuid[], %(ids)s::uuid[]) AS u(org_id, id)
 WHERE EXISTS (SELECT FROM notifications n WHERE n.incident_id = u.id AND n.org_id = u.org_id
                  AND n.status NOT IN ('sent', 'dead', 'suppressed'))
    OR EXISTS (SELECT FROM incident_events e WHERE e.incident_id = u.id AND e.org_id = u.org_id
                  AND (e.seq IS NULL OR EXISTS (SELECT FROM outbox o WHERE o.event_id = e.id)))
    OR EXISTS (SELECT FROM alerts a WHERE a.incident_id = u.id AND a.org_id = u.org_id)
    OR EXISTS (SELECT FROM incidents c WHERE c.reopened_from = u.id AND c.org_id = u.org_id
                  AND c.status <> 'resolved')
    OR EXISTS (SELECT FROM parent_holds p WHERE p.incident_id = u.id)
    OR EXISTS (SELECT FROM blind_incidents b WHERE b.incident_id = u.id)
    OR EXISTS (SELECT FROM incidents i JOIN monitors m ON m.org_id = i.org_id AND m.id = i.monitor_id
                 JOIN monitor_states s ON s.monitor_no = m.monitor_no
                WHERE i.id = u.id AND u.id IN (s.last_resolved, s.open_incident))
"""

_OF = "USING unnest(%(orgs)s::uuid[], %(ids)s::uuid[]) AS u(org_id, id)"

# In the order in which one refers to the other. Who came of a forgotten incident forgets it; whoever waits here waits
# for a younger incident, never for an older one: two who forget cannot wait for each other.
_DELETE = (
    (
        f"DELETE FROM delivery_attempts a {_OF} JOIN notifications n ON n.org_id = u.org_id AND n.incident_id = u.id"
        " WHERE a.org_id = n.org_id AND a.notification_id = n.id"
    ),
    *(
        f"DELETE FROM {table} t {_OF} WHERE t.org_id = u.org_id AND t.incident_id = u.id"
        for table in ("notifications", "incident_events", "reminders", "alert_ends", "held_notes")
    ),
    (
        "UPDATE incidents c SET reopened_from = NULL FROM unnest(%(orgs)s::uuid[], %(ids)s::uuid[]) AS u(org_id, id)"
        " WHERE c.org_id = u.org_id AND c.reopened_from = u.id"
    ),
    f"DELETE FROM incidents t {_OF} WHERE t.org_id = u.org_id AND t.id = u.id",
)
_BEGINNING = "-infinity", "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step ended."""

    resolved_at: datetime
    incident_id: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction did: incidents forgotten, and where to go on; None: the end is reached."""

    forgotten: int
    place: Place | None


def forget(connection: Connection, *, days: int, after: Place | None = None, limit: int = STEP) -> Step:
    """Delete incidents resolved more than `days` ago, with their events, notifications and attempts; for the worker."""
    after_at: datetime | str
    after_at, after_id = (after.resolved_at, after.incident_id) if after else _BEGINNING
    parameters = {"days": days, "after_at": after_at, "after_id": after_id, "limit": limit}
    held = connection.exec_driver_sql(_HOLD, parameters).all()
    if not held:
        return Step(0, None)
    orgs = {row[0]: row[1] for row in held}
    connection.exec_driver_sql(_HOLD_NOTIFICATIONS, _columns(orgs)).all()
    for row in connection.exec_driver_sql(_NEEDED, _columns(orgs)).all():
        del orgs[row[0]]
    if orgs:
        for statement in _DELETE:
            connection.exec_driver_sql(statement, _columns(orgs))
    last = held[-1]
    return Step(len(orgs), Place(last[2], last[0]) if len(held) == limit else None)


def _columns(orgs: dict[str, str]) -> dict[str, str]:
    return {"orgs": words(orgs.values()), "ids": words(orgs)}
