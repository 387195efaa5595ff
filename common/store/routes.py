"""Routes as their organization manages them; who changes some holds the organization's row (routing_versions)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from common.domain.errors import NotFound
from common.store import cooldown_ends, reminders
from common.store.engine import Connection

#: A position behind every route.
LAST = 2**31 - 1

# Places are counted, not read: they have no gaps, whatever wrote the rows. An organization has few routes.
_ORDERED = """
WITH ordered AS (
  SELECT *, row_number() OVER (ORDER BY position, id) AS place FROM routes
   WHERE org_id = %(org_id)s AND deleted_at IS NULL
)
SELECT id::text, name, place - 1 AS position, match, matchers, channel_ids::text[] AS channel_ids, cooldown_s, group_by,
       group_wait_s, group_interval_s, repeat_interval_s, continues, enabled, created_at, updated_at
  FROM ordered
"""
# In order of their places; NULL: no limit.
_LIST = f"{_ORDERED} WHERE place > %(after)s ORDER BY place LIMIT %(limit)s::int"
_GET = f"{_ORDERED} WHERE id = %(id)s"

_COUNT = "SELECT count(*) FROM routes WHERE org_id = %(org_id)s AND deleted_at IS NULL"

_ADD = """
INSERT INTO routes (id, org_id, name, position, match, matchers, channel_ids, cooldown_s, group_by, group_wait_s,
                    group_interval_s, repeat_interval_s, continues, enabled)
VALUES (%(id)s, %(org_id)s, %(name)s, %(position)s, %(match)s, %(matchers)s, %(channel_ids)s::uuid[], %(cooldown_s)s,
        %(group_by)s::text[], %(group_wait_s)s, %(group_interval_s)s, %(repeat_interval_s)s, %(continues)s, %(enabled)s)
"""
_CHANGE = """
UPDATE routes
   SET name = %(name)s, match = %(match)s, matchers = %(matchers)s, channel_ids = %(channel_ids)s::uuid[],
       cooldown_s = %(cooldown_s)s, group_by = %(group_by)s::text[], group_wait_s = %(group_wait_s)s,
       group_interval_s = %(group_interval_s)s, repeat_interval_s = %(repeat_interval_s)s, continues = %(continues)s,
       enabled = %(enabled)s, updated_at = now()
 WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
"""
_DELETE = "UPDATE routes SET deleted_at = now() WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL"

# All routes as they stand, and new places for some: {id: place}. Not joined: of rows that are new the planner knows too
# little, and would compare each with each.
_PLACES = "SELECT id::text, position FROM routes WHERE org_id = %(org_id)s AND deleted_at IS NULL ORDER BY position, id"
_MOVE = """
UPDATE routes SET position = (%(places)s::jsonb ->> id::text)::int
 WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[])
"""

# Which of these channels there are.
_CHANNELS = """
SELECT id::text FROM channels WHERE org_id = %(org_id)s AND deleted_at IS NULL AND id = ANY(%(ids)s::uuid[])
"""
# These channels, deleted ones too, and the default ones.
_REACHED = """
SELECT id::text, name, type, enabled AND deleted_at IS NULL AS enabled, is_default AND deleted_at IS NULL AS is_default,
       deleted_at IS NOT NULL AS deleted
  FROM channels
 WHERE org_id = %(org_id)s AND (id = ANY(%(ids)s::uuid[]) OR (is_default AND deleted_at IS NULL))
 ORDER BY created_at, id
"""
# Until when routes stay silent about a problem that they have announced.
_COOLDOWNS = """
SELECT r.id::text, c.last_at + r.cooldown_s * interval '1 second'
  FROM route_cooldowns c JOIN routes r ON r.org_id = c.org_id AND r.id = c.route_id
 WHERE c.org_id = %(org_id)s AND c.dedup_key = %(dedup_key)s AND r.deleted_at IS NULL
   AND c.last_at + r.cooldown_s * interval '1 second' > statement_timestamp()
"""


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """What a user decides about a route, except for its place."""

    name: str
    match: Mapping[str, str]
    matchers: Sequence[Mapping[str, str]]
    channel_ids: Sequence[str]
    cooldown_s: int
    group_by: Sequence[str] | None
    group_wait_s: int
    group_interval_s: int
    repeat_interval_s: int | None
    continues: bool
    enabled: bool


def add(connection: Connection, *, org_id: str, route_id: str, route: RouteConfig, position: int) -> dict[str, Any]:
    """Store a route at this position, or at the end if that comes first; later ones move down."""
    keys = {"org_id": org_id, "id": route_id, "position": position}
    connection.exec_driver_sql(_ADD, {**_values(route), **keys})
    _arrange(connection, org_id, route_id, position)
    return get(connection, org_id=org_id, route_id=route_id)


def list_page(connection: Connection, *, org_id: str, limit: int | None = None, after: int = 0) -> list[dict[str, Any]]:
    """Routes in order, without the first `after`; all without a limit."""
    rows = connection.exec_driver_sql(_LIST, {"org_id": org_id, "limit": limit, "after": after})
    return [dict(row) for row in rows.mappings()]


def count(connection: Connection, *, org_id: str) -> int:
    """How many routes there are."""
    return int(connection.exec_driver_sql(_COUNT, {"org_id": org_id}).scalar_one())


def get(connection: Connection, *, org_id: str, route_id: str) -> dict[str, Any]:
    """One route. Raises NotFound."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "id": route_id}).mappings().first()
    if row is None:
        raise NotFound("route")
    return dict(row)


def change(connection: Connection, *, org_id: str, route_id: str, route: RouteConfig, position: int) -> dict[str, Any]:
    """Write a route and move it to this position. Raises NotFound."""
    before = get(connection, org_id=org_id, route_id=route_id)
    connection.exec_driver_sql(_CHANGE, {**_values(route), "org_id": org_id, "id": route_id})
    _arrange(connection, org_id, route_id, position)
    if route.repeat_interval_s != before["repeat_interval_s"]:
        reminders.replan(connection, org_id=org_id, route_id=route_id)
    if route.cooldown_s < before["cooldown_s"]:
        cooldown_ends.look_again(connection, org_id=org_id, route_id=route_id)
    return get(connection, org_id=org_id, route_id=route_id)


def delete(connection: Connection, *, org_id: str, route_id: str) -> None:
    """Delete a route, softly; later ones move up. Raises NotFound."""
    if connection.exec_driver_sql(_DELETE, {"org_id": org_id, "id": route_id}).rowcount == 0:
        raise NotFound("route")
    _arrange(connection, org_id, route_id, LAST)


def present_channels(connection: Connection, *, org_id: str, ids: Collection[str]) -> set[str]:
    """Which of these channels there are in this organization."""
    return {row[0] for row in connection.exec_driver_sql(_CHANNELS, {"org_id": org_id, "ids": list(ids)})}


def reached_channels(connection: Connection, *, org_id: str, ids: Collection[str]) -> list[dict[str, Any]]:
    """These channels, deleted ones (as disabled) too, and the organization's default ones."""
    rows = connection.exec_driver_sql(_REACHED, {"org_id": org_id, "ids": list(ids)})
    return [dict(row) for row in rows.mappings()]


def cooldowns(connection: Connection, *, org_id: str, dedup_key: str) -> dict[str, datetime]:
    """{route: until when it stays silent about this problem}; without those that do not."""
    rows = connection.exec_driver_sql(_COOLDOWNS, {"org_id": org_id, "dedup_key": dedup_key})
    return {row[0]: row[1] for row in rows}


def _arrange(connection: Connection, org_id: str, route_id: str, position: int) -> None:
    """Give all routes their places: this one the wanted one, at most the last, the others around it in their order."""
    before = {row[0]: row[1] for row in connection.exec_driver_sql(_PLACES, {"org_id": org_id})}
    order = [id_ for id_ in before if id_ != route_id]
    if route_id in before:
        order.insert(position, route_id)
    places = {id_: place for place, id_ in enumerate(order) if before[id_] != place}
    if places:
        connection.exec_driver_sql(_MOVE, {"org_id": org_id, "ids": list(places), "places": Jsonb(places)})


def _values(route: RouteConfig) -> dict[str, Any]:
    return {
        "name": route.name,
        "match": Jsonb(dict(route.match)),
        "matchers": Jsonb([dict(matcher) for matcher in route.matchers]),
        "channel_ids": list(route.channel_ids),
        "cooldown_s": route.cooldown_s,
        "group_by": None if route.group_by is None else list(route.group_by),
        "group_wait_s": route.group_wait_s,
        "group_interval_s": route.group_interval_s,
        "repeat_interval_s": route.repeat_interval_s,
        "continues": route.continues,
        "enabled": route.enabled,
    }
