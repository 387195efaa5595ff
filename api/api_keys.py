"""/v1/api-keys: credentials for machines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response

from api import pagination
from api.context import caller, services
from api.permissions import covers
from api.routing import Routes
from api.schemas import ApiKey, ApiKeyIn, NewApiKey, PageQuery
from common.clock import utc_now
from common.domain.errors import Forbidden
from common.store import api_keys

routes = Routes("api keys")


@routes.post("/v1/api-keys", permission="api-keys:write", body=ApiKeyIn, answer=NewApiKey, status=201)
def create_api_key(body: ApiKeyIn) -> dict[str, Any]:
    """Make a key; `key` is shown this once. Its role is at most your own."""
    if not covers(caller().role, body.role):
        raise Forbidden(f"Your role ({caller().role}) cannot give out the role {body.role}.")
    expires_at = None if body.expires_in_days is None else utc_now() + timedelta(days=body.expires_in_days)
    key = api_keys.NewKey(caller().org_id, body.name, body.role, caller().user_id, expires_at)
    with services().database.begin(caller().org_id) as connection:
        return {**api_keys.add(connection, key), "key": key.token}


@routes.get("/v1/api-keys", permission="api-keys:read", query=PageQuery, answer=ApiKey, paged=True)
def list_api_keys(query: PageQuery) -> Response:
    """Keys that are not revoked, newest first, without their secrets."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = api_keys.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page(shown, cursor)


@routes.delete("/v1/api-keys/<api_key_id>", permission="api-keys:write")
def delete_api_key(api_key_id: str) -> None:
    """Revoke a key: its next request is refused."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        role = api_keys.get(connection, org_id=org_id, key_id=api_key_id)["role"]
        if not covers(caller().role, role):
            raise Forbidden(f"Your role ({caller().role}) cannot revoke a key with the role {role}.")
        api_keys.revoke(connection, org_id=org_id, key_id=api_key_id)
