"""/v1/api-keys: credentials for machines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response

from api import audit, auth, pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas import PageQuery
from api.schemas_identity import ApiKey, ApiKeyIn, NewApiKey
from common.clock import utc_now
from common.store import api_keys

routes = Routes("api keys")


@routes.post("/v1/api-keys", permission="api-keys:write", body=ApiKeyIn, answer=NewApiKey, status=201)
def create_api_key(body: ApiKeyIn) -> dict[str, Any]:
    """Make a key; `key` is shown this once. It may do nothing that you may not."""
    auth.must_cover(caller(), body.role, body.scopes)
    expires_at = None if body.expires_in_days is None else utc_now() + timedelta(days=body.expires_in_days)
    key = api_keys.NewKey(caller().org_id, body.name, body.role, caller().user_id, expires_at, body.scopes)
    with services().database.begin(caller().org_id) as connection:
        row = api_keys.add(connection, key)
        audit.changed(connection, "api_key", row["id"], None, row)
    return {**row, "key": key.token}


@routes.get("/v1/api-keys", permission="api-keys:read", query=PageQuery, answer=ApiKey, paged=True)
def list_api_keys(query: PageQuery) -> Response:
    """Keys that are not revoked, newest first, without their secrets."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = api_keys.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page(shown, cursor)


@routes.get("/v1/api-keys/<api_key_id>", permission="api-keys:read", answer=ApiKey)
def get_api_key(api_key_id: str) -> dict[str, Any]:
    """One key, without its secret."""
    with services().database.begin(caller().org_id) as connection:
        return api_keys.get(connection, org_id=caller().org_id, key_id=api_key_id)


@routes.delete("/v1/api-keys/<api_key_id>", permission="api-keys:write")
def delete_api_key(api_key_id: str) -> None:
    """Revoke a key: its next request is refused."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        key = api_keys.get(connection, org_id=org_id, key_id=api_key_id)
        auth.must_cover(caller(), key["role"], key["scopes"])
        api_keys.revoke(connection, org_id=org_id, key_id=api_key_id)
        audit.changed(connection, "api_key", api_key_id, key, None)
