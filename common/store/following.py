"""How an incident went on, at channels that hear of its beginning late, or never.

Late: it is told after the beginning, in order; the caller holds the organization, so the relay does not decide
meanwhile who has heard of what. Never: neither is it told; the caller has just ended the beginning, and a relay that
decides about the incident waits for that (outbox, _PIN_ANNOUNCEMENTS).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uuid_utils import uuid7

from common.domain.matching import ANNOUNCING, FOLLOWING, Match
from common.store.engine import Connection
from common.store.notifications import Claimed

#: A notification that is sent again: as if it had never been tried, but with its number of attempts; its id is the
#: message's again.
ANEW = """
status = 'pending', reason = NULL, first_attempt_at = NULL, message_id = NULL, lease_token = NULL, leased_until = NULL
"""

# What was given up with the announcements, or never meant for the channel, leaves with them at the earliest.
_REVIVE = f"""
UPDATE notifications o SET {ANEW}, next_attempt_at = n.next_attempt_at FROM notifications n
 WHERE n.org_id = %(org_id)s AND n.id = ANY(%(ids)s::uuid[]) AND n.event_type = ANY(%(announcing)s)
   AND o.org_id = n.org_id AND o.incident_id = n.incident_id AND o.channel_id = n.channel_id
   AND o.no > n.no AND o.status IN ('suppressed', 'dead') AND o.event_type = ANY(%(following)s)
"""

# How the incidents went on that these began, where nobody wrote it down for the channel: it had not heard of them then.
# What is still in the outbox is the relay's.
_UNWRITTEN = """
SELECT e.id::text, e.incident_id::text, t.channel_id::text, t.route_id::text, e.type
  FROM (SELECT n.incident_id, n.channel_id, max(e.version) AS version,
               (array_agg(n.route_id ORDER BY n.no DESC) FILTER (WHERE n.route_id IS NOT NULL))[1] AS route_id
          FROM notifications n JOIN incident_events e ON e.org_id = n.org_id AND e.id = n.event_id
         WHERE n.org_id = %(org_id)s AND (n.incident_id, n.channel_id) IN (
                 SELECT incident_id, channel_id FROM notifications
                  WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[]) AND event_type = ANY(%(announcing)s))
         GROUP BY n.incident_id, n.channel_id) t
  JOIN incident_events e ON e.org_id = %(org_id)s AND e.incident_id = t.incident_id AND e.version > t.version
 WHERE e.type = ANY(%(following)s) AND NOT EXISTS (SELECT 1 FROM outbox x WHERE x.event_id = e.id)
 ORDER BY e.incident_id, e.version
"""
_WRITE = """
INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, route_id, event_type, status,
                           next_attempt_at)
SELECT u.id, %(org_id)s, u.event_id, u.incident_id, u.channel_id, u.route_id, u.event_type, 'pending', now()
  FROM unnest(%(new_ids)s::uuid[], %(events)s::uuid[], %(incidents)s::uuid[], %(channels)s::uuid[], %(routes)s::uuid[],
              %(types)s::text[])
       WITH ORDINALITY AS u(id, event_id, incident_id, channel_id, route_id, event_type, n)
 ORDER BY u.n
    ON CONFLICT (event_id, channel_id) DO NOTHING
"""

# Nobody at this channel heard, or will hear, of the incident: then nobody is told how it went on either.
_GIVE_UP = """
UPDATE notifications n SET status = 'suppressed', reason = %(not_announced)s
  FROM unnest(%(orgs)s::uuid[], %(incidents)s::uuid[], %(channels)s::uuid[]) AS u(org_id, incident_id, channel_id)
 WHERE n.org_id = u.org_id AND n.incident_id = u.incident_id AND n.channel_id = u.channel_id
   AND n.status = 'pending' AND n.event_type = ANY(%(following)s)
   AND NOT EXISTS (SELECT 1 FROM notifications a
                    WHERE a.org_id = u.org_id AND a.incident_id = u.incident_id AND a.channel_id = u.channel_id
                      AND a.event_type = ANY(%(announcing)s) AND (a.status IN ('pending', 'sent') OR a.unknown_outcome))
RETURNING n.id::text
"""


def give_up(connection: Connection, ended: Sequence[Claimed]) -> set[str]:
    """These announcements are no longer pending: what followed them is not told where nobody heard; the ids."""
    if not ended:
        return set()
    rows = connection.exec_driver_sql(
        _GIVE_UP,
        {
            "orgs": [claim.org_id for claim in ended],
            "incidents": [claim.incident_id for claim in ended],
            "channels": [claim.channel_id for claim in ended],
            "not_announced": Match.NOT_ANNOUNCED.value,
            "following": [event.value for event in FOLLOWING],
            "announcing": [event.value for event in ANNOUNCING],
        },
    )
    return {row[0] for row in rows}


def bring_back(connection: Connection, *, org_id: str, ids: Sequence[str]) -> None:
    """The announcements among these are pending again: what followed them is told after them."""
    keys = {
        "org_id": org_id,
        "ids": list(ids),
        "announcing": sorted(event.value for event in ANNOUNCING),
        "following": sorted(event.value for event in FOLLOWING),
    }
    connection.exec_driver_sql(_REVIVE, keys)
    rows = connection.exec_driver_sql(_UNWRITTEN, keys).all()
    if rows:
        connection.exec_driver_sql(_WRITE, {"org_id": org_id, **_columns(rows)})


def _columns(rows: Sequence[Any]) -> dict[str, list[Any]]:
    names = ("events", "incidents", "channels", "routes", "types")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return {"new_ids": [str(uuid7()) for _ in rows], **columns}
