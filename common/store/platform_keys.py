"""Platform keys: `tcsp_<prefix>_<secret>`, the operator's own. They belong to no organization; made by the CLI only."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from uuid_utils import uuid7

from common.store.engine import Connection
from common.store.once import Asks

MARK = "tcsp_"

_COLUMNS = "id::text, name, prefix, created_at, revoked_at"

_ADD = f"""
INSERT INTO platform_keys (id, name, prefix, key_hash) VALUES (%(id)s, %(name)s, %(prefix)s, %(key_hash)s)
RETURNING {_COLUMNS}
"""

# The key that a caller presents, unless it is revoked.
_BY_PREFIX = "SELECT key_id::text, key_hash FROM auth_platform_key(%(prefix)s)"

# All keys, the newest last.
_LIST = f"SELECT {_COLUMNS} FROM platform_keys ORDER BY created_at, id"

# By id or by prefix; one that was revoked before stays as it was.
_REVOKE = """
UPDATE platform_keys SET revoked_at = clock_timestamp()
 WHERE (id::text = %(which)s OR prefix = %(which)s) AND revoked_at IS NULL
RETURNING prefix
"""


@dataclass(frozen=True, slots=True)
class NewPlatformKey:
    """A key that is about to be stored; `token` is what the operator keeps."""

    name: str
    prefix: str = field(default_factory=lambda: secrets.token_hex(6))
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def token(self) -> str:
        """The whole key, shown once."""
        return f"{MARK}{self.prefix}_{self.secret}"


@dataclass(frozen=True, slots=True)
class StoredPlatformKey:
    """A key as it is looked up."""

    id: str
    key_hash: bytes


def split(token: str) -> tuple[str, bytes]:
    """A presented key as its prefix and the hash of its secret."""
    prefix, _, secret = token.removeprefix(MARK).partition("_")
    return prefix, sha256(secret.encode(errors="replace")).digest()


def add(connection: Connection, key: NewPlatformKey) -> dict[str, Any]:
    """Store a key; its row without the secret. As tocsin_owner."""
    parameters = {
        "id": str(uuid7()),
        "name": key.name,
        "prefix": key.prefix,
        "key_hash": sha256(key.secret.encode()).digest(),
    }
    return dict(connection.exec_driver_sql(_ADD, parameters).mappings().one())


def find(connection: Asks, prefix: str) -> StoredPlatformKey | None:
    """The key with this prefix unless it is revoked. The caller compares the hash."""
    row = connection.exec_driver_sql(_BY_PREFIX, {"prefix": prefix}).first()
    return None if row is None else StoredPlatformKey(row[0], bytes(row[1]))


def list_all(connection: Connection) -> list[dict[str, Any]]:
    """Every key, revoked ones too, without secrets. As tocsin_owner."""
    return [dict(row) for row in connection.exec_driver_sql(_LIST).mappings()]


def revoke(connection: Connection, which: str) -> str | None:
    """Make a key useless, at once; its prefix, or None when there is none of this id or prefix. As tocsin_owner."""
    prefix: str | None = connection.exec_driver_sql(_REVOKE, {"which": which}).scalar()
    return prefix
