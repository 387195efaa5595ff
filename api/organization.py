"""/v1/organization: the caller's own."""

from __future__ import annotations

from typing import Any

from api import audit, parsing
from api.context import caller, services
from api.routing import Routes
from api.schemas_identity import Organization, OrganizationIn
from common.store import accounts

routes = Routes("organization")


@routes.get("/v1/organization", permission="organization:read", answer=Organization)
def get_own_organization() -> dict[str, Any]:
    """Your organization."""
    with services().database.begin(caller().org_id) as connection:
        return accounts.organization(connection, caller().org_id)


@routes.patch("/v1/organization", permission="organization:write", body=OrganizationIn, merge=True, answer=Organization)
def change_own_organization(body: dict[str, Any]) -> dict[str, Any]:
    """Rename your organization by JSON Merge Patch."""
    with services().database.begin(caller().org_id) as connection:
        before = accounts.organization(connection, caller().org_id)
        wanted = parsing.validate(OrganizationIn, parsing.merge({"name": before["name"]}, body))
        after = accounts.rename_organization(connection, caller().org_id, wanted.name)
        audit.changed(connection, "organization", caller().org_id, before, after)
        return after
