"""/v1/routes: which alerts go to which channels, in order, and which ones an alert would take."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from flask import Response
from uuid_utils import uuid7

from api import audit, pagination, parsing
from api.context import caller, services
from api.route_documents import Surroundings, document, explanation, settings_document, to_config
from api.routing import Routes
from api.schemas import PageQuery
from api.schemas_routes import Route, RouteIn, RouteTest, RouteTestIn
from common.domain.alerts import MONITOR_KEYS
from common.domain.errors import Conflict, FieldError, ValidationFailed
from common.domain.labels import Labels, matches_all
from common.domain.matching import Hold
from common.domain.routing import conditions, labels_of
from common.store import holds, incidents_read, monitors, routing_versions, silences
from common.store import routes as stored
from common.store.engine import Connection

routes = Routes("routes")

#: Routes of an organization.
MAX_ROUTES = 1_000


@routes.post("/v1/routes", permission="routes:write", body=RouteIn, answer=Route, status=201)
def create_route(body: RouteIn) -> dict[str, Any]:
    """Add a route: at `position`, where later ones move down, or as the last."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        if stored.count(connection, org_id=org_id) >= MAX_ROUTES:
            raise Conflict(f"An organization has at most {MAX_ROUTES:,} routes.", code="LIMIT_REACHED")
        _check_channels(connection, body.channel_ids)
        row = stored.add(
            connection, org_id=org_id, route_id=str(uuid7()), route=to_config(body), position=_position(body)
        )
        audit.changed(connection, "route", row["id"], None, settings_document(row))
    return document(row)


@routes.get("/v1/routes", permission="routes:read", query=PageQuery, answer=Route, paged=True)
def list_routes(query: PageQuery) -> Response:
    """All routes, in the order in which they are tried."""
    after = pagination.after_number(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = stored.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, after=after)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode_number(last["position"] + 1)
    return pagination.page([document(row) for row in shown], cursor)


@routes.get("/v1/routes/<route_id>", permission="routes:read", answer=Route)
def get_route(route_id: str) -> dict[str, Any]:
    """One route."""
    with services().database.begin(caller().org_id) as connection:
        return document(stored.get(connection, org_id=caller().org_id, route_id=route_id))


@routes.patch("/v1/routes/<route_id>", permission="routes:write", body=RouteIn, merge=True, answer=Route)
def change_route(route_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Change some fields by JSON Merge Patch. A new `position` moves it there, the others keep their order."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        row = stored.get(connection, org_id=org_id, route_id=route_id)
        wanted = parsing.validate(RouteIn, parsing.merge(settings_document(row), body))
        # A channel that was deleted may stay in its routes: whoever renames one need not mend it.
        _check_channels(connection, wanted.channel_ids, known=row["channel_ids"])
        changed = stored.change(
            connection, org_id=org_id, route_id=route_id, route=to_config(wanted), position=_position(wanted)
        )
        audit.changed(connection, "route", route_id, settings_document(row), settings_document(changed))
    return document(changed)


@routes.delete("/v1/routes/<route_id>", permission="routes:write")
def delete_route(route_id: str) -> None:
    """Lead nothing this way any more; later routes move up. What was told by it is told its end."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        row = stored.get(connection, org_id=org_id, route_id=route_id)
        stored.delete(connection, org_id=org_id, route_id=route_id)
        audit.changed(connection, "route", route_id, settings_document(row), None)


@routes.post(
    "/v1/routes/test", permission="routes:read", body=RouteTestIn, answer=RouteTest, statuses=(404,), audited=False
)
def test_routes(body: RouteTestIn) -> dict[str, Any]:
    """Say which routes an alert or an incident would take and why, and who would be told. Nothing is written or sent.

    Send an alert as POST /v1/alerts takes it, or `{"incident_id": "…"}`, or `{"monitor_id": "…"}`. What a monitor has
    to tell may be held back by a maintenance window or by a monitor above it that is down: `held_back` says by which.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        asked = _asked(connection, body)
        rows = stored.list_page(connection, org_id=org_id)
        named = {channel_id for row in rows for channel_id in row["channel_ids"]}
        channels = stored.reached_channels(connection, org_id=org_id, ids=named)
        around = Surroundings(
            channels={channel["id"]: channel for channel in channels},
            cooldowns=stored.cooldowns(connection, org_id=org_id, dedup_key=asked.dedup_key),
            silenced_by=_silenced_by(connection, asked.labels),
            held_back=None if asked.monitor_id is None else _held_back(connection, asked.monitor_id),
        )
    return explanation(rows, asked.labels, around)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What routes are asked about; `monitor_id`: the monitor whose own incident it is."""

    labels: Labels
    dedup_key: str
    monitor_id: str | None = None


def _asked(connection: Connection, body: RouteTestIn) -> _Asked:
    if body.incident_id is not None:
        return _asked_of_incident(connection, body.incident_id)
    if body.monitor_id is not None:
        row = monitors.get(connection, org_id=caller().org_id, monitor_id=body.monitor_id)
        labels = labels_of(row["labels"], severity=row["severity"], source="monitor", name=row["name"])
        return _Asked(labels, MONITOR_KEYS + row["id"], row["id"])
    alert = body.alert()
    return _Asked(alert.matched, alert.dedup_key)


def _asked_of_incident(connection: Connection, incident_id: str) -> _Asked:
    incident = incidents_read.get(connection, org_id=caller().org_id, incident_id=incident_id)
    labels = labels_of(
        incident["labels"],
        severity=incident["severity"],
        source=incident["source"],
        name=incident["name"] or incident["title"],
    )
    own = incident["dedup_key"] == f"{MONITOR_KEYS}{incident['monitor_id']}"
    return _Asked(labels, incident["dedup_key"], incident["monitor_id"] if own else None)


def _held_back(connection: Connection, monitor_id: str) -> tuple[Hold, dict[str, Any]] | None:
    hold = holds.of(connection, {monitor_id}, monitors.now(connection)).get(monitor_id)
    return None if hold is None else (hold, holds.described(connection, hold, org_id=caller().org_id))


def _silenced_by(connection: Connection, labels: Labels) -> list[str]:
    active = silences.active(connection, org_id=caller().org_id)
    return [id_ for id_, matchers in active if matches_all(conditions({}, matchers), labels)]


def _check_channels(connection: Connection, wanted: Iterable[str], known: Collection[str] = ()) -> None:
    """Refuse channels that this organization does not have, but for those that the route names already."""
    places = {channel_id: place for place, channel_id in enumerate(wanted) if channel_id not in known}
    missing = places.keys() - stored.present_channels(connection, org_id=caller().org_id, ids=places)
    if missing:
        raise ValidationFailed(
            "Some fields are wrong.",
            details=[
                FieldError(f"channel_ids.{place}", "no such channel in this organization")
                for place in sorted(places[channel_id] for channel_id in missing)
            ],
        )


def _position(body: RouteIn) -> int:
    return stored.LAST if body.position is None else body.position
