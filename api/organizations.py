"""/v1/organizations: the tenants, for the operator's platform key only."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from flask import Response
from pydantic import BaseModel

from api import audit, pagination, parsing
from api.context import services
from api.routing import Routes
from api.schemas import Body, Name, PageQuery
from common.store import organizations

routes = Routes("organizations")


class TenantIn(Body):
    """A tenant. Of a disabled one nobody is let in, and no alert is taken in for it."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "created_at", "api_key"})

    name: Name
    enabled: bool = True


class Tenant(BaseModel):
    """A tenant as the operator sees it."""

    id: str
    name: str
    enabled: bool
    created_at: datetime


class NewTenant(Tenant):
    """A tenant as it is shown once, with the key of its owner."""

    api_key: str


@routes.post("/v1/organizations", permission="organizations:write", body=TenantIn, answer=NewTenant, status=201)
def create_organization(body: TenantIn) -> dict[str, Any]:
    """Make a tenant. `api_key`, with the role owner, is shown this once."""
    with services().platform.database.begin() as connection:
        row, key = organizations.add(connection, body.name)
        if not body.enabled:
            row = organizations.change(connection, row["id"], name=body.name, enabled=False)
        audit.changed(connection, "organization", row["id"], None, row, org_id=row["id"])
    return {**row, "api_key": key}


@routes.get("/v1/organizations", permission="organizations:read", query=PageQuery, answer=Tenant, paged=True)
def list_organizations(query: PageQuery) -> Response:
    """All tenants, newest first."""
    before = pagination.before_id(query.cursor)
    with services().platform.database.begin() as connection:
        rows = organizations.list_page(connection, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page(shown, cursor)


@routes.get("/v1/organizations/<organization_id>", permission="organizations:read", answer=Tenant)
def get_organization(organization_id: str) -> dict[str, Any]:
    """One tenant."""
    with services().platform.database.begin() as connection:
        return organizations.get(connection, organization_id)


@routes.patch(
    "/v1/organizations/<organization_id>", permission="organizations:write", body=TenantIn, merge=True, answer=Tenant
)
def change_organization(organization_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Rename, disable (`{"enabled": false}`) or enable a tenant by JSON Merge Patch; it counts at once."""
    with services().platform.database.begin() as connection:
        row = organizations.get(connection, organization_id)
        base = {name: row[name] for name in TenantIn.model_fields}
        wanted = parsing.validate(TenantIn, parsing.merge(base, body))
        after = organizations.change(connection, organization_id, name=wanted.name, enabled=wanted.enabled)
        audit.changed(connection, "organization", organization_id, row, after, org_id=organization_id)
        return after
