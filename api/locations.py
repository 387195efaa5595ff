"""/v1/locations: where checks run from, and whether they see anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response

from api import pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas import Location, Query
from common.broker import queue_name, waiting
from common.domain.checks import Lane
from common.domain.errors import Unavailable
from common.store import locations
from common.store.locations import Standing

routes = Routes("locations")


@routes.get("/v1/locations", permission="locations:read", query=Query, answer=Location, paged=True)
def list_locations(query: Query) -> Response:  # noqa: ARG001 - it takes no parameters, and says so
    """All locations by name, on one page: who works there, and whether they see anything."""
    with services().database.begin(caller().org_id) as connection:
        rows = locations.standings(connection)
    backlogs = _backlogs([row.name for row in rows])
    return pagination.page([_document(row, backlogs.get(row.name)) for row in rows], None)


def _document(row: Standing, backlog: dict[str, int] | None) -> dict[str, Any]:
    return {**asdict(row), "status": row.status, "backlog": backlog}


def _backlogs(names: list[str]) -> dict[str, dict[str, int]]:
    """What waits at each location; nothing without Redis, or where queues are the operator's alone."""
    if services().settings.registration == "open" and caller().org_id:
        return {}
    try:
        counts = iter(waiting(services().broker, [queue_name(lane, name) for name in names for lane in Lane]))
    except Unavailable:
        return {}
    return {name: {lane.label: next(counts) for lane in Lane} for name in names}
