"""Organizations as the operator sees them: made, listed, disabled. For the worker's role, which sees them all."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from uuid_utils import uuid7

from common.domain.errors import NotFound
from common.store import api_keys, keyset
from common.store.engine import Connection

_COLUMNS = "id::text, name, disabled_at IS NULL AS enabled, created_at"

_ADD = f"INSERT INTO organizations (id, name) VALUES (%(id)s, %(name)s) RETURNING {_COLUMNS}"

# Newest first; the cursor is the last row's (created_at, id).
_LIST = f"""
SELECT {_COLUMNS} FROM organizations
 WHERE deleted_at IS NULL AND (created_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
 ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_GET = f"SELECT {_COLUMNS} FROM organizations WHERE id = %(id)s AND deleted_at IS NULL"

# Disabled a second time it keeps the first moment.
_CHANGE = f"""
UPDATE organizations
   SET name = %(name)s,
       disabled_at = CASE WHEN NOT %(enabled)s THEN COALESCE(disabled_at, clock_timestamp()) END
 WHERE id = %(id)s AND deleted_at IS NULL
RETURNING {_COLUMNS}
"""


def add(connection: Connection, name: str) -> tuple[dict[str, Any], str]:
    """A new organization, and an API key with which its owner begins."""
    row = dict(connection.exec_driver_sql(_ADD, {"id": str(uuid7()), "name": name}).mappings().one())
    key = api_keys.NewKey(row["id"], "first", "owner")
    api_keys.add(connection, key)
    return row, key.token


def list_page(connection: Connection, *, limit: int, before: tuple[datetime, str] | None) -> list[dict[str, Any]]:
    """Organizations, disabled ones too, newest first."""
    return keyset.page(connection, _LIST, before, {"limit": limit})


def get(connection: Connection, organization_id: str) -> dict[str, Any]:
    """One organization. Raises NotFound."""
    row = connection.exec_driver_sql(_GET, {"id": organization_id}).mappings().first()
    if row is None:
        raise NotFound("organization")
    return dict(row)


def change(connection: Connection, organization_id: str, *, name: str, enabled: bool) -> dict[str, Any]:
    """Rename, disable or enable. Raises NotFound."""
    values = {"id": organization_id, "name": name, "enabled": enabled}
    row = connection.exec_driver_sql(_CHANGE, values).mappings().first()
    if row is None:
        raise NotFound("organization")
    return dict(row)
