"""/v1/incidents: open and past problems, their timelines, and what people do about them."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import pagination
from api.context import caller, request_id, services
from api.routing import Routes
from api.schemas import CommentIn, Event, Incident, IncidentQuery, PageQuery, StatusIn
from common.domain.incident import parse_status
from common.store import incidents, incidents_read, monitors
from common.store.engine import Connection
from common.store.incidents import Deed
from common.store.incidents_read import IncidentFilter

routes = Routes("incidents")


@routes.get("/v1/incidents", permission="incidents:read", query=IncidentQuery, answer=Incident, paged=True)
def list_incidents(query: IncidentQuery) -> Response:
    """Incidents, newest first."""
    with services().database.begin(caller().org_id) as connection:
        monitor_id = None if query.monitor_id is None else str(query.monitor_id)
        rows = incidents_read.list_page(
            connection,
            org_id=caller().org_id,
            limit=query.limit + 1,
            before=pagination.before_id(query.cursor),
            wanted=IncidentFilter(query.status, query.severity, monitor_id),
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last[1], last[2])
    return pagination.page([document for document, _, _ in shown], cursor)


@routes.get("/v1/incidents/<incident_id>", permission="incidents:read", answer=Incident)
def get_incident(incident_id: str) -> dict[str, Any]:
    """One incident."""
    with services().database.begin(caller().org_id) as connection:
        return incidents_read.get(connection, org_id=caller().org_id, incident_id=incident_id)


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


@routes.patch("/v1/incidents/<incident_id>/status", permission="incidents:write", body=StatusIn, answer=Incident)
def set_incident_status(incident_id: str, body: StatusIn) -> dict[str, Any]:
    """Acknowledge or resolve; the status that it has already is accepted and changes nothing."""
    wanted = parse_status(body.status)
    with services().database.begin(caller().org_id) as connection:
        org_id = caller().org_id
        incidents.set_status(connection, org_id=org_id, incident_id=incident_id, wanted=wanted, deed=_deed(connection))
        return incidents_read.get(connection, org_id=org_id, incident_id=incident_id)


@routes.post(
    "/v1/incidents/<incident_id>/comments", permission="incidents:write", body=CommentIn, answer=Event, status=201
)
def comment_incident(incident_id: str, body: CommentIn) -> dict[str, Any]:
    """Add a comment to the timeline; it is not announced."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        incidents.comment(connection, org_id=org_id, incident_id=incident_id, body=body.body, deed=_deed(connection))
        # The comment holds the incident's lock, so its newest event is ours.
        version = incidents_read.get(connection, org_id=org_id, incident_id=incident_id)["version"]
        rows = incidents_read.events(
            connection, org_id=org_id, incident_id=incident_id, after_version=version - 1, limit=1
        )
    return _event(rows[0])


def _deed(connection: Connection) -> Deed:
    return Deed(caller().actor, monitors.now(connection), request_id())


def _event(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "type", "at", "actor", "data")}
