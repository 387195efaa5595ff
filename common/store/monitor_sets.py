"""Monitors written many at a time: one statement for all of them, in the order of their ids or keys.

Rows travel as one JSON document each way in, which costs PostgreSQL less than an array per column and reads better.
Who changes or deletes monitors has locked them, all at once: by `lock`, or by `of_ids`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.store.engine import Connection
from common.store.monitors import LIVE, SETTINGS, STATE, STATE_TABLES, MonitorSettings

_COLUMNS = """
id uuid, key text, name text, type text, target text, interval_s integer, timeout_s double precision,
failure_threshold smallint, recovery_threshold smallint, retry_interval_s integer, severity text, labels jsonb,
location_ids smallint[], quorum smallint, enabled boolean, parent_id uuid, options jsonb, secrets text, assertions jsonb
"""
_NAMES = """
key, name, type, target, interval_s, timeout_s, failure_threshold, recovery_threshold, retry_interval_s, severity,
labels, location_ids, quorum, enabled, parent_id, options, secrets, assertions
"""

# New monitors, by key, so that two who add the same ones wait for each other in one order. One whose key is taken is
# absent from the answer. Times are cut to the millisecond, which is all that slots and messages carry.
_ADD = f"""
INSERT INTO monitors (id, org_id, {_NAMES}, check_from)
SELECT u.id, %(org_id)s, {_NAMES}, date_trunc('milliseconds', clock_timestamp())
  FROM json_to_recordset(%(rows)s::json) AS u({_COLUMNS}) ORDER BY u.key, u.id
    ON CONFLICT (org_id, key) WHERE key IS NOT NULL AND deleted_at IS NULL DO NOTHING
RETURNING id::text, monitor_no
"""

# New settings under the next config_version. `check_now` gives a monitor a slot of its own: it is checked at once.
_CHANGE = f"""
UPDATE monitors m
   SET ({_NAMES}, config_version, check_from) = ROW(
       u.key, u.name, u.type, u.target, u.interval_s, u.timeout_s, u.failure_threshold, u.recovery_threshold,
       u.retry_interval_s, u.severity, u.labels, u.location_ids, u.quorum, u.enabled, u.parent_id, u.options, u.secrets,
       u.assertions, m.config_version + 1,
       CASE WHEN u.check_now THEN date_trunc('milliseconds', clock_timestamp()) ELSE m.check_from END)
  FROM json_to_recordset(%(rows)s::json) AS u({_COLUMNS}, check_now boolean)
 WHERE m.org_id = %(org_id)s AND m.id = u.id
"""

# Softly: results and incidents stay, the keys are free again.
_DELETE = """
UPDATE monitors SET deleted_at = now(), config_version = config_version + 1, secrets = NULL
 WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[])
"""

# Read to change. NO KEY: the writer opens incidents that reference these rows, while it holds votes that we want next.
_LOCK = (
    f"SELECT m.id::text FROM monitors m WHERE {LIVE} AND m.id = ANY(%(ids)s::uuid[]) ORDER BY m.id FOR NO KEY UPDATE"
)

_OF_IDS = f"SELECT {SETTINGS} FROM monitors m WHERE {LIVE} AND m.id = ANY(%(ids)s::uuid[]) ORDER BY m.id"
_OF_KEYS = f"SELECT {SETTINGS} FROM monitors m WHERE {LIVE} AND m.key = ANY(%(keys)s::text[]) ORDER BY m.id"
_WITH_STATES = f"""
SELECT {SETTINGS}, {STATE} FROM monitors m {STATE_TABLES} WHERE {LIVE} AND m.id = ANY(%(ids)s::uuid[]) ORDER BY m.id
"""

# Two changes that each put one monitor above another wait for each other: together they might make a loop.
_LOCK_PARENTS = "SELECT pg_advisory_xact_lock(hashtextextended(%(org_id)s || '/parents', 7305061973))"

# Monitors with everything above them; a loop that is there already ends by UNION.
_ANCESTRY = """
WITH RECURSIVE above AS (
  SELECT id, parent_id FROM monitors WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[]) AND deleted_at IS NULL
  UNION
  SELECT m.id, m.parent_id FROM monitors m JOIN above a ON m.id = a.parent_id WHERE m.org_id = %(org_id)s
)
SELECT id::text, parent_id::text FROM above
"""


@dataclass(frozen=True, slots=True)
class NewMonitor:
    """A monitor to store. `sealed` are the settings' secrets, encrypted."""

    id: str
    settings: MonitorSettings
    sealed: str | None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """New settings for a locked monitor."""

    monitor_id: str
    settings: MonitorSettings
    sealed: str | None
    check_now: bool


def add(connection: Connection, *, org_id: str, monitors: Sequence[NewMonitor]) -> dict[str, int]:
    """Store monitors; {id: monitor_no} of those whose key was not taken."""
    rows = [{**_values(new.settings), "id": new.id, "secrets": new.sealed} for new in monitors]
    made = connection.exec_driver_sql(_ADD, {"org_id": org_id, "rows": _json(rows)})
    return {row[0]: row[1] for row in made}


def change(connection: Connection, *, org_id: str, rewrites: Sequence[Rewrite]) -> None:
    """Write new settings under the next config_version of each."""
    rows = [
        {**_values(one.settings), "id": one.monitor_id, "secrets": one.sealed, "check_now": one.check_now}
        for one in rewrites
    ]
    connection.exec_driver_sql(_CHANGE, {"org_id": org_id, "rows": _json(rows)})


def delete(connection: Connection, *, org_id: str, ids: Sequence[str]) -> None:
    """Delete monitors, softly; their keys are free again."""
    connection.exec_driver_sql(_DELETE, {"org_id": org_id, "ids": list(ids)})


def lock(connection: Connection, *, org_id: str, ids: Sequence[str]) -> set[str]:
    """Lock monitors in order of ids until the transaction ends; the ids of those that exist."""
    return {row[0] for row in connection.exec_driver_sql(_LOCK, {"org_id": org_id, "ids": list(ids)})}


def of_ids(connection: Connection, *, org_id: str, ids: Sequence[str], lock: bool = False) -> list[dict[str, Any]]:
    """The settings of those that exist, in order of ids, on request locked until the transaction ends."""
    keys = {"org_id": org_id, "ids": list(ids)}
    if lock:
        connection.exec_driver_sql(_LOCK, keys)
    return [dict(row) for row in connection.exec_driver_sql(_OF_IDS, keys).mappings()]


def of_keys(connection: Connection, *, org_id: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The same by keys, never locked."""
    wanted = {"org_id": org_id, "keys": list(keys)}
    return [dict(row) for row in connection.exec_driver_sql(_OF_KEYS, wanted).mappings()]


def with_states(connection: Connection, *, org_id: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Monitors with their states, by id."""
    rows = connection.exec_driver_sql(_WITH_STATES, {"org_id": org_id, "ids": list(ids)})
    return {row["id"]: dict(row) for row in rows.mappings()}


def lock_parents(connection: Connection, *, org_id: str) -> None:
    """Have the organization's parents changed by nobody else until the transaction ends; read ancestry after this."""
    connection.exec_driver_sql(_LOCK_PARENTS, {"org_id": org_id})


def ancestry(connection: Connection, *, org_id: str, ids: Sequence[str]) -> dict[str, str | None]:
    """{id: parent's id} of those of these monitors that exist, and of everything above them."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_ANCESTRY, {"org_id": org_id, "ids": list(ids)})}


def _values(settings: MonitorSettings) -> dict[str, Any]:
    return {
        "key": settings.key,
        "name": settings.name,
        "type": settings.type,
        "target": settings.target,
        "interval_s": settings.interval_s,
        "timeout_s": settings.timeout_s,
        "failure_threshold": settings.failure_threshold,
        "recovery_threshold": settings.recovery_threshold,
        "retry_interval_s": settings.retry_interval_s,
        "severity": settings.severity,
        "labels": dict(settings.labels),
        "location_ids": list(settings.location_ids),
        "quorum": settings.quorum,
        "enabled": settings.enabled,
        "parent_id": settings.parent_id,
        "options": dict(settings.options),
        "assertions": [dict(item) for item in settings.assertions],
    }


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
