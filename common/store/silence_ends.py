"""The end of a silence: find what it held back and is still wrong, let it go, hand it on, or leave it.

Whoever does this holds the organization's row, as relays do: a relay that is writing what the silence holds back is
either seen here or sees that the silence is settled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.matching import ANNOUNCING, Match
from common.domain.routing import labels_of
from common.store.arrays import moments, words
from common.store.engine import Connection

# The silence that has been over for longest without having been settled.
_NEXT = """
SELECT id::text, org_id::text FROM silences
 WHERE settled_at IS NULL AND ends_at <= %(now)s AND id <> ALL(%(excluded)s::uuid[])
 ORDER BY ends_at, id LIMIT 1
"""

# Wait for whoever holds the organization, then hold it.
_HOLD = "SELECT routing_version FROM organizations WHERE id = %(org)s FOR NO KEY UPDATE"

# Still over, and nobody has settled it meanwhile? Whoever would change that needs the organization's row.
_STILL = "SELECT 1 FROM silences WHERE id = %(silence)s AND settled_at IS NULL AND ends_at <= %(now)s"

# Per incident and channel the newest announcement that it held back, unless the channel heard a newer one or another
# silence holds a newer one back. What was let go, handed on or given up is not found again.
_HELD_BACK = """
SELECT n.id::text, n.incident_id::text, n.channel_id::text, n.route_id::text, n.group_key
  FROM notifications n JOIN incidents i ON i.org_id = n.org_id AND i.id = n.incident_id
 WHERE n.silence_id = %(silence)s AND n.status = 'suppressed' AND n.reason = %(silenced)s
   AND n.event_type = ANY(%(announcing)s::text[]) AND i.status <> 'resolved'
   AND NOT EXISTS (SELECT 1 FROM notifications o
                    WHERE o.org_id = n.org_id AND o.incident_id = n.incident_id AND o.channel_id = n.channel_id
                      AND o.no > n.no AND o.event_type = ANY(%(announcing)s::text[])
                      AND (o.status IN ('pending', 'sent') OR o.unknown_outcome
                           OR (o.status = 'suppressed' AND o.reason = %(silenced)s)))
 ORDER BY n.incident_id, n.no LIMIT %(limit)s
"""

# Their incidents, as they stand, unless they are resolved by now. One that somebody is changing is left to the next
# look: waiting for it would hold up the whole organization.
_LOCK_INCIDENTS = """
SELECT id::text, dedup_key, labels, severity, source, COALESCE(NULLIF(name, ''), title) FROM incidents
 WHERE org_id = %(org)s AND id = ANY(%(incidents)s::uuid[]) AND status <> 'resolved'
 ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

# To be told now, handed on to another silence, or not to be told because the channel is off.
_RELEASE = """
UPDATE notifications n SET status = 'pending', reason = NULL, silence_id = NULL, next_attempt_at = u.due_at
  FROM unnest(%(ids)s::uuid[], %(dues)s::timestamptz[]) AS u(id, due_at)
 WHERE n.id = u.id AND n.status = 'suppressed'
"""
_HAND_ON = """
UPDATE notifications n SET silence_id = u.silence_id
  FROM unnest(%(ids)s::uuid[], %(silences)s::uuid[]) AS u(id, silence_id)
 WHERE n.id = u.id AND n.status = 'suppressed'
"""
_GIVE_UP = """
UPDATE notifications SET reason = %(disabled)s WHERE id = ANY(%(ids)s::uuid[]) AND status = 'suppressed'
"""

# Nothing is left to do; whoever keeps the organization's rules reads them again, without this silence.
_SETTLE = "UPDATE silences SET settled_at = %(now)s WHERE id = %(silence)s"
_MOVE_ROUTING = "UPDATE organizations SET routing_version = routing_version + 1 WHERE id = %(org)s"


@dataclass(frozen=True, slots=True)
class EndedSilence:
    """A silence that is over. `routing_version` is its organization's, whose row is held."""

    id: str
    org_id: str
    routing_version: int


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An announcement that a silence held back; its incident is open and locked."""

    id: str
    channel_id: str
    route_id: str | None
    group_key: str | None
    dedup_key: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to decide on now, and whether that is all: others may hold incidents, or there are too many."""

    rows: list[HeldBack]
    all: bool


def next_ended(connection: Connection, now: datetime, *, excluded: Sequence[str]) -> tuple[str, str] | None:
    """(silence, organization) that is to be settled next."""
    row = connection.exec_driver_sql(_NEXT, {"now": now, "excluded": words(excluded)}).first()
    return None if row is None else (row[0], row[1])


def hold(connection: Connection, silence_id: str, org_id: str, now: datetime) -> EndedSilence | None:
    """Hold the silence's organization until the transaction ends; None when there is nothing to settle any more."""
    version: int = connection.exec_driver_sql(_HOLD, {"org": org_id}).scalar_one()
    if connection.exec_driver_sql(_STILL, {"silence": silence_id, "now": now}).first() is None:
        return None
    return EndedSilence(silence_id, org_id, version)


def held_back(connection: Connection, silence: EndedSilence, *, limit: int) -> Found:
    """What the silence held back of incidents that are not resolved; these are locked."""
    rows = connection.exec_driver_sql(
        _HELD_BACK,
        {
            "silence": silence.id,
            "silenced": Match.SILENCED.value,
            "announcing": words(ANNOUNCING),
            "limit": limit,
        },
    ).all()
    if not rows:
        return Found([], all=True)
    incidents = _lock_incidents(connection, silence.org_id, {row[1] for row in rows})
    found = []
    for id_, incident_id, channel_id, route_id, group_key in rows:
        if incident_id in incidents:
            found.append(HeldBack(id_, channel_id, route_id, group_key, *incidents[incident_id]))
    return Found(found, all=len(found) == len(rows) < limit)


def release(connection: Connection, due: Mapping[str, datetime]) -> None:
    """These notifications leave, each when it is due."""
    if due:
        connection.exec_driver_sql(_RELEASE, {"ids": words(due), "dues": moments(due.values())})


def hand_on(connection: Connection, silences: Mapping[str, str]) -> None:
    """These notifications are held back by other silences from here on."""
    if silences:
        connection.exec_driver_sql(_HAND_ON, {"ids": words(silences), "silences": words(silences.values())})


def give_up(connection: Connection, ids: Sequence[str]) -> None:
    """These notifications have nowhere to go."""
    if ids:
        connection.exec_driver_sql(_GIVE_UP, {"ids": words(ids), "disabled": Match.CHANNEL_DISABLED.value})


def settle(connection: Connection, silence: EndedSilence, now: datetime) -> None:
    """The silence is over for good."""
    connection.exec_driver_sql(_SETTLE, {"silence": silence.id, "now": now})
    connection.exec_driver_sql(_MOVE_ROUTING, {"org": silence.org_id})


def _lock_incidents(connection: Connection, org_id: str, ids: set[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """{incident: (dedup_key, all that matchers see of it)}."""
    rows: Any = connection.exec_driver_sql(_LOCK_INCIDENTS, {"org": org_id, "incidents": words(ids)})
    return {
        id_: (dedup_key, labels_of(own, severity=severity, source=source, name=name))
        for id_, dedup_key, own, severity, source, name in rows
    }
