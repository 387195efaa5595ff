"""/v1/users: the people of the caller's organization."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas import PageQuery
from api.schemas_identity import Member
from common.store import members

routes = Routes("users")


@routes.get("/v1/users", permission="users:read", query=PageQuery, answer=Member, paged=True)
def list_users(query: PageQuery) -> Response:
    """The members of your organization, the newest first."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = members.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["user_id"])
    return pagination.page([_document(row) for row in shown], cursor)


@routes.get("/v1/users/<user_id>", permission="users:read", answer=Member)
def get_user(user_id: str) -> dict[str, Any]:
    """One member of your organization."""
    with services().database.begin(caller().org_id) as connection:
        return _document(members.get(connection, org_id=caller().org_id, user_id=user_id, named="user"))


def _document(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["user_id"], **{name: row[name] for name in ("email", "name", "role", "enabled", "created_at")}}
