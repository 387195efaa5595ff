"""Channels as their organization manages them; the notifier's own store reads and settles them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from common.domain.errors import NotFound
from common.store.engine import Connection
from common.store.keyset import BEGINNING

_COLUMNS = "id::text, name, type, config, enabled, is_default, created_at, updated_at"

# The first channel of an organization is its default, whatever was asked for: an alert must have somewhere to go.
_ADD = f"""
INSERT INTO channels (id, org_id, name, type, config, secrets, enabled, is_default)
VALUES (%(id)s, %(org_id)s, %(name)s, %(type)s, %(config)s, %(secrets)s, %(enabled)s,
        %(is_default)s OR NOT EXISTS (SELECT 1 FROM channels WHERE org_id = %(org_id)s AND deleted_at IS NULL))
RETURNING {_COLUMNS}
"""

# Newest first; the cursor is the last row's (created_at, id).
_LIST = f"""
SELECT {_COLUMNS} FROM channels
 WHERE org_id = %(org_id)s AND deleted_at IS NULL
   AND (created_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
 ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_GET = f"SELECT {_COLUMNS} FROM channels WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL"
# Read to change: other keys of the row (it is a parent of notifications) stay free to be referenced.
_LOCK = f"{_GET} FOR NO KEY UPDATE"

# A channel that was mended is tried at once: its backoff belonged to what it was before.
_CHANGE = f"""
UPDATE channels
   SET name = %(name)s, config = %(config)s, enabled = %(enabled)s, is_default = %(is_default)s, updated_at = now(),
       failures = CASE WHEN %(mended)s THEN 0 ELSE failures END,
       failing_since = CASE WHEN %(mended)s THEN NULL ELSE failing_since END,
       retry_at = CASE WHEN %(mended)s THEN NULL ELSE retry_at END
 WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING {_COLUMNS}
"""

# Its name and rows stay for the ledger; the secret does not.
_DELETE = """
UPDATE channels SET deleted_at = now(), enabled = false, is_default = false, secrets = NULL
 WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """What a user decides about a channel."""

    name: str
    type: str
    config: Mapping[str, Any]
    enabled: bool
    is_default: bool


def add(
    connection: Connection, *, org_id: str, channel_id: str, channel: ChannelConfig, secrets: str
) -> dict[str, Any]:
    """Store a channel; `secrets` is sealed already."""
    parameters = {**_values(channel), "type": channel.type, "id": channel_id, "org_id": org_id, "secrets": secrets}
    return dict(connection.exec_driver_sql(_ADD, parameters).mappings().one())


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None
) -> list[dict[str, Any]]:
    """Channels, newest first."""
    before_at, before_id = before or BEGINNING
    rows = connection.exec_driver_sql(
        _LIST, {"org_id": org_id, "limit": limit, "before_at": before_at, "before_id": before_id}
    )
    return [dict(row) for row in rows.mappings()]


def get(connection: Connection, *, org_id: str, channel_id: str, lock: bool = False) -> dict[str, Any]:
    """One channel, on request locked until the transaction ends. Raises NotFound."""
    row = connection.exec_driver_sql(_LOCK if lock else _GET, {"org_id": org_id, "id": channel_id}).mappings().first()
    if row is None:
        raise NotFound("channel")
    return dict(row)


def change(
    connection: Connection, *, org_id: str, channel_id: str, channel: ChannelConfig, mended: bool
) -> dict[str, Any]:
    """Write a channel that `get` has locked. `mended` forgets its failures."""
    parameters = {**_values(channel), "mended": mended, "id": channel_id, "org_id": org_id}
    return dict(connection.exec_driver_sql(_CHANGE, parameters).mappings().one())


def delete(connection: Connection, *, org_id: str, channel_id: str) -> None:
    """Delete a channel, softly. Raises NotFound."""
    if connection.exec_driver_sql(_DELETE, {"org_id": org_id, "id": channel_id}).rowcount == 0:
        raise NotFound("channel")


def _values(channel: ChannelConfig) -> dict[str, Any]:
    return {
        "name": channel.name,
        "config": Jsonb(dict(channel.config)),
        "enabled": channel.enabled,
        "is_default": channel.is_default,
    }
