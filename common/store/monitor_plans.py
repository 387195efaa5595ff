"""What plans, applies and exports read of monitors, and the version that an apply leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from common.store import monitor_sets
from common.store.engine import Connection
from common.store.monitors import LIVE, SETTINGS

# Monitors with a key that is not among these, on request only those that carry some labels.
_OTHERS = f"""
SELECT {SETTINGS} FROM monitors m
 WHERE {LIVE} AND m.key IS NOT NULL AND (%(labels)s::jsonb IS NULL OR m.labels @> %(labels)s)
   AND NOT EXISTS (SELECT 1 FROM unnest(%(keys)s::text[]) AS u(key) WHERE u.key = m.key)
 ORDER BY m.key COLLATE "C" LIMIT %(limit)s
"""

# The ids of all that an apply may touch: those with these keys and, on request, those of _OTHERS.
_CONCERNED = f"""
SELECT m.id::text FROM monitors m WHERE {LIVE} AND m.key = ANY(%(keys)s::text[])
 UNION ALL
(SELECT m.id::text FROM monitors m
  WHERE %(prune)s::boolean AND {LIVE} AND m.key IS NOT NULL
    AND (%(labels)s::jsonb IS NULL OR m.labels @> %(labels)s)
    AND NOT EXISTS (SELECT 1 FROM unnest(%(keys)s::text[]) AS u(key) WHERE u.key = m.key)
  ORDER BY m.key COLLATE "C" LIMIT %(limit)s)
"""

# Monitors that have another version than the last apply left.
_DRIFTED = f"""
SELECT m.id::text, m.key, m.name, m.applied_version, m.config_version, m.updated_at FROM monitors m
 WHERE {LIVE} AND m.applied_version IS NOT NULL AND m.applied_version <> m.config_version
   AND (%(labels)s::jsonb IS NULL OR m.labels @> %(labels)s)
 ORDER BY m.key COLLATE "C", m.id LIMIT %(limit)s
"""

# That an apply has seen to these; those that say so already are not written again.
_NOTE = """
UPDATE monitors SET applied_version = config_version
 WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[]) AND applied_version IS DISTINCT FROM config_version
"""

# All monitors by key, those without one last; by bytes, so that it is the same order on every server.
_ALL = f"""
SELECT {SETTINGS} FROM monitors m WHERE {LIVE} AND (%(labels)s::jsonb IS NULL OR m.labels @> %(labels)s)
 ORDER BY m.key COLLATE "C" NULLS LAST, m.name COLLATE "C", m.id
"""

_AT_ONCE = 1_000


def others(
    connection: Connection, *, org_id: str, keys: Sequence[str], labels: Mapping[str, str] | None, limit: int
) -> list[dict[str, Any]]:
    """Monitors with other keys than these, by key."""
    rows = connection.exec_driver_sql(
        _OTHERS, {"org_id": org_id, "keys": list(keys), "labels": _labels(labels), "limit": limit}
    )
    return [dict(row) for row in rows.mappings()]


def lock(  # noqa: PLR0913 - which monitors, as `others` is asked for them
    connection: Connection,
    *,
    org_id: str,
    keys: Sequence[str],
    labels: Mapping[str, str] | None,
    limit: int,
    prune: bool,
) -> set[str]:
    """Lock the monitors with these keys and, with `prune`, up to `limit` of the others, until the transaction ends.

    All in one order, by id, as everybody locks monitors: two sets, each in order, could meet crosswise. The ids of
    those that were locked; what appears meanwhile is not among them.
    """
    parameters = {"org_id": org_id, "keys": list(keys), "labels": _labels(labels), "limit": limit, "prune": prune}
    ids = [row[0] for row in connection.exec_driver_sql(_CONCERNED, parameters)]
    return monitor_sets.lock(connection, org_id=org_id, ids=ids)


def drifted(
    connection: Connection, *, org_id: str, labels: Mapping[str, str] | None, limit: int
) -> list[dict[str, Any]]:
    """Monitors that were changed in another way since an apply saw to them, by key."""
    rows = connection.exec_driver_sql(_DRIFTED, {"org_id": org_id, "labels": _labels(labels), "limit": limit})
    return [dict(row) for row in rows.mappings()]


def note_applied(connection: Connection, *, org_id: str, ids: Sequence[str]) -> None:
    """Remember that these monitors are as an apply wants them."""
    connection.exec_driver_sql(_NOTE, {"org_id": org_id, "ids": list(ids)})


def stream(connection: Connection, *, org_id: str, labels: Mapping[str, str] | None) -> Iterator[dict[str, Any]]:
    """All monitors by key, then those without; one snapshot, a thousand rows in memory."""
    rows = connection.exec_driver_sql(
        _ALL,
        {"org_id": org_id, "labels": _labels(labels)},
        execution_options={"stream_results": True, "yield_per": _AT_ONCE},
    )
    yield from (dict(row) for row in rows.mappings())


def _labels(labels: Mapping[str, str] | None) -> Jsonb | None:
    return None if labels is None else Jsonb(dict(labels))
