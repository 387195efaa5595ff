"""The end of cooldowns, and of whatever else holds back for a time: find what they held back, see what became of it.

A row is looked at when its `held_until` comes, and never again once that is NULL. Whoever looks holds the
organization's row, as relays do, and then the incidents'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from common.domain.matching import ANNOUNCING, HOLDING
from common.store import held_back
from common.store.arrays import words
from common.store.engine import Connection
from common.store.held_back import HeldBack

# The organization for which one ended longest ago.
_NEXT = """
SELECT org_id::text FROM notifications
 WHERE held_until <= %(now)s AND org_id <> ALL(%(orgs)s::uuid[]) AND incident_id <> ALL(%(incidents)s::uuid[])
 ORDER BY held_until LIMIT 1
"""

# Incidents for which some ended, those that ended longest ago first. All channels of an incident are looked at
# together: the first one that is told begins the route's next cooldown.
_INCIDENTS = """
SELECT DISTINCT incident_id::text FROM (
  SELECT incident_id FROM notifications
   WHERE held_until <= %(now)s AND org_id = %(org)s AND incident_id <> ALL(%(incidents)s::uuid[])
   ORDER BY held_until LIMIT %(limit)s) oldest
"""

# What is held back of these incidents, and whether something newer has been told or is held back there.
_HELD_BACK = f"""
SELECT n.id::text, n.incident_id::text, n.channel_id::text, n.route_id::text, n.group_key, n.event_type,
       {held_back.OVERTAKEN}
  FROM notifications n
 WHERE n.org_id = %(org)s AND n.incident_id = ANY(%(incidents)s::uuid[]) AND n.held_until <= %(now)s
   AND n.status = 'suppressed'
 ORDER BY n.incident_id, n.no
"""

_RESOLVED = """
SELECT id::text FROM incidents WHERE org_id = %(org)s AND id = ANY(%(incidents)s::uuid[]) AND status = 'resolved'
"""

# A route's cooldown is shorter now: perhaps it is over.
_LOOK_AGAIN = """
UPDATE notifications SET held_until = least(held_until, statement_timestamp())
 WHERE org_id = %(org)s AND route_id = %(route)s AND held_until IS NOT NULL
"""

# It stays suppressed: its incident is over, or a newer announcement stands for it.
_LEAVE = "UPDATE notifications SET held_until = NULL WHERE id = ANY(%(ids)s::uuid[])"


@dataclass(frozen=True, slots=True)
class Found:
    """`rows` may be announced, `obsolete` notifications need not be. `incidents` are all that were looked at.

    What is in neither belongs to an incident that somebody else is changing.
    """

    incidents: list[str]
    rows: list[HeldBack]
    obsolete: list[str]


def next_organization(
    connection: Connection, now: datetime, *, but_orgs: Sequence[str], but_incidents: Sequence[str]
) -> str | None:
    """An organization that has something to look at now."""
    parameters = {"now": now, "orgs": words(but_orgs), "incidents": words(but_incidents)}
    found: str | None = connection.exec_driver_sql(_NEXT, parameters).scalar()
    return found


def incidents(
    connection: Connection, org_id: str, now: datetime, *, but_incidents: Sequence[str], limit: int
) -> list[str]:
    """Incidents of an organization, which is held, that are to be looked at."""
    parameters = {"now": now, "org": org_id, "incidents": words(but_incidents), "limit": limit}
    return [row[0] for row in connection.exec_driver_sql(_INCIDENTS, parameters)]


def find(connection: Connection, org_id: str, incident_ids: Sequence[str], now: datetime) -> Found:
    """What is held back of these; those that are open are locked."""
    locked = held_back.lock_incidents(connection, org_id, incident_ids)
    parameters = {
        "org": org_id,
        "incidents": words(incident_ids),
        "now": now,
        "holding": words(HOLDING),
        "announcing": words(ANNOUNCING),
    }
    over = {row[0] for row in connection.exec_driver_sql(_RESOLVED, parameters)}
    found = Found(list(incident_ids), [], [])
    for id_, incident_id, channel_id, route_id, group_key, type_, overtaken in connection.exec_driver_sql(
        _HELD_BACK, parameters
    ):
        if incident_id in over or (incident_id in locked and overtaken):
            found.obsolete.append(id_)
        elif incident_id in locked:
            incident = locked[incident_id]
            found.rows.append(HeldBack(id_, channel_id, route_id, group_key, incident, incident_id, type_))
    return found


def look_again(connection: Connection, *, org_id: str, route_id: str) -> None:
    """What this route holds back is looked at soon: for whoever shortens its cooldown, in the same transaction."""
    connection.exec_driver_sql(_LOOK_AGAIN, {"org": org_id, "route": route_id})


def leave(connection: Connection, ids: Sequence[str]) -> None:
    """Never look at these again."""
    if ids:
        connection.exec_driver_sql(_LEAVE, {"ids": words(ids)})
