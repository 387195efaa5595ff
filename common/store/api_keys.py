"""API keys: `tcs_<prefix>_<secret>`. The prefix finds the row, the secret is stored only as its SHA-256.

The secret has 256 random bits, so a fast hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from uuid_utils import uuid7

from common.domain.errors import NotFound
from common.store import keyset
from common.store.engine import Connection
from common.store.once import Asks

MARK = "tcs_"

_COLUMNS = "id::text, name, prefix, role, scopes, created_by::text, created_at, expires_at, last_used_at"

_ADD = f"""
INSERT INTO api_keys (id, org_id, name, prefix, key_hash, role, scopes, created_by, expires_at)
VALUES (%(id)s, %(org_id)s, %(name)s, %(prefix)s, %(key_hash)s, %(role)s, %(scopes)s, %(created_by)s, %(expires_at)s)
RETURNING {_COLUMNS}
"""

# The key that a caller presents, before its organization is known.
_BY_PREFIX = """
SELECT key_id::text, org_id::text, role, scopes, key_hash, expires_at <= clock_timestamp(),
       last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute'
  FROM auth_key(%(prefix)s)
"""

# At most once a minute: a busy key would otherwise rewrite its row at every request. Of two at once, one writes.
_TOUCH = """
UPDATE api_keys SET last_used_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND id = %(id)s
   AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
"""

# Newest first; the cursor is the last row's (created_at, id).
_LIST = f"""
SELECT {_COLUMNS} FROM api_keys
 WHERE org_id = %(org_id)s AND revoked_at IS NULL
   AND (created_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
 ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_GET = f"SELECT {_COLUMNS} FROM api_keys WHERE org_id = %(org_id)s AND id = %(id)s AND revoked_at IS NULL"
_REVOKE = "UPDATE api_keys SET revoked_at = clock_timestamp() WHERE org_id = %(org_id)s AND id = %(id)s"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is about to be stored; `token` is what its owner keeps."""

    org_id: str
    name: str
    role: str
    created_by: str | None = None
    expires_at: datetime | None = None
    scopes: Sequence[str] | None = None  # None: everything that the role may do
    prefix: str = field(default_factory=lambda: secrets.token_hex(6))
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def token(self) -> str:
        """The whole key, shown once."""
        return f"{MARK}{self.prefix}_{self.secret}"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is looked up. `idle`: its last use is worth writing down again."""

    id: str
    org_id: str
    role: str
    scopes: Sequence[str] | None
    key_hash: bytes
    expired: bool
    idle: bool


def split(token: str) -> tuple[str, bytes]:
    """A presented key as its prefix and the hash of its secret."""
    prefix, _, secret = token.removeprefix(MARK).partition("_")
    return prefix, sha256(secret.encode(errors="replace")).digest()


def add(connection: Connection, key: NewKey) -> dict[str, Any]:
    """Store a key; its row without the secret."""
    parameters = {
        "id": str(uuid7()),
        "org_id": key.org_id,
        "name": key.name,
        "prefix": key.prefix,
        "key_hash": sha256(key.secret.encode()).digest(),
        "role": key.role,
        "scopes": None if key.scopes is None else list(key.scopes),
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }
    return dict(connection.exec_driver_sql(_ADD, parameters).mappings().one())


def find(connection: Asks, prefix: str) -> StoredKey | None:
    """The key with this prefix unless it is revoked; needs no organization. The caller compares the hash."""
    row = connection.exec_driver_sql(_BY_PREFIX, {"prefix": prefix}).first()
    if row is None:
        return None
    return StoredKey(row[0], row[1], row[2], row[3], bytes(row[4]), expired=bool(row[5]), idle=row[6])


def touch(connection: Connection, *, org_id: str, key_id: str) -> None:
    """Note that the key was used."""
    connection.exec_driver_sql(_TOUCH, {"org_id": org_id, "id": key_id})


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None
) -> list[dict[str, Any]]:
    """Keys that are not revoked, newest first."""
    return keyset.page(connection, _LIST, before, {"org_id": org_id, "limit": limit})


def get(connection: Connection, *, org_id: str, key_id: str) -> dict[str, Any]:
    """One key that is not revoked. Raises NotFound."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "id": key_id}).mappings().first()
    if row is None:
        raise NotFound("api key")
    return dict(row)


def revoke(connection: Connection, *, org_id: str, key_id: str) -> None:
    """Make a key useless, at once."""
    connection.exec_driver_sql(_REVOKE, {"org_id": org_id, "id": key_id})
