"""Heartbeats and pings as their organization sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.domain.errors import NotFound
from common.store.engine import Connection

# A new monitor's secret; one that has been a heartbeat before keeps its own.
_CREATE = """
INSERT INTO heartbeats (id, org_id, monitor_no, token_hash, secrets)
SELECT u.id, %(org_id)s, u.monitor_no, u.token_hash, u.secrets
  FROM unnest(%(ids)s::uuid[], %(numbers)s::int[], %(hashes)s::bytea[], %(secrets)s::text[])
       AS u(id, monitor_no, token_hash, secrets)
    ON CONFLICT (id) DO NOTHING
"""

_GET = """
SELECT h.secrets, h.pings, h.heard_at, h.expected_at, h.deadline_at, h.runs
  FROM heartbeats h JOIN monitors m ON m.org_id = h.org_id AND m.id = h.id
 WHERE m.org_id = %(org_id)s AND m.id = %(id)s AND m.deleted_at IS NULL AND m.type = 'heartbeat'
"""
_REPLACE = """
UPDATE heartbeats SET token_hash = %(hash)s, secrets = %(secrets)s WHERE org_id = %(org_id)s AND id = %(id)s
"""

# Newest first; at most a ring of them.
_PINGS = """
SELECT p.n, p.at, p.kind, p.exit_code, p.duration_ms, p.rid::text, p.source, p.body
  FROM monitors m JOIN pings p ON p.monitor_no = m.monitor_no
 WHERE m.org_id = %(org_id)s AND m.id = %(id)s AND m.deleted_at IS NULL AND p.n < %(before)s
 ORDER BY p.n DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A secret to store for a monitor: by its hash, and sealed."""

    monitor_id: str
    monitor_no: int
    token_hash: bytes
    sealed: str


def create(connection: Connection, *, org_id: str, tokens: Sequence[NewToken]) -> None:
    """Give monitors their secrets; those that have one keep it."""
    connection.exec_driver_sql(
        _CREATE,
        {
            "org_id": org_id,
            "ids": [one.monitor_id for one in tokens],
            "numbers": [one.monitor_no for one in tokens],
            "hashes": [one.token_hash for one in tokens],
            "secrets": [one.sealed for one in tokens],
        },
    )


def get(connection: Connection, *, org_id: str, monitor_id: str) -> dict[str, Any]:
    """A heartbeat with its sealed secret. Raises NotFound, also for a monitor of another type."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "id": monitor_id}).mappings().first()
    if row is None:
        raise NotFound("monitor")
    return dict(row)


def replace_token(connection: Connection, *, org_id: str, monitor_id: str, token_hash: bytes, sealed: str) -> None:
    """Another secret from now on."""
    keys = {"org_id": org_id, "id": monitor_id, "hash": token_hash, "secrets": sealed}
    connection.exec_driver_sql(_REPLACE, keys)


def pings(
    connection: Connection, *, org_id: str, monitor_id: str, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """A monitor's newest pings, those numbered below `before`."""
    rows = connection.exec_driver_sql(
        _PINGS, {"org_id": org_id, "id": monitor_id, "before": 2**62 if before is None else before, "limit": limit}
    )
    return [dict(row) for row in rows.mappings()]
