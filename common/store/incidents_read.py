"""Incidents and their timelines as people read them; common.store.incidents and incident_changes write them."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from common.domain.errors import NotFound
from common.store.engine import Connection
from common.store.incidents import DOCUMENT
from common.store.keyset import BEGINNING

_GET = f"SELECT {DOCUMENT} FROM incidents i WHERE i.org_id = %(org_id)s AND i.id = %(id)s"

# What an answer says beside an incident's content: its own short facts, names of others' rows, and what time changes.
_BESIDE = """
i.ack_expires_at, i.assignee_id::text, COALESCE(NULLIF(u.name, ''), u.email), m.name,
greatest(0, floor(extract(epoch FROM COALESCE(i.resolved_at, clock_timestamp()) - i.opened_at)))::bigint
"""
_BESIDE_TABLES = """
LEFT JOIN monitors m ON m.org_id = i.org_id AND m.id = i.monitor_id
LEFT JOIN users u ON u.id = i.assignee_id
"""

# How an incident stands right now, without its content.
_STANDING = f"""
SELECT i.version, {_BESIDE} FROM incidents i {_BESIDE_TABLES} WHERE i.org_id = %(org_id)s AND i.id = %(id)s
"""

# The same with its content, which is the same for the same version.
_WHOLE = f"""
SELECT {DOCUMENT}, i.postmortem, {_BESIDE} FROM incidents i {_BESIDE_TABLES}
 WHERE i.org_id = %(org_id)s AND i.id = %(id)s
"""

# Some by their ids, as a list shows them.
_THESE = f"""
SELECT i.opened_at, i.id::text, {DOCUMENT}, {_BESIDE} FROM incidents i {_BESIDE_TABLES}
 WHERE i.org_id = %(org_id)s AND i.id = ANY(%(ids)s::uuid[])
"""

# A page; newest first.
_LIST = f"""
SELECT i.opened_at, i.id::text, {DOCUMENT}, {_BESIDE}
  FROM find_incidents(%(words)s, %(prefix)s, %(labels)s, %(status)s::text[], %(severity)s::text[], %(priority)s::text[],
                      %(source)s, %(monitor_id)s::uuid, %(assignee)s::uuid, %(unassigned)s, %(opened_after)s,
                      %(opened_before)s, %(before_at)s::timestamptz, %(before_id)s::uuid, %(limit)s) f
  JOIN incidents i ON i.id = f.id {_BESIDE_TABLES}
 WHERE i.org_id = %(org_id)s
 ORDER BY i.opened_at DESC, i.id DESC
"""
_FIND = """
SELECT f.id::text
  FROM find_incidents(%(words)s, %(prefix)s, %(labels)s, %(status)s::text[], %(severity)s::text[], %(priority)s::text[],
                      %(source)s, %(monitor_id)s::uuid, %(assignee)s::uuid, %(unassigned)s, %(opened_after)s,
                      %(opened_before)s, %(before_at)s::timestamptz, %(before_id)s::uuid, %(limit)s) f
"""

#: As incident_terms in the database.
_NO_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))

# What became of telling people of these incidents.
_DELIVERIES = """
SELECT n.incident_id::text, n.status, count(*) FROM notifications n
 WHERE n.org_id = %(org_id)s AND n.incident_id = ANY(%(ids)s::uuid[]) GROUP BY 1, 2
"""

_EXISTS = "SELECT 1 FROM incidents WHERE org_id = %(org_id)s AND id = %(id)s"
#: An event of the timeline as people read it, with the name of whoever did it and still belongs to the organization.
EVENT = """
e.id::text, e.type, e.at, e.actor, COALESCE(NULLIF(u.name, ''), u.email, k.name) AS actor_name, e.data, e.seq, e.version
"""
EVENT_ACTORS = """
LEFT JOIN users u ON u.id = CASE WHEN e.actor ~ '^user:[0-9a-f-]{36}$' THEN substr(e.actor, 6)::uuid END
LEFT JOIN api_keys k ON k.org_id = e.org_id
                    AND k.id = CASE WHEN e.actor ~ '^api-key:[0-9a-f-]{36}$' THEN substr(e.actor, 9)::uuid END
"""
# The timeline from a version on.
_EVENTS = f"""
SELECT {EVENT} FROM incident_events e {EVENT_ACTORS}
 WHERE e.org_id = %(org_id)s AND e.incident_id = %(incident_id)s AND e.version > %(after)s
 ORDER BY e.version LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """Which incidents; None does not filter. `words` are to be there, and a word that begins with `prefix`.

    `opened_after` is included, `opened_before` is not.
    """

    status: Sequence[str] | None = None
    severity: Sequence[str] | None = None
    priority: Sequence[str] | None = None
    source: str | None = None
    monitor_id: str | None = None
    assignee: str | None = None
    unassigned: bool = False
    labels: Mapping[str, str] | None = None
    opened_after: datetime | None = None
    opened_before: datetime | None = None
    words: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Deliveries:
    """How many notifications of an incident stand where."""

    sent: int = 0
    pending: int = 0
    dead: int = 0
    suppressed: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How an incident stands, beside its content. `assignee` is a user's id."""

    version: int
    ack_expires_at: datetime | None
    assignee: str | None
    assignee_name: str | None
    monitor_name: str | None
    duration_s: int
    deliveries: Deliveries


@dataclass(frozen=True, slots=True)
class Row:
    """An incident of a list. (opened_at, id) is the cursor of what comes after it."""

    opened_at: datetime
    id: str
    document: dict[str, Any]
    standing: Standing


def get(connection: Connection, *, org_id: str, incident_id: str) -> dict[str, Any]:
    """One incident as messages show it. Raises NotFound."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "id": incident_id}).first()
    if row is None:
        raise NotFound("incident")
    document: dict[str, Any] = row[0]
    return document


def whole(connection: Connection, *, org_id: str, incident_id: str) -> tuple[dict[str, Any], Standing]:
    """One incident's content, postmortem included, and how it stands. Raises NotFound."""
    row = connection.exec_driver_sql(_WHOLE, {"org_id": org_id, "id": incident_id}).first()
    if row is None:
        raise NotFound("incident")
    document, postmortem, *beside = row
    told = _deliveries(connection, org_id, [incident_id])[incident_id]
    return {**document, "postmortem": postmortem}, _standing(document["version"], beside, told)


def standing(connection: Connection, *, org_id: str, incident_id: str) -> Standing:
    """How an incident stands now. Raises NotFound."""
    row = connection.exec_driver_sql(_STANDING, {"org_id": org_id, "id": incident_id}).first()
    if row is None:
        raise NotFound("incident")
    version, *beside = row
    return _standing(version, beside, _deliveries(connection, org_id, [incident_id])[incident_id])


def list_page(
    connection: Connection,
    *,
    org_id: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    wanted: IncidentFilter | None = None,
) -> list[Row]:
    """Newest first, after the row whose cursor `before` is."""
    parameters = _parameters(wanted or IncidentFilter(), before, limit)
    return _rows(connection, org_id, connection.exec_driver_sql(_LIST, {**parameters, "org_id": org_id}).all())


def these(connection: Connection, *, org_id: str, ids: Sequence[str]) -> list[Row]:
    """The incidents with these ids, in any order; those that are not there are left out."""
    rows = connection.exec_driver_sql(_THESE, {"org_id": org_id, "ids": list(ids)}).all()
    return _rows(connection, org_id, rows)


def find(connection: Connection, *, limit: int, wanted: IncidentFilter) -> list[str]:
    """Ids of the transaction's organization, the newest first."""
    return [row[0] for row in connection.exec_driver_sql(_FIND, _parameters(wanted, None, limit))]


def search_terms(text: str) -> tuple[str, str] | None:
    """(words, prefix) of what somebody types, split as the index splits; None when there is no word in it."""
    words = text.translate(_NO_PUNCTUATION).split()
    if not any(character.isalnum() for word in words for character in word):
        return None
    return " ".join(words[:-1]), words[-1]


def events(
    connection: Connection, *, org_id: str, incident_id: str, after_version: int, limit: int
) -> list[dict[str, Any]]:
    """The timeline in order. Raises NotFound when there is no such incident."""
    if connection.exec_driver_sql(_EXISTS, {"org_id": org_id, "id": incident_id}).first() is None:
        raise NotFound("incident")
    rows = connection.exec_driver_sql(
        _EVENTS, {"org_id": org_id, "incident_id": incident_id, "after": after_version, "limit": limit}
    )
    return [dict(row) for row in rows.mappings()]


def _rows(connection: Connection, org_id: str, rows: Sequence[Any]) -> list[Row]:
    told = _deliveries(connection, org_id, [row[1] for row in rows])
    return [
        Row(opened_at, id_, document, _standing(document["version"], beside, told[id_]))
        for opened_at, id_, document, *beside in rows
    ]


def _standing(version: int, beside: Sequence[Any], told: Deliveries) -> Standing:
    ack_expires_at, assignee, assignee_name, monitor_name, duration_s = beside
    return Standing(version, ack_expires_at, assignee, assignee_name, monitor_name, duration_s, told)


def _deliveries(connection: Connection, org_id: str, ids: Sequence[str]) -> dict[str, Deliveries]:
    counts: dict[str, dict[str, int]] = {id_: {} for id_ in ids}
    if ids:
        for id_, status, count in connection.exec_driver_sql(_DELIVERIES, {"org_id": org_id, "ids": list(ids)}):
            counts[id_][status] = count
    return {id_: Deliveries(**found) for id_, found in counts.items()}


def _parameters(wanted: IncidentFilter, before: tuple[datetime, str] | None, limit: int) -> dict[str, Any]:
    before_at, before_id = before or BEGINNING
    return {
        "words": wanted.words,
        "prefix": wanted.prefix,
        "labels": None if wanted.labels is None else Jsonb(dict(wanted.labels)),
        "status": _list(wanted.status),
        "severity": _list(wanted.severity),
        "priority": _list(wanted.priority),
        "source": wanted.source,
        "monitor_id": wanted.monitor_id,
        "assignee": wanted.assignee,
        "unassigned": wanted.unassigned,
        "opened_after": wanted.opened_after,
        "opened_before": wanted.opened_before,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
