"""Monitors as their organization manages them: configuration, and the state that people see.

Lock order: the monitor's row first (FOR NO KEY UPDATE, which a new incident's foreign key does not wait for), then
votes, states and incidents as in `common.store.votes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from common.domain.errors import NotFound
from common.store.engine import Connection
from common.store.keyset import BEGINNING
from common.store.schedule import MONITORS_CHANNEL

# A monitor with the newest vote of all its locations (state) and the newest one with a reason (why it is down).
_SELECT = """
SELECT m.id::text, m.monitor_no, m.key, m.name, m.type, m.target, m.interval_s, m.timeout_s, m.failure_threshold,
       m.recovery_threshold, m.retry_interval_s, m.severity, m.labels, m.location_ids, m.quorum, m.enabled,
       m.parent_id::text, m.options, m.secrets, m.assertions, m.config_version, m.created_at, m.updated_at,
       (SELECT array_agg(l.name ORDER BY u.n) FROM unnest(m.location_ids) WITH ORDINALITY AS u(id, n)
          JOIN locations l USING (id)) AS locations,
       s.health, s.since, v.last_slot, v.last_verdict, v.latency_ms,
       (SELECT w.reason FROM votes w WHERE w.monitor_no = m.monitor_no AND w.reason <> 0
         ORDER BY w.last_slot DESC LIMIT 1) AS reason
  FROM monitors m
  JOIN monitor_states s ON s.monitor_no = m.monitor_no
  LEFT JOIN LATERAL (
    SELECT x.last_slot, x.last_verdict, x.latency_ms FROM votes x
     WHERE x.monitor_no = m.monitor_no AND x.last_slot > 'epoch' ORDER BY x.last_slot DESC LIMIT 1
  ) v ON true
 WHERE m.org_id = %(org_id)s AND m.deleted_at IS NULL
"""

_GET = f"{_SELECT} AND m.id = %(id)s"

# Newest first; the cursor is the last row's (created_at, id). The page is cut before states and votes are joined.
_LIST = f"""
{_SELECT} AND m.id IN (
   SELECT p.id FROM monitors p
    WHERE p.org_id = %(org_id)s AND p.deleted_at IS NULL
      AND (p.created_at, p.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
    ORDER BY p.created_at DESC, p.id DESC LIMIT %(limit)s)
 ORDER BY m.created_at DESC, m.id DESC
"""

# Read to change. NO KEY: the writer opens incidents that reference this row, while it holds votes that we want next.
_LOCK = """
SELECT 1 FROM monitors WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL FOR NO KEY UPDATE
"""
_ID_BY_KEY = "SELECT id::text FROM monitors WHERE org_id = %(org_id)s AND key = %(key)s AND deleted_at IS NULL"

# Two upserts of one key that does not exist yet wait for each other; the second then finds it.
_LOCK_KEY = "SELECT pg_advisory_xact_lock(hashtextextended(%(org_id)s || '/' || %(key)s, 7305061973))"

_ADD = """
INSERT INTO monitors (id, org_id, key, name, type, target, interval_s, timeout_s, failure_threshold, recovery_threshold,
                      retry_interval_s, severity, labels, location_ids, quorum, enabled, parent_id, options, secrets,
                      assertions, check_from)
VALUES (%(id)s, %(org_id)s, %(key)s, %(name)s, %(type)s, %(target)s, %(interval_s)s, %(timeout_s)s,
        %(failure_threshold)s, %(recovery_threshold)s, %(retry_interval_s)s, %(severity)s, %(labels)s,
        %(location_ids)s::smallint[], %(quorum)s, %(enabled)s, %(parent_id)s, %(options)s, %(secrets)s,
        %(assertions)s, date_trunc('milliseconds', clock_timestamp()))
    ON CONFLICT (org_id, key) WHERE key IS NOT NULL AND deleted_at IS NULL DO NOTHING
RETURNING monitor_no
"""

# `check_now` gives the monitor a slot of its own, so that it is checked at once. Times are cut to the millisecond,
# which is all that slots and messages carry.
_CHANGE = """
UPDATE monitors
   SET key = %(key)s, name = %(name)s, type = %(type)s, target = %(target)s, interval_s = %(interval_s)s,
       timeout_s = %(timeout_s)s, failure_threshold = %(failure_threshold)s,
       recovery_threshold = %(recovery_threshold)s, retry_interval_s = %(retry_interval_s)s, severity = %(severity)s,
       labels = %(labels)s, location_ids = %(location_ids)s::smallint[], quorum = %(quorum)s, enabled = %(enabled)s,
       parent_id = %(parent_id)s, options = %(options)s, secrets = %(secrets)s, assertions = %(assertions)s,
       config_version = config_version + 1,
       check_from = CASE WHEN %(check_now)s THEN date_trunc('milliseconds', clock_timestamp()) ELSE check_from END
 WHERE org_id = %(org_id)s AND id = %(id)s
"""
_DELETE = """
UPDATE monitors SET deleted_at = now(), config_version = config_version + 1, secrets = NULL
 WHERE org_id = %(org_id)s AND id = %(id)s
"""

# A parent, its parent and so on, each with whether it is still there; a loop that is there already ends by UNION.
_ANCESTORS = """
WITH RECURSIVE ancestors AS (
  SELECT id, parent_id FROM monitors WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
  UNION
  SELECT m.id, m.parent_id FROM monitors m JOIN ancestors a ON m.id = a.parent_id WHERE m.org_id = %(org_id)s
)
SELECT id::text FROM ancestors
"""
_NOTIFY = f"NOTIFY {MONITORS_CHANNEL}"
_NOW = "SELECT date_trunc('milliseconds', clock_timestamp())"


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """A monitor's configuration as it is stored; two equal ones mean that nothing changed.

    `secrets` are the values that are null in `options`, by their path ("http.headers.Authorization"), in plain text.
    """

    key: str | None
    name: str
    type: str
    target: str
    interval_s: int
    timeout_s: float
    failure_threshold: int
    recovery_threshold: int
    retry_interval_s: int
    severity: str
    labels: Mapping[str, str]
    location_ids: tuple[int, ...]
    quorum: int | None
    enabled: bool
    parent_id: str | None
    options: Mapping[str, Any]
    secrets: Mapping[str, str]
    assertions: Sequence[Mapping[str, Any]]


def get(connection: Connection, *, org_id: str, monitor_id: str, lock: bool = False) -> dict[str, Any]:
    """One monitor with its state, on request locked until the transaction ends. Raises NotFound."""
    keys = {"org_id": org_id, "id": monitor_id}
    if lock:
        connection.exec_driver_sql(_LOCK, keys)
    row = connection.exec_driver_sql(_GET, keys).mappings().first()
    if row is None:
        raise NotFound("monitor")
    return dict(row)


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None = None
) -> list[dict[str, Any]]:
    """Monitors with their states, newest first."""
    before_at, before_id = before or BEGINNING
    rows = connection.exec_driver_sql(
        _LIST, {"org_id": org_id, "limit": limit, "before_at": before_at, "before_id": before_id}
    )
    return [dict(row) for row in rows.mappings()]


def id_by_key(connection: Connection, *, org_id: str, key: str) -> str | None:
    """The monitor with this key, None when there is none; nobody else can make one until the transaction ends."""
    keys = {"org_id": org_id, "key": key}
    connection.exec_driver_sql(_LOCK_KEY, keys)
    monitor_id: str | None = connection.exec_driver_sql(_ID_BY_KEY, keys).scalar()
    return monitor_id


def add(
    connection: Connection, *, org_id: str, monitor_id: str, settings: MonitorSettings, sealed: str | None
) -> int | None:
    """Store a monitor; its number, or None when its key is taken. `sealed` are the settings' secrets, encrypted."""
    parameters = {**_values(settings), "id": monitor_id, "org_id": org_id, "secrets": sealed}
    number: int | None = connection.exec_driver_sql(_ADD, parameters).scalar()
    return number


@dataclass(frozen=True, slots=True)
class Rewrite:
    """New settings for a monitor that `get` has locked."""

    monitor_id: str
    settings: MonitorSettings
    sealed: str | None
    check_now: bool


def change(connection: Connection, *, org_id: str, rewrite: Rewrite) -> None:
    """Write new settings under the next config_version."""
    parameters = {
        **_values(rewrite.settings),
        "id": rewrite.monitor_id,
        "org_id": org_id,
        "secrets": rewrite.sealed,
        "check_now": rewrite.check_now,
    }
    connection.exec_driver_sql(_CHANGE, parameters)


def delete(connection: Connection, *, org_id: str, monitor_id: str) -> None:
    """Delete a monitor that `get` has locked, softly; its key is free again."""
    connection.exec_driver_sql(_DELETE, {"org_id": org_id, "id": monitor_id})


def ancestors(connection: Connection, *, org_id: str, monitor_id: str) -> set[str]:
    """A monitor and everything above it; empty when there is no such monitor."""
    return {row[0] for row in connection.exec_driver_sql(_ANCESTORS, {"org_id": org_id, "id": monitor_id})}


def notify(connection: Connection) -> None:
    """Hint to the scheduler that monitors have changed; sent with the commit."""
    connection.exec_driver_sql(_NOTIFY)


def now(connection: Connection) -> datetime:
    """The database's clock, cut to the millisecond as slots are."""
    moment: datetime = connection.exec_driver_sql(_NOW).scalar_one()
    return moment


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
        "labels": Jsonb(dict(settings.labels)),
        "location_ids": list(settings.location_ids),
        "quorum": settings.quorum,
        "enabled": settings.enabled,
        "parent_id": settings.parent_id,
        "options": Jsonb(dict(settings.options)),
        "assertions": Jsonb([dict(item) for item in settings.assertions]),
    }
