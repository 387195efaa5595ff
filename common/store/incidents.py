"""Incidents, their timeline and the outbox: written together or not at all.

Every change of an incident is one event: the incident's version goes up by one, the event carries that version, and
if people are to hear of it, an outbox row is in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg.types.json
from uuid_utils import uuid7

from common.clock import to_ms
from common.domain.health import State
from common.domain.incident import ANNOUNCED, TOLD_AS, EventType, Priority, Severity, Status, priority_of
from common.store import votes
from common.store.engine import Connection

#: What PostgreSQL tells the relay (a hint; it also looks by itself).
OUTBOX_CHANNEL = "tocsin_outbox"

_Json = psycopg.types.json.Jsonb

# An incident `i` as everybody sees it: the API, the timeline's snapshots, the webhooks.
DOCUMENT = """
json_build_object(
  'id', i.id, 'monitor_id', i.monitor_id, 'source', i.source, 'dedup_key', i.dedup_key, 'name', i.name,
  'title', i.title, 'description', i.description, 'severity', i.severity, 'priority', i.priority, 'status', i.status,
  'opened_at', i.opened_at, 'acknowledged_at', i.acknowledged_at, 'resolved_at', i.resolved_at,
  'cause', i.cause, 'labels', i.labels, 'reopened_from', i.reopened_from, 'version', i.version,
  'trace_id', CASE WHEN i.source = 'monitor' THEN NULLIF(i.correlation_id, '') END)
"""

# A monitor `m` as messages show it.
_MONITOR_DOCUMENT = """
CASE WHEN m.id IS NULL THEN NULL ELSE json_build_object(
  'id', m.id, 'key', m.key, 'name', m.name, 'type', m.type, 'target', m.target, 'severity', m.severity,
  'labels', m.labels) END
"""

_TOLD_AS = " ".join(f"WHEN '{event.value}' THEN '{told.value}'" for event, told in TOLD_AS.items())

# Open incidents. The partial unique index is the guard: a second open one for the same key does nothing and is absent
# from the answer.
_OPEN = """
INSERT INTO incidents (id, org_id, monitor_id, source, dedup_key, name, title, description, severity, priority, status,
                       cause, labels, reopened_from, correlation_id, opened_at)
SELECT u.id, u.org_id, u.monitor_id, u.source, u.dedup_key, COALESCE(u.name, m.name, ''), u.title, u.description,
       u.severity, u.priority, 'open', u.cause, COALESCE(u.labels, m.labels, '{}'), u.reopened_from, u.correlation_id,
       u.at
  FROM unnest(%(ids)s::uuid[], %(orgs)s::uuid[], %(monitors)s::uuid[], %(sources)s::text[], %(keys)s::text[],
              %(names)s::text[], %(titles)s::text[], %(descriptions)s::text[], %(severities)s::text[],
              %(priorities)s::text[], %(causes)s::jsonb[], %(labels)s::jsonb[], %(reopened)s::uuid[],
              %(correlations)s::text[], %(ats)s::timestamptz[])
       AS u(id, org_id, monitor_id, source, dedup_key, name, title, description, severity, priority, cause, labels,
            reopened_from, correlation_id, at)
  LEFT JOIN monitors m ON m.org_id = u.org_id AND m.id = u.monitor_id
 ORDER BY u.org_id, u.dedup_key
    ON CONFLICT (org_id, dedup_key) WHERE status <> 'resolved' DO NOTHING
RETURNING id::text
"""

# Change open incidents; one that is resolved already is absent from the answer. A NULL keeps what is there. They are
# locked in one order by everybody, whatever the plan of the update: two who change the same never wait for each other.
_CHANGE = """
WITH held AS MATERIALIZED (
  SELECT id FROM incidents WHERE id = ANY(%(ids)s::uuid[]) AND status <> 'resolved' ORDER BY id FOR NO KEY UPDATE
)
UPDATE incidents i
   SET version = i.version + 1,
       status = COALESCE(u.status, i.status),
       severity = COALESCE(u.severity, i.severity),
       priority = COALESCE(u.priority, i.priority),
       title = COALESCE(u.title, i.title),
       cause = COALESCE(u.cause, i.cause),
       acknowledged_at = CASE u.status WHEN 'acknowledged' THEN u.at WHEN 'open' THEN NULL ELSE i.acknowledged_at END,
       ack_expires_at = CASE WHEN u.status IS NULL THEN i.ack_expires_at ELSE u.ack_expires_at END,
       resolved_at = CASE WHEN u.status = 'resolved' THEN u.at ELSE i.resolved_at END
  FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(severities)s::text[], %(priorities)s::text[],
              %(titles)s::text[], %(causes)s::jsonb[], %(ats)s::timestamptz[], %(expiries)s::timestamptz[])
       AS u(id, status, severity, priority, title, cause, at, ack_expires_at)
  JOIN held USING (id)
 WHERE i.id = u.id
RETURNING i.id::text
"""

# Append to the timeline, with a snapshot for what will be announced.
_RECORD = f"""
INSERT INTO incident_events (id, org_id, incident_id, version, type, actor, data, snapshot, correlation_id, at)
SELECT u.id, i.org_id, i.id, i.version, u.type, u.actor, u.data,
       CASE WHEN u.announced THEN json_build_object('incident', {DOCUMENT}, 'monitor', {_MONITOR_DOCUMENT}) END,
       u.correlation_id, u.at
  FROM unnest(%(ids)s::uuid[], %(incidents)s::uuid[], %(types)s::text[], %(actors)s::text[], %(datas)s::jsonb[],
              %(announced)s::bool[], %(correlations)s::text[], %(ats)s::timestamptz[])
       WITH ORDINALITY AS u(id, incident_id, type, actor, data, announced, correlation_id, at, n)
  JOIN incidents i ON i.id = u.incident_id
  LEFT JOIN monitors m ON m.org_id = i.org_id AND m.id = i.monitor_id
 ORDER BY u.n
"""

# What people are to hear, in the same transaction as the event itself.
_ANNOUNCE = f"""
INSERT INTO outbox (org_id, incident_id, event_id, type)
SELECT e.org_id, e.incident_id, e.id, CASE e.type {_TOLD_AS} ELSE e.type END FROM incident_events e
 WHERE e.id = ANY(%(ids)s::uuid[]) ORDER BY e.at, e.id
"""
_NOTIFY = f"NOTIFY {OUTBOX_CHANNEL}"

_ADOPT = """
SELECT org_id::text, dedup_key, id::text FROM incidents
 WHERE org_id = ANY(%(orgs)s::uuid[]) AND dedup_key = ANY(%(keys)s) AND status <> 'resolved'
"""


@dataclass(frozen=True, slots=True)
class Opening:
    """An incident to open. Without `name` and `labels` it has its monitor's."""

    org_id: str
    monitor_id: str | None
    source: str
    dedup_key: str
    title: str
    severity: Severity
    cause: Mapping[str, Any]
    at: datetime
    correlation_id: str
    reopened_from: str | None = None
    name: str | None = None
    description: str = ""
    labels: Mapping[str, str] | None = None
    actor: str = "tocsin"
    priority: Priority | None = None  # None: what follows from the severity
    id: str = field(default_factory=lambda: str(uuid7()))


@dataclass(frozen=True, slots=True)
class Alteration:
    """A change of an open incident; None keeps what is there."""

    incident_id: str
    type: EventType
    at: datetime
    correlation_id: str
    status: Status | None = None
    severity: Severity | None = None
    title: str | None = None
    cause: Mapping[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    actor: str = "tocsin"
    ack_expires_at: datetime | None = None  # of an acknowledgement


@dataclass(frozen=True, slots=True)
class Deed:
    """Who does something by hand, when, and in which request."""

    actor: str
    at: datetime
    request_id: str


def open_all(connection: Connection, openings: Sequence[Opening]) -> dict[tuple[str, str], str]:
    """Open incidents; {(org_id, dedup_key): id} of those open afterwards, whether by us or already before."""
    if not openings:
        return {}
    opened = {row[0] for row in connection.exec_driver_sql(_OPEN, _opening_columns(openings))}
    ours = [o for o in openings if o.id in opened]
    record(
        connection,
        [Alteration(o.id, EventType.OPENED, o.at, o.correlation_id, data=dict(o.cause), actor=o.actor) for o in ours],
    )
    ids = {(o.org_id, o.dedup_key): o.id for o in ours}
    if len(ours) < len(openings):
        # Somebody else opened it first: theirs is the one.
        lost = [o for o in openings if o.id not in opened]
        parameters = {"orgs": [o.org_id for o in lost], "keys": [o.dedup_key for o in lost]}
        ids.update({(row[0], row[1]): row[2] for row in connection.exec_driver_sql(_ADOPT, parameters)})
    return ids


def alter_all(connection: Connection, alterations: Sequence[Alteration]) -> set[str]:
    """Change open incidents; the ids that were changed (one that is resolved already is not)."""
    if not alterations:
        return set()
    rows = connection.exec_driver_sql(
        _CHANGE,
        {
            "ids": [a.incident_id for a in alterations],
            "statuses": [a.status for a in alterations],
            "severities": [a.severity for a in alterations],
            "priorities": [None if a.severity is None else priority_of(a.severity) for a in alterations],
            "titles": [a.title for a in alterations],
            "causes": [None if a.cause is None else _Json(dict(a.cause)) for a in alterations],
            "ats": [a.at for a in alterations],
            "expiries": [a.ack_expires_at for a in alterations],
        },
    )
    changed = {row[0] for row in rows}
    record(connection, [a for a in alterations if a.incident_id in changed])
    return changed


def close_for_monitors(
    connection: Connection, floors: Mapping[int, int], *, cause: Mapping[str, str], deed: Deed
) -> None:
    """Resolve the open incidents of monitors that were paused or deleted, and start their votes and states over.

    `floors` are {monitor_no: the config_version from which on results count}.
    """
    numbers = sorted(floors)
    votes.lock(connection, numbers)
    facts = votes.lock_states(connection, numbers)
    votes.reset(connection, floors)
    closings = (
        by_hand(fact.open_incident, EventType.RESOLVED, deed, cause)
        for fact in facts.values()
        if fact.open_incident is not None
    )
    alter_all(connection, [replace(closing, status=Status.RESOLVED, cause=cause) for closing in closings])
    at_ms = to_ms(deed.at)
    votes.save_states(connection, [votes.StateUpdate(number, State(), None, None, at_ms) for number in numbers])
    votes.rest(connection, numbers, resting=True)


def by_hand(incident_id: str, type_: EventType, deed: Deed, data: Mapping[str, Any]) -> Alteration:
    """What somebody does, as an event that changes nothing by itself."""
    return Alteration(incident_id, type_, deed.at, deed.request_id, data=data, actor=deed.actor)


def record(connection: Connection, alterations: Sequence[Alteration]) -> None:
    """Append to the timelines, each at its incident's version, which the caller has moved and holds locked."""
    if not alterations:
        return
    ids = [str(uuid7()) for _ in alterations]
    announced = [a.type in ANNOUNCED for a in alterations]
    connection.exec_driver_sql(
        _RECORD,
        {
            "ids": ids,
            "incidents": [a.incident_id for a in alterations],
            "types": [a.type for a in alterations],
            "actors": [a.actor for a in alterations],
            "datas": [_Json(dict(a.data)) for a in alterations],
            "announced": announced,
            "correlations": [a.correlation_id for a in alterations],
            "ats": [a.at for a in alterations],
        },
    )
    if any(announced):
        loud = [id_ for id_, is_announced in zip(ids, announced, strict=True) if is_announced]
        connection.exec_driver_sql(_ANNOUNCE, {"ids": loud})
        connection.exec_driver_sql(_NOTIFY)


def _opening_columns(openings: Sequence[Opening]) -> dict[str, Any]:
    return {
        "ids": [o.id for o in openings],
        "orgs": [o.org_id for o in openings],
        "monitors": [o.monitor_id for o in openings],
        "sources": [o.source for o in openings],
        "keys": [o.dedup_key for o in openings],
        "names": [o.name for o in openings],
        "titles": [o.title for o in openings],
        "descriptions": [o.description for o in openings],
        "severities": [o.severity for o in openings],
        "priorities": [o.priority or priority_of(o.severity) for o in openings],
        "causes": [_Json(dict(o.cause)) for o in openings],
        "labels": [None if o.labels is None else _Json(dict(o.labels)) for o in openings],
        "reopened": [o.reopened_from for o in openings],
        "correlations": [o.correlation_id for o in openings],
        "ats": [o.at for o in openings],
    }
