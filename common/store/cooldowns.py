"""When a route last announced a problem, by dedup_key."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from common.store.arrays import texts, words
from common.store.engine import Connection

#: How long they are kept: longer than any cooldown lasts.
RETENTION_DAYS = 8

Key = tuple[str, str]
"""(route, dedup_key)"""

# When these routes announced these problems.
_LAST = """
SELECT u.route_id::text, u.dedup_key, c.last_at
  FROM unnest(%(routes)s::uuid[], %(keys)s::text[]) AS u(route_id, dedup_key)
  JOIN route_cooldowns c ON c.route_id = u.route_id AND c.dedup_key = u.dedup_key
"""

# They do so now; in one order, although whoever holds their organization is alone.
_NOTE = """
INSERT INTO route_cooldowns AS c (route_id, org_id, dedup_key, last_at)
SELECT r.id, r.org_id, u.dedup_key, %(now)s
  FROM unnest(%(routes)s::uuid[], %(keys)s::text[]) AS u(route_id, dedup_key) JOIN routes r ON r.id = u.route_id
 ORDER BY r.id, u.dedup_key
    ON CONFLICT (route_id, dedup_key) DO UPDATE SET last_at = greatest(c.last_at, excluded.last_at)
"""

# What no cooldown can ask for any more, some at a time.
_FORGET = """
DELETE FROM route_cooldowns WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM route_cooldowns WHERE last_at < now() - %(days)s * interval '1 day' LIMIT %(limit)s))
"""


def last(connection: Connection, keys: Collection[Key]) -> dict[Key, datetime]:
    """When these were announced, as far as they were."""
    if not keys:
        return {}
    return {(row[0], row[1]): row[2] for row in connection.exec_driver_sql(_LAST, _columns(keys))}


def note(connection: Connection, keys: Collection[Key], now: datetime) -> None:
    """These are announced now."""
    if keys:
        connection.exec_driver_sql(_NOTE, {**_columns(keys), "now": now})


def forget(connection: Connection, *, days: int = RETENTION_DAYS, limit: int = 50_000) -> int:
    """Delete what is older than any cooldown; how many. Fewer than `limit`: none is left."""
    return connection.exec_driver_sql(_FORGET, {"days": days, "limit": limit}).rowcount


def _columns(keys: Collection[Key]) -> dict[str, str]:
    return {"routes": words(route for route, _ in keys), "keys": texts(key for _, key in keys)}
