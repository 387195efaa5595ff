"""Channels as their organization manages them; the notifier's own store reads and settles them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from common.domain.errors import NotFound
from common.store import keyset, notices
from common.store.engine import Connection

_COLUMNS = """id::text, name, type, config, enabled, is_default, fallback_id::text, cap_count, cap_window_s,
disabled_reason, created_at, updated_at"""

# The first channel of an organization is its default, whatever was asked for: an alert must have somewhere to go.
_ADD = f"""
INSERT INTO channels (id, org_id, name, type, config, secrets, enabled, is_default, fallback_id, cap_count,
                      cap_window_s)
VALUES (%(id)s, %(org_id)s, %(name)s, %(type)s, %(config)s, %(secrets)s, %(enabled)s,
        %(is_default)s OR NOT EXISTS (SELECT 1 FROM channels WHERE org_id = %(org_id)s AND deleted_at IS NULL),
        %(fallback_id)s, %(cap_count)s, %(cap_window_s)s)
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

# The sealed secrets of a channel, for who changes or tries it.
_SECRETS = "SELECT secrets FROM channels WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL"

# A channel that was mended is tried at once: its backoff belonged to what it was before.
_CHANGE = f"""
UPDATE channels
   SET name = %(name)s, config = %(config)s, secrets = %(secrets)s, enabled = %(enabled)s,
       is_default = %(is_default)s, fallback_id = %(fallback_id)s, cap_count = %(cap_count)s,
       cap_window_s = %(cap_window_s)s, updated_at = now(),
       disabled_reason = CASE WHEN %(enabled)s THEN NULL ELSE disabled_reason END,
       failures = CASE WHEN %(mended)s THEN 0 ELSE failures END,
       failing_since = CASE WHEN %(mended)s THEN NULL ELSE failing_since END,
       retry_at = CASE WHEN %(mended)s THEN NULL ELSE retry_at END
 WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING {_COLUMNS}
"""

# Its name and rows stay for the ledger, its fallback for what still waits there; the secret does not.
_DELETE = """
UPDATE channels SET deleted_at = now(), enabled = false, is_default = false, secrets = NULL
 WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
"""
# It and whoever falls back to it, in the order in which everybody locks channels.
_LOCK_WITH_FOLLOWERS = """
SELECT 1 FROM channels WHERE org_id = %(org_id)s AND (id = %(id)s OR fallback_id = %(id)s)
 ORDER BY id FOR NO KEY UPDATE
"""
# Whoever fell back to it has no fallback any more.
_LEAVE = "UPDATE channels SET fallback_id = NULL WHERE org_id = %(org_id)s AND fallback_id = %(id)s"

# A channel and everything that its fallbacks lead to; a loop that is there already ends by UNION.
_CHAIN = """
WITH RECURSIVE chain AS (
  SELECT id, fallback_id FROM channels WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
  UNION
  SELECT c.id, c.fallback_id FROM channels c JOIN chain f ON c.id = f.fallback_id
   WHERE c.org_id = %(org_id)s AND c.deleted_at IS NULL
)
SELECT id::text FROM chain
"""

# The relay keeps an organization's channels and routes by this version.
_MOVE_ROUTING = "UPDATE organizations SET routing_version = routing_version + 1 WHERE id = %(org_id)s"


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """What a user decides about a channel."""

    name: str
    type: str
    config: Mapping[str, Any]
    enabled: bool
    is_default: bool
    fallback_id: str | None = None
    cap_count: int | None = None
    cap_window_s: int | None = None


def add(
    connection: Connection, *, org_id: str, channel_id: str, channel: ChannelConfig, secrets: str | None
) -> dict[str, Any]:
    """Store a channel; `secrets` is sealed already."""
    parameters = {**_values(channel), "type": channel.type, "id": channel_id, "org_id": org_id, "secrets": secrets}
    row = dict(connection.exec_driver_sql(_ADD, parameters).mappings().one())
    connection.exec_driver_sql(_MOVE_ROUTING, {"org_id": org_id})
    return row


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None
) -> list[dict[str, Any]]:
    """Channels, newest first."""
    return keyset.page(connection, _LIST, before, {"org_id": org_id, "limit": limit})


def get(connection: Connection, *, org_id: str, channel_id: str, lock: bool = False) -> dict[str, Any]:
    """One channel, on request locked until the transaction ends. Raises NotFound."""
    row = connection.exec_driver_sql(_LOCK if lock else _GET, {"org_id": org_id, "id": channel_id}).mappings().first()
    if row is None:
        raise NotFound("channel")
    return dict(row)


def secrets(connection: Connection, *, org_id: str, channel_id: str) -> str | None:
    """The sealed secrets of one channel, None when it has none. Raises NotFound."""
    row = connection.exec_driver_sql(_SECRETS, {"org_id": org_id, "id": channel_id}).first()
    if row is None:
        raise NotFound("channel")
    sealed: str | None = row[0]
    return sealed


def fallbacks(connection: Connection, *, org_id: str, channel_id: str) -> set[str]:
    """A channel and everything that its fallbacks lead to; empty when there is no such channel."""
    return {row[0] for row in connection.exec_driver_sql(_CHAIN, {"org_id": org_id, "id": channel_id})}


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a locked channel becomes; `secrets` are sealed, `mended` forgets its failures."""

    channel: ChannelConfig
    secrets: str | None
    mended: bool


def change(connection: Connection, *, org_id: str, channel_id: str, rewrite: Rewrite) -> dict[str, Any]:
    """Write a channel that `get` has locked."""
    parameters = {
        **_values(rewrite.channel),
        "secrets": rewrite.secrets,
        "mended": rewrite.mended,
        "id": channel_id,
        "org_id": org_id,
    }
    row = dict(connection.exec_driver_sql(_CHANGE, parameters).mappings().one())
    connection.exec_driver_sql(_MOVE_ROUTING, {"org_id": org_id})
    if row["enabled"]:
        notices.channel_mended(connection, org_id=org_id, channel_id=channel_id)
    return row


def lock_to_delete(connection: Connection, *, org_id: str, channel_id: str) -> None:
    """Lock a channel and all that deleting it changes, before anything else is locked."""
    connection.exec_driver_sql(_LOCK_WITH_FOLLOWERS, {"org_id": org_id, "id": channel_id})


def delete(connection: Connection, *, org_id: str, channel_id: str) -> None:
    """Delete a channel that `lock_to_delete` has locked, softly. Raises NotFound."""
    if connection.exec_driver_sql(_DELETE, {"org_id": org_id, "id": channel_id}).rowcount == 0:
        raise NotFound("channel")
    connection.exec_driver_sql(_LEAVE, {"org_id": org_id, "id": channel_id})
    connection.exec_driver_sql(_MOVE_ROUTING, {"org_id": org_id})
    notices.channel_mended(connection, org_id=org_id, channel_id=channel_id)


def _values(channel: ChannelConfig) -> dict[str, Any]:
    return {
        "name": channel.name,
        "config": Jsonb(dict(channel.config)),
        "enabled": channel.enabled,
        "is_default": channel.is_default,
        "fallback_id": channel.fallback_id,
        "cap_count": channel.cap_count,
        "cap_window_s": channel.cap_window_s,
    }
