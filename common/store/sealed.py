"""Sealed secrets wherever they stand, for sealing them anew: in pieces, each locked while it is worked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from common.store.engine import Connection

#: {table with a column `secrets`: what its owners' identities begin with}
OWNERS: Mapping[str, str] = MappingProxyType(
    {
        "channels": "channel",
        "heartbeats": "heartbeat",
        "idempotency_keys": "idempotency-key",
        "monitors": "monitor",
    }
)

# The next rows with a secret, in order of ids. Locked, so that nobody writes a new secret between our read and write.
_TAKE = """
SELECT id::text, org_id::text, secrets FROM {table}
 WHERE secrets IS NOT NULL AND id > %(after)s::uuid ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE
"""
_WRITE = """
UPDATE {table} t SET secrets = u.token FROM unnest(%(ids)s::uuid[], %(tokens)s::text[]) AS u(id, token)
 WHERE t.id = u.id
"""

#: Before every id.
FIRST = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A row's secret and whom it was sealed for."""

    id: str
    owner: str
    token: str


def take(connection: Connection, table: str, *, after: str, limit: int) -> list[Sealed]:
    """The next secrets of a table, locked until the transaction ends."""
    rows = connection.exec_driver_sql(_TAKE.format(table=table), {"after": after, "limit": limit})
    return [Sealed(row[0], f"{OWNERS[table]}:{row[1]}:{row[0]}", row[2]) for row in rows]


def write(connection: Connection, table: str, tokens: Sequence[tuple[str, str]]) -> None:
    """Store (id, token) pairs of rows that `take` has locked."""
    ids, sealed = [id_ for id_, _ in tokens], [token for _, token in tokens]
    connection.exec_driver_sql(_WRITE.format(table=table), {"ids": ids, "tokens": sealed})
