"""Open incidents of many organizations from few alerts: incident, event and outbox row in one statement.

What the alerts say travels once, as one JSON document, however many organizations hear of it; a row per incident is
then three ids. `incidents.open_all` does the same for what monitors find.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from uuid_utils import uuid7

from common.domain.alerts import Alert
from common.domain.incident import priority_of
from common.store.arrays import integers, words
from common.store.engine import Connection
from common.store.incidents import DOCUMENT, OUTBOX_CHANNEL, Deed

#: The alerts of a statement by their places; everything that a statement may want of them.
SAID = """
json_to_recordset(%(alerts)s::json) AS a(place int, identity text, status text, dedup_key text, source text, name text,
                                         title text, description text, severity text, priority text, cause jsonb,
                                         labels jsonb)
"""

# The partial unique index is the guard: where one is open for the key already, nothing is written and nothing answered.
_OPEN = f"""
WITH wanted AS (
  SELECT u.id, u.org_id, u.event_id, u.reopened_from, a.*
    FROM unnest(%(ids)s::uuid[], %(orgs)s::uuid[], %(events)s::uuid[], %(places)s::int[], %(reopened)s::uuid[])
         AS u(id, org_id, event_id, place, reopened_from)
    JOIN {SAID} USING (place)
), opened AS (
  INSERT INTO incidents (id, org_id, source, dedup_key, name, title, description, severity, priority, status, cause,
                         labels, reopened_from, correlation_id, opened_at)
  SELECT w.id, w.org_id, w.source, w.dedup_key, w.name, w.title, w.description, w.severity, w.priority, 'open', w.cause,
         w.labels, w.reopened_from, %(request_id)s, %(at)s
    FROM wanted w ORDER BY w.org_id, w.dedup_key
      ON CONFLICT (org_id, dedup_key) WHERE status <> 'resolved' DO NOTHING
  RETURNING *
), recorded AS (
  INSERT INTO incident_events (id, org_id, incident_id, version, type, actor, data, snapshot, correlation_id, at)
  SELECT w.event_id, i.org_id, i.id, i.version, 'opened', %(actor)s, i.cause,
         json_build_object('incident', {DOCUMENT}, 'monitor', NULL), i.correlation_id, i.opened_at
    FROM opened i JOIN wanted w ON w.id = i.id
  RETURNING org_id, incident_id, id, type
), announced AS (
  INSERT INTO outbox (org_id, incident_id, event_id, type)
  SELECT r.org_id, r.incident_id, r.id, r.type FROM recorded r ORDER BY r.id
)
SELECT id::text FROM opened
"""
_NOTIFY = f"NOTIFY {OUTBOX_CHANNEL}"

# Who else opened it.
_ADOPT = """
SELECT u.id, i.id::text
  FROM unnest(%(ids)s::text[], %(orgs)s::uuid[], %(keys)s::text[]) AS u(id, org_id, dedup_key)
  JOIN incidents i ON i.org_id = u.org_id AND i.dedup_key = u.dedup_key AND i.status <> 'resolved'
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """An incident of its organization's own, of the alert at this place; `reopened_from` was resolved by hand."""

    id: str
    org_id: str
    place: int
    reopened_from: str | None = None


def document(alerts: Sequence[Alert], places: Iterable[int]) -> str:
    """What the alerts at these places say, for statements with `SAID`."""
    return json.dumps([_said(place, alerts[place]) for place in places], ensure_ascii=False)


def uuids(values: Iterable[str]) -> str:
    """A literal for uuid[], of ids that are ours."""
    return "{" + ",".join(values) + "}"


def open_everywhere(
    connection: Connection, alerts: Sequence[Alert], placements: Sequence[Placement], deed: Deed
) -> set[str]:
    """Open incidents; the ids of those that are new."""
    if not placements:
        return set()
    parameters = {
        "alerts": document(alerts, {p.place for p in placements}),
        "ids": uuids(p.id for p in placements),
        "orgs": uuids(p.org_id for p in placements),
        "events": uuids(str(uuid7()) for _ in placements),
        "places": integers(p.place for p in placements),
        "reopened": words(p.reopened_from for p in placements),
        "actor": deed.actor,
        "request_id": deed.request_id,
        "at": deed.at,
    }
    opened = {row[0] for row in connection.exec_driver_sql(_OPEN, parameters)}
    if opened:
        connection.exec_driver_sql(_NOTIFY)
    return opened


def adopted(connection: Connection, alerts: Sequence[Alert], placements: Sequence[Placement]) -> dict[str, str]:
    """{id that was to be opened: id of the incident that somebody else opened first}; without what is closed again."""
    parameters = {
        "ids": [p.id for p in placements],
        "orgs": uuids(p.org_id for p in placements),
        "keys": [alerts[p.place].dedup_key for p in placements],
    }
    return {row[0]: row[1] for row in connection.exec_driver_sql(_ADOPT, parameters)} if placements else {}


def _said(place: int, alert: Alert) -> dict[str, object]:
    return {
        "place": place,
        "identity": alert.identity,
        "status": alert.status,
        "dedup_key": alert.dedup_key,
        "source": alert.source,
        "name": alert.name,
        "title": alert.title,
        "description": alert.description,
        "severity": alert.severity,
        "priority": priority_of(alert.severity),
        "cause": alert.cause,
        "labels": dict(alert.labels),
    }
