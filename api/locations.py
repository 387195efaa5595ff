"""/v1/locations: where checks run from."""

from __future__ import annotations

from flask import Response

from api import pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas import Location, Query
from common.store import locations

routes = Routes("locations")


@routes.get("/v1/locations", permission="locations:read", query=Query, answer=Location, paged=True)
def list_locations(query: Query) -> Response:  # noqa: ARG001 - it takes no parameters, and says so
    """All locations by name, on one page."""
    with services().database.begin(caller().org_id) as connection:
        rows = locations.list_all(connection)
    return pagination.page([{"name": name, "created_at": created_at} for _, name, created_at in rows], None)
