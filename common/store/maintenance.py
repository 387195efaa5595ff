"""Maintenance windows as their organization manages them. Which monitors one covers, and when: maintenance_cover.

Who changes one holds the organization's row (routing_versions) and then the window's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from common.domain.errors import NotFound
from common.domain.maintenance import Occurrence, Schedule, stored
from common.store import keyset
from common.store.arrays import words
from common.store.engine import Connection

_STATE = """CASE WHEN begins_at IS NULL THEN 'ended'
     WHEN begins_at > statement_timestamp() THEN 'pending'
     WHEN ends_at > statement_timestamp() THEN 'active'
     WHEN schedule ->> 'type' = 'once' THEN 'ended' ELSE 'pending' END"""
_COLUMNS = f"""id::text, name, comment, schedule, monitor_ids::text[], matchers, until_healthy, healthy_for_s,
created_by, begins_at, ends_at, {_STATE} AS state, created_at, updated_at"""

_ADD = f"""
INSERT INTO maintenance_windows (id, org_id, name, comment, schedule, monitor_ids, matchers, until_healthy,
                                 healthy_for_s, created_by, begins_at, ends_at, planned_end, cover_from)
VALUES (%(id)s, %(org_id)s, %(name)s, %(comment)s, %(schedule)s, %(monitor_ids)s::uuid[], %(matchers)s,
        %(until_healthy)s, %(healthy_for_s)s, %(created_by)s, %(begins_at)s, %(ends_at)s, %(ends_at)s, %(now)s)
RETURNING {_COLUMNS}
"""

# The newest first; the cursor is the last row's (created_at, id). A filter that is NULL does not filter.
_LIST = f"""
SELECT {_COLUMNS} FROM maintenance_windows
 WHERE org_id = %(org_id)s AND deleted_at IS NULL
   AND (created_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
   AND (%(state)s::text[] IS NULL OR {_STATE} = ANY(%(state)s::text[]))
 ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_GET = f"""
SELECT {_COLUMNS} FROM maintenance_windows WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
"""
_LOCK = """
SELECT 1 FROM maintenance_windows WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL FOR NO KEY UPDATE
"""
_COUNT = """
SELECT count(*) FROM maintenance_windows
 WHERE org_id = %(org_id)s AND deleted_at IS NULL AND ends_at > statement_timestamp()
"""

# Its monitors are looked at anew, all of them.
_CHANGE = f"""
UPDATE maintenance_windows
   SET name = %(name)s, comment = %(comment)s, schedule = %(schedule)s, monitor_ids = %(monitor_ids)s::uuid[],
       matchers = %(matchers)s, until_healthy = %(until_healthy)s, healthy_for_s = %(healthy_for_s)s,
       begins_at = %(begins_at)s, ends_at = %(ends_at)s, planned_end = %(ends_at)s, covered = false, covered_to = 0,
       cover_from = %(now)s, updated_at = statement_timestamp()
 WHERE org_id = %(org_id)s AND id = %(id)s
RETURNING {_COLUMNS}
"""
# The occurrence that comes next; `planned_end` stays if none does.
_MOVE_ON = """
UPDATE maintenance_windows
   SET begins_at = %(begins_at)s, ends_at = %(ends_at)s, planned_end = coalesce(%(ends_at)s, planned_end),
       covered = false, covered_to = 0, cover_from = NULL
 WHERE id = %(id)s
"""
_END_NOW = (
    "UPDATE maintenance_windows SET ends_at = greatest(begins_at, %(now)s) WHERE id = %(id)s AND ends_at > %(now)s"
)
_DELETE = """
UPDATE maintenance_windows SET deleted_at = statement_timestamp(), begins_at = NULL, ends_at = NULL WHERE id = %(id)s
"""

_THERE = """
SELECT id::text FROM monitors WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[]) AND deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """What a user decides about a window, and the occurrence that comes of it (None: none comes any more)."""

    name: str
    comment: str
    schedule: Schedule
    monitor_ids: Sequence[str]
    matchers: Sequence[Mapping[str, str]]
    until_healthy: bool
    healthy_for_s: int
    occurrence: Occurrence | None


def add(  # noqa: PLR0913 - which, when, whose
    connection: Connection, window: WindowConfig, now: datetime, *, org_id: str, window_id: str, created_by: str
) -> dict[str, Any]:
    """Store a window."""
    parameters = {**_values(window), "now": now, "org_id": org_id, "id": window_id, "created_by": created_by}
    return dict(connection.exec_driver_sql(_ADD, parameters).mappings().one())


def list_page(
    connection: Connection,
    *,
    org_id: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    state: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Windows in these states (None: all), the newest first."""
    parameters = {"org_id": org_id, "limit": limit, "state": None if state is None else list(state)}
    return keyset.page(connection, _LIST, before, parameters)


def count(connection: Connection, *, org_id: str) -> int:
    """How many are on or still come."""
    return int(connection.exec_driver_sql(_COUNT, {"org_id": org_id}).scalar_one())


def get(connection: Connection, *, org_id: str, window_id: str, lock: bool = False) -> dict[str, Any]:
    """One window, on request locked until the transaction ends. Raises NotFound."""
    keys = {"org_id": org_id, "id": window_id}
    if lock:
        connection.exec_driver_sql(_LOCK, keys)
    row = connection.exec_driver_sql(_GET, keys).mappings().first()
    if row is None:
        raise NotFound("maintenance")
    return dict(row)


def change(
    connection: Connection, window: WindowConfig, now: datetime, *, org_id: str, window_id: str
) -> dict[str, Any]:
    """Write a window that there is and that is locked."""
    parameters = {**_values(window), "now": now, "org_id": org_id, "id": window_id}
    return dict(connection.exec_driver_sql(_CHANGE, parameters).mappings().one())


def move_on(connection: Connection, window_id: str, occurrence: Occurrence | None) -> None:
    """This occurrence comes next."""
    begins_at, ends_at = (None, None) if occurrence is None else (occurrence.begins_at, occurrence.ends_at)
    connection.exec_driver_sql(_MOVE_ON, {"id": window_id, "begins_at": begins_at, "ends_at": ends_at})


def end_now(connection: Connection, window_id: str, now: datetime) -> None:
    """The occurrence that is on is over."""
    connection.exec_driver_sql(_END_NOW, {"id": window_id, "now": now})


def delete(connection: Connection, window_id: str) -> None:
    """It is gone, but for what it covered."""
    connection.exec_driver_sql(_DELETE, {"id": window_id})


def present_monitors(connection: Connection, *, org_id: str, ids: Collection[str]) -> set[str]:
    """Those of these monitors that the organization has."""
    rows = connection.exec_driver_sql(_THERE, {"org_id": org_id, "ids": words(ids)})
    return {row[0] for row in rows}


def _values(window: WindowConfig) -> dict[str, Any]:
    occurrence = window.occurrence
    return {
        "name": window.name,
        "comment": window.comment,
        "schedule": Jsonb(stored(window.schedule)),
        "monitor_ids": list(window.monitor_ids),
        "matchers": Jsonb([dict(matcher) for matcher in window.matchers]),
        "until_healthy": window.until_healthy,
        "healthy_for_s": window.healthy_for_s,
        "begins_at": None if occurrence is None else occurrence.begins_at,
        "ends_at": None if occurrence is None else occurrence.ends_at,
    }
