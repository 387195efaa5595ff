"""/v1/audit-log: who changed what, when, from where; for admins."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from flask import Response
from pydantic import AwareDatetime, BaseModel, Field

from api import pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas import PageQuery
from common.store import audit_log
from common.store.audit_log import AuditFilter

routes = Routes("audit log")

_Text = Annotated[str | None, Field(min_length=1, max_length=200)]


class AuditQuery(PageQuery):
    """Which entries."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"action"})

    actor: Annotated[_Text, Field(description="Like user:<id>, api-key:<id> or platform-key:<id>.")] = None
    action: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]] | None, Field(description="operationIds.")
    ] = None
    resource_type: Annotated[_Text, Field(description="Like monitor.")] = None
    resource_id: _Text = None
    since: AwareDatetime | None = None
    until: Annotated[AwareDatetime | None, Field(description="Not included itself.")] = None


class AuditEntry(BaseModel):
    """One change. `before` is null for what was made, `after` for what was removed; neither holds secrets."""

    id: str
    at: datetime
    actor: str
    action: Annotated[str, Field(description="The operationId of the request.")]
    resource_type: str
    resource_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str
    address: str


@routes.get("/v1/audit-log", permission="audit-log:read", query=AuditQuery, answer=AuditEntry, paged=True)
def list_audit_log(query: AuditQuery) -> Response:
    """Changes of your organization, the newest first. Entries are kept for 400 days."""
    wanted = AuditFilter(query.actor, query.action, query.resource_type, query.resource_id, query.since, query.until)
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = audit_log.list_page(
            connection, org_id=caller().org_id, limit=query.limit + 1, before=before, wanted=wanted
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["at"], last["id"])
    return pagination.page(shown, cursor)
