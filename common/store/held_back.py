"""Announcements that were held back and are still wrong: let go, handed on to a silence, or given up.

Whoever does this holds the organization's row, as relays do, and then the incidents'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.incident import Status
from common.domain.matching import ANNOUNCING, Hold, Match
from common.domain.routing import labels_of
from common.store import following
from common.store.arrays import moments, words
from common.store.engine import Connection

# Wait for whoever holds the organization, then hold it.
_HOLD = "SELECT routing_version FROM organizations WHERE id = %(org)s FOR NO KEY UPDATE"

# Incidents as they stand, unless they are resolved by now. One that somebody is changing is left to the next look:
# waiting for it would hold up the whole organization.
_LOCK_INCIDENTS = """
SELECT id::text, dedup_key, labels, severity, source, COALESCE(NULLIF(name, ''), title), status,
       CASE WHEN dedup_key = 'monitor:' || monitor_id THEN monitor_id::text END
  FROM incidents
 WHERE org_id = %(org)s AND id = ANY(%(incidents)s::uuid[]) AND status <> 'resolved'
 ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

#: That a channel heard a newer announcement of the incident than `n`, or a newer one is held back as a whole.
OVERTAKEN = """
EXISTS (SELECT 1 FROM notifications o
         WHERE o.org_id = n.org_id AND o.incident_id = n.incident_id AND o.channel_id = n.channel_id
           AND o.no > n.no AND o.event_type = ANY(%(announcing)s::text[])
           AND (o.status IN ('pending', 'sent') OR o.unknown_outcome
                OR (o.status = 'suppressed' AND o.reason = ANY(%(holding)s::text[]))))
"""

# To be told now, held back by a silence from here on, or not to be told because the channel is off.
_RELEASE = """
UPDATE notifications n
   SET status = 'pending', reason = NULL, silence_id = NULL, held_until = NULL, next_attempt_at = u.due_at
  FROM unnest(%(ids)s::uuid[], %(dues)s::timestamptz[]) AS u(id, due_at)
 WHERE n.id = u.id AND n.status = 'suppressed'
"""
_HAND_ON = """
UPDATE notifications n SET silence_id = u.silence_id, reason = u.reason, held_until = u.held_until
  FROM unnest(%(ids)s::uuid[], %(silences)s::uuid[], %(reasons)s::text[], %(untils)s::timestamptz[])
       AS u(id, silence_id, reason, held_until)
 WHERE n.id = u.id AND n.status = 'suppressed'
"""
_COOL_DOWN = """
UPDATE notifications n SET silence_id = NULL, reason = %(cooldown)s, held_until = u.held_until
  FROM unnest(%(ids)s::uuid[], %(untils)s::timestamptz[]) AS u(id, held_until)
 WHERE n.id = u.id AND n.status = 'suppressed'
"""

# Incidents that a route has told somebody of: its cooldown may have begun with them.
_TOLD_BY = """
SELECT DISTINCT incident_id::text, route_id::text FROM notifications
 WHERE org_id = %(org)s AND incident_id = ANY(%(incidents)s::uuid[]) AND event_type = ANY(%(announcing)s::text[])
   AND route_id IS NOT NULL AND (status IN ('pending', 'sent') OR unknown_outcome)
"""
_GIVE_UP = """
UPDATE notifications SET reason = %(disabled)s, held_until = NULL
 WHERE id = ANY(%(ids)s::uuid[]) AND status = 'suppressed'
"""


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that is not resolved, locked. `labels` are all that matchers see of it.

    `monitor_id` is the monitor whose own incident it is.
    """

    dedup_key: str
    labels: Mapping[str, str]
    acknowledged: bool
    monitor_id: str | None = None


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An announcement that was held back."""

    id: str
    channel_id: str
    route_id: str | None
    group_key: str | None
    incident: OpenIncident
    incident_id: str
    event_type: str


def hold(connection: Connection, org_id: str) -> int:
    """Hold an organization until the transaction ends; its routing_version."""
    version: int = connection.exec_driver_sql(_HOLD, {"org": org_id}).scalar_one()
    return version


def lock_incidents(connection: Connection, org_id: str, ids: Collection[str]) -> dict[str, OpenIncident]:
    """Those of them that are open and that nobody else is changing."""
    rows: Any = connection.exec_driver_sql(_LOCK_INCIDENTS, {"org": org_id, "incidents": words(ids)})
    return {
        id_: OpenIncident(
            dedup_key,
            labels_of(own, severity=severity, source=source, name=name),
            acknowledged=status == Status.ACKNOWLEDGED.value,
            monitor_id=monitor_id,
        )
        for id_, dedup_key, own, severity, source, name, status, monitor_id in rows
    }


def release(connection: Connection, org_id: str, rows: Sequence[HeldBack], due: Mapping[str, datetime]) -> None:
    """These leave, each when it is due; that their incident was acknowledged meanwhile is told after them.

    An acknowledgement that has expired is not: the incident is open again.
    """
    if not rows:
        return
    dues = [due[row.id] for row in rows]
    connection.exec_driver_sql(_RELEASE, {"ids": words(row.id for row in rows), "dues": moments(dues)})
    acknowledged = [row.id for row in rows if row.incident.acknowledged]
    if acknowledged:
        following.bring_back(connection, org_id=org_id, ids=acknowledged)


def hand_on(connection: Connection, held: Mapping[str, Hold]) -> None:
    """These notifications are held back by something else from here on, or by the same for longer."""
    if not held:
        return
    untils = [None if hold.until is None else hold.until.isoformat() for hold in held.values()]
    parameters = {
        "ids": words(held),
        "silences": words(hold.by for hold in held.values()),
        "reasons": words(hold.reason for hold in held.values()),
        "untils": words(untils),
    }
    connection.exec_driver_sql(_HAND_ON, parameters)


def cool_down(connection: Connection, until: Mapping[str, datetime]) -> None:
    """These notifications are held back by their routes' cooldowns, {notification: until when}."""
    if until:
        parameters = {"ids": words(until), "untils": moments(until.values()), "cooldown": Match.COOLDOWN.value}
        connection.exec_driver_sql(_COOL_DOWN, parameters)


def told_by(connection: Connection, org_id: str, incident_ids: Collection[str]) -> set[tuple[str, str]]:
    """(incident, route): the route has told somebody of the incident, or is about to."""
    if not incident_ids:
        return set()
    parameters = {"org": org_id, "incidents": words(incident_ids), "announcing": words(ANNOUNCING)}
    return {(row[0], row[1]) for row in connection.exec_driver_sql(_TOLD_BY, parameters)}


def give_up(connection: Connection, ids: Sequence[str]) -> None:
    """These notifications have nowhere to go."""
    if ids:
        connection.exec_driver_sql(_GIVE_UP, {"ids": words(ids), "disabled": Match.CHANNEL_DISABLED.value})
