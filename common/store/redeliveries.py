"""Send dead notifications again: dead → pending, as somebody who mended the receiver asks for it.

An incident's events stay in order at a channel, and whoever is told of its beginning is told of its end:
- Nothing is sent again once a newer event of the incident was delivered there, or is under way.
- An end is not sent where nobody has heard of the beginning.
- A beginning brings back the ends after it that were given up with it, or were never meant for the channel.

Locks: channels, then the organization, then notifications. So neither a settlement nor the relay decides meanwhile who
has heard of what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from common.domain.matching import ANNOUNCING, FOLLOWING
from common.store import following
from common.store.engine import Connection
from common.store.notifications import PENDING_IN_ORDER

#: How many are sent again by one call.
MOST = 1_000

_FOLLOWING = sorted(event.value for event in FOLLOWING)
_ANNOUNCING = sorted(event.value for event in ANNOUNCING)


class Obstacle(StrEnum):
    """Why a notification is not sent again."""

    NOT_DEAD = "not_dead"
    CHANNEL_DELETED = "channel_deleted"
    CHANNEL_DISABLED = "channel_disabled"
    OVERTAKEN = "overtaken"  # a newer event of the incident was delivered there
    UNDER_WAY = "under_way"  # one is being delivered at this moment
    NOT_ANNOUNCED = "not_announced"  # the channel has not heard of the beginning


_SAME = "o.org_id = n.org_id AND o.incident_id = n.incident_id AND o.channel_id = n.channel_id"

# What stands against sending notification `n` of channel `c` again; NULL for nothing.
_OBSTACLE = f"""
CASE WHEN n.status <> 'dead' THEN 'not_dead'
     WHEN c.deleted_at IS NOT NULL THEN 'channel_deleted'
     WHEN NOT c.enabled THEN 'channel_disabled'
     WHEN EXISTS (SELECT 1 FROM notifications o WHERE {_SAME} AND o.no > n.no AND o.status = 'sent') THEN 'overtaken'
     WHEN EXISTS (SELECT 1 FROM notifications o
                   WHERE (o.incident_id, o.channel_id) = (n.incident_id, n.channel_id) AND o.no > n.no
                     AND {PENDING_IN_ORDER} AND o.lease_token IS NOT NULL)
     THEN 'under_way'
     WHEN n.event_type = ANY(%(following)s) AND NOT EXISTS (
            SELECT 1 FROM notifications o
             WHERE {_SAME} AND o.no < n.no AND o.event_type = ANY(%(announcing)s)
               AND (o.status IN ('pending', 'sent') OR o.unknown_outcome))
     THEN 'not_announced'
END
"""
_OF_CHANNEL = "JOIN channels c ON c.org_id = n.org_id AND c.id = n.channel_id"

# The oldest dead ones that can be sent again.
_WANTED = f"""
  FROM notifications n {_OF_CHANNEL}
 WHERE n.org_id = %(org_id)s AND n.status = 'dead'
   AND (%(channel_id)s::uuid IS NULL OR n.channel_id = %(channel_id)s::uuid)
   AND (%(incident_id)s::uuid IS NULL OR n.incident_id = %(incident_id)s::uuid)
   AND (%(reason)s::text IS NULL OR n.reason = %(reason)s::text)
   AND (%(since)s::timestamptz IS NULL OR n.created_at >= %(since)s::timestamptz)
   AND {_OBSTACLE} IS NULL
"""
_FIND = f"SELECT n.id::text {_WANTED} ORDER BY n.created_at, n.id LIMIT %(limit)s"
_COUNT = f"SELECT count(*) {_WANTED}"

_LOCK_CHANNELS = """
SELECT 1 FROM channels
 WHERE org_id = %(org_id)s
   AND id IN (SELECT channel_id FROM notifications WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[]))
 ORDER BY id FOR NO KEY UPDATE
"""
# The relay holds this row while it finds out who has heard of what.
_LOCK_ORGANIZATION = "SELECT 1 FROM organizations WHERE id = %(org_id)s FOR NO KEY UPDATE"

# What waits behind these at the same channel waits a moment longer: a claim that began before our commit does not know
# yet that an older one waits again, but it looks once more at when a row is due.
_PUT_OFF = f"""
UPDATE notifications o SET next_attempt_at = greatest(o.next_attempt_at, now() + interval '1 second')
  FROM notifications n
 WHERE n.org_id = %(org_id)s AND n.id = ANY(%(ids)s::uuid[]) AND {_SAME}
   AND o.no > n.no AND o.status = 'pending' AND o.lease_token IS NULL
"""

_OBSTACLES = f"""
SELECT n.id::text, {_OBSTACLE} FROM notifications n {_OF_CHANNEL}
 WHERE n.org_id = %(org_id)s AND n.id = ANY(%(ids)s::uuid[])
"""

_REVIVE = f"""
UPDATE notifications SET {following.ANEW}, next_attempt_at = now()
 WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[]) AND status = 'dead'
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead notifications; None does not filter. `since` is when they were written."""

    channel_id: str | None = None
    incident_id: str | None = None
    reason: str | None = None
    since: datetime | None = None


def find(connection: Connection, *, org_id: str, wanted: Wanted, limit: int = MOST) -> list[str]:
    """The oldest ones that can be sent again."""
    rows = connection.exec_driver_sql(_FIND, {**_filters(org_id, wanted), "limit": limit})
    return [row[0] for row in rows]


def count(connection: Connection, *, org_id: str, wanted: Wanted) -> int:
    """How many can be sent again."""
    found: int = connection.exec_driver_sql(_COUNT, _filters(org_id, wanted)).scalar_one()
    return found


def redeliver(connection: Connection, *, org_id: str, ids: Sequence[str]) -> dict[str, Obstacle | None]:
    """Have these sent again: {id: what stands against it, None when it is pending}. What does not exist is absent."""
    keys = _keys(org_id, ids)
    connection.exec_driver_sql(_LOCK_CHANNELS, keys)
    connection.exec_driver_sql(_LOCK_ORGANIZATION, keys)
    connection.exec_driver_sql(_PUT_OFF, keys)
    # A statement of its own after the locks: it sees what whoever held them before us has committed.
    rows = connection.exec_driver_sql(_OBSTACLES, keys)
    found = {row[0]: None if row[1] is None else Obstacle(row[1]) for row in rows}
    free = _keys(org_id, [id_ for id_, obstacle in found.items() if obstacle is None])
    connection.exec_driver_sql(_REVIVE, free)
    following.bring_back(connection, org_id=org_id, ids=free["ids"])
    return found


def _keys(org_id: str, ids: Sequence[str]) -> dict[str, Any]:
    return {"org_id": org_id, "ids": list(ids), "announcing": _ANNOUNCING, "following": _FOLLOWING}


def _filters(org_id: str, wanted: Wanted) -> dict[str, Any]:
    return {
        **_keys(org_id, []),
        "channel_id": wanted.channel_id,
        "incident_id": wanted.incident_id,
        "reason": wanted.reason,
        "since": wanted.since,
    }
