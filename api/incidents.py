"""/v1/incidents: open and past problems, their timelines, and what people do about them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flask import Response

from api import audit, incident_documents, incident_filters, pagination
from api.context import caller, request_id, services
from api.routing import Routes
from api.schemas import PageQuery
from api.schemas_incidents import (
    MAX_BULK,
    AcknowledgementIn,
    BulkAcknowledgement,
    BulkAcknowledgementIn,
    CommentIn,
    Event,
    Incident,
    IncidentDetail,
    IncidentIn,
    IncidentPatch,
    IncidentQuery,
    StatusIn,
)
from common.domain.errors import FieldError, ValidationFailed
from common.domain.incident import Priority, Severity, parse_status, severity_of
from common.store import incident_changes, incidents_read, monitors
from common.store.engine import Connection
from common.store.incident_changes import Edit, How, NewIncident
from common.store.incidents import Deed

routes = Routes("incidents")

#: An acknowledgement that is to last longer should better be a resolve.
_LONGEST = timedelta(days=366)

#: Fields that null empties.
_EMPTY = {"description": "", "postmortem": ""}


@routes.get("/v1/incidents", permission="incidents:read", query=IncidentQuery, answer=Incident, paged=True)
def list_incidents(query: IncidentQuery) -> Response:
    """Incidents that pass all filters, newest first; `q` looks for words in title and description."""
    wanted = incident_filters.of_query(query)
    before = pagination.before_id(query.cursor)
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        rows = incidents_read.list_page(connection, org_id=org_id, limit=query.limit + 1, before=before, wanted=wanted)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last.opened_at, last.id)
    return pagination.page([incident_documents.merged(row.document, row.standing) for row in shown], cursor)


@routes.post("/v1/incidents", permission="incidents:write", body=IncidentIn, answer=IncidentDetail, status=201)
def create_incident(body: IncidentIn) -> Response:
    """Open an incident by hand; it is announced like any other.

    Without a severity it has the one of its priority (P1: critical, P2: error, P3: warning), or error. It stays open
    until somebody resolves it.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        incident_id = incident_changes.create(connection, org_id=org_id, new=_new(body), deed=_deed(connection))
        shown = incident_documents.written(connection, incident_id)
        audit.changed(connection, "incident", incident_id, None, incidents_read.get(connection, **_keys(incident_id)))
    response = incident_documents.answer(shown, 201)
    response.headers["Location"] = f"/v1/incidents/{incident_id}"
    return response


@routes.get("/v1/incidents/<incident_id>", permission="incidents:read", answer=IncidentDetail, versioned=True)
def get_incident(incident_id: str) -> Response:
    """One incident. With If-None-Match and an ETag that still holds: 304."""
    return incident_documents.answer_unless_known(incident_documents.look(incident_id))


@routes.patch(
    "/v1/incidents/<incident_id>",
    permission="incidents:write",
    body=IncidentPatch,
    answer=IncidentDetail,
    versioned=True,
)
def change_incident(incident_id: str, body: IncidentPatch) -> Response:
    """Change some fields by JSON Merge Patch; the timeline says what was there before.

    With If-Match and the ETag of a version that has been changed since: 412, and nothing is changed.
    """
    org_id = caller().org_id
    edit = Edit(_fields(body), incident_documents.seen())
    with services().database.begin(org_id) as connection:
        changes = incident_changes.update(connection, **_keys(incident_id), edit=edit, deed=_deed(connection))
        incident_documents.note(connection, incident_id, changes)
        shown = incident_documents.written(connection, incident_id)
    services().incident_cache.forget(org_id, [incident_id])
    return incident_documents.answer(shown)


@routes.patch(
    "/v1/incidents/<incident_id>/status",
    permission="incidents:write",
    body=StatusIn,
    answer=IncidentDetail,
    versioned=True,
)
def set_incident_status(incident_id: str, body: StatusIn) -> Response:
    """Acknowledge or resolve; the status that it has already is accepted and changes nothing.

    An acknowledgement may expire: unless it is resolved by then, the incident is open again, and those who heard of it
    are reminded. If-Match as for changes.
    """
    org_id, wanted = caller().org_id, parse_status(body.status)
    with services().database.begin(org_id) as connection:
        deed = _deed(connection)
        how = How(_expiry(body, deed.at), body.comment or "", incident_documents.seen())
        changes = incident_changes.set_status(connection, **_keys(incident_id), wanted=wanted, deed=deed, how=how)
        incident_documents.note(connection, incident_id, changes)
        shown = incident_documents.written(connection, incident_id)
    services().incident_cache.forget(org_id, [incident_id])
    return incident_documents.answer(shown)


@routes.post(
    "/v1/incidents/acknowledge", permission="incidents:write", body=BulkAcknowledgementIn, answer=BulkAcknowledgement
)
def acknowledge_incidents(body: BulkAcknowledgementIn) -> dict[str, Any]:
    """Acknowledge up to 1,000 incidents at once, by their ids or the newest open ones of a filter.

    What is acknowledged or resolved already stays as it is. Each gets an event of its own.
    """
    org_id, more = caller().org_id, False
    with services().database.begin(org_id) as connection:
        deed = _deed(connection)
        if body.filter is None:
            ids = [str(id_) for id_ in body.ids or ()]
        else:
            found = incidents_read.find(connection, limit=MAX_BULK + 1, wanted=incident_filters.of_body(body.filter))
            ids, more = found[:MAX_BULK], len(found) > MAX_BULK
        how = How(_expiry(body, deed.at), body.comment or "")
        done = incident_changes.acknowledge_all(connection, org_id=org_id, ids=ids, deed=deed, how=how)
        audit.all_changed(
            connection, "incident", [(id_, {"status": "open"}, {"status": "acknowledged"}) for id_ in done.changed]
        )
    services().incident_cache.forget(org_id, done.changed)
    return {
        "acknowledged": len(done.changed),
        "unchanged": len(done.unchanged),
        "not_found": done.not_found,
        "more": more,
    }


@routes.get(
    "/v1/incidents/<incident_id>/events", permission="incidents:read", query=PageQuery, answer=Event, paged=True
)
def list_incident_events(incident_id: str, query: PageQuery) -> Response:
    """An incident's timeline, oldest first."""
    after = pagination.after_number(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = incidents_read.events(
            connection, org_id=caller().org_id, incident_id=incident_id, after_version=after, limit=query.limit + 1
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode_number(last["version"])
    return pagination.page([_event(row) for row in shown], cursor)


@routes.post(
    "/v1/incidents/<incident_id>/comments", permission="incidents:write", body=CommentIn, answer=Event, status=201
)
def comment_incident(incident_id: str, body: CommentIn) -> dict[str, Any]:
    """Add a comment to the timeline; it is not announced."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        before = incident_changes.comment(
            connection, org_id=org_id, incident_id=incident_id, body=body.body, deed=_deed(connection)
        )
        rows = incidents_read.events(connection, org_id=org_id, incident_id=incident_id, after_version=before, limit=1)
        audit.changed(connection, "comment", rows[0]["id"], None, _event(rows[0]))
    services().incident_cache.forget(org_id, [incident_id])
    return _event(rows[0])


def _deed(connection: Connection) -> Deed:
    return Deed(caller().actor, monitors.now(connection), request_id())


def _keys(incident_id: str) -> dict[str, str]:
    return {"org_id": caller().org_id, "incident_id": incident_id}


def _new(body: IncidentIn) -> NewIncident:
    priority = None if body.priority is None else Priority(body.priority)
    if body.severity is not None:
        severity = Severity(body.severity)
    else:
        severity = Severity.ERROR if priority is None else severity_of(priority)
    return NewIncident(
        title=body.title,
        severity=severity,
        description=body.description,
        priority=priority,
        labels=body.labels,
        assignee=None if body.assignee is None else str(body.assignee),
        monitor_id=None if body.monitor_id is None else str(body.monitor_id),
    )


def _fields(body: IncidentPatch) -> dict[str, Any]:
    fields = {name: getattr(body, name) for name in body.model_fields_set}
    for name, empty in _EMPTY.items():
        if name in fields and fields[name] is None:
            fields[name] = empty
    if fields.get("assignee") is not None:
        fields["assignee"] = str(fields["assignee"])
    return fields


def _expiry(body: AcknowledgementIn, now: datetime) -> datetime | None:
    if body.duration_seconds is not None:
        return now + timedelta(seconds=body.duration_seconds)
    if body.expires_at is not None and not now < body.expires_at <= now + _LONGEST:
        message = "must be in the future, a year ahead at most"
        raise ValidationFailed("Some fields are wrong.", details=[FieldError("expires_at", message)])
    return body.expires_at


def _event(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "type", "at", "actor", "actor_name", "data")}
