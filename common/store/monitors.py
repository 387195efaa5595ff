"""Monitors as their organization manages them: configuration, and the state that people see.

Lock order: the monitor's row first (FOR NO KEY UPDATE, which a new incident's foreign key does not wait for), then
votes, states and incidents as in `common.store.votes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.errors import NotFound
from common.store.engine import Connection
from common.store.schedule import MONITORS_CHANNEL

# A monitor `m` as it is configured.
SETTINGS = """
m.id::text, m.monitor_no, m.key, m.name, m.type, m.target, m.interval_s, m.timeout_s, m.failure_threshold,
m.recovery_threshold, m.retry_interval_s, m.severity, m.labels, m.location_ids, m.quorum, m.enabled,
m.parent_id::text, m.options, m.secrets, m.assertions, m.config_version, m.created_at, m.updated_at, m.applied_version,
(SELECT array_agg(l.name ORDER BY u.n) FROM unnest(m.location_ids) WITH ORDINALITY AS u(id, n)
   JOIN locations l USING (id)) AS locations
"""

# Whether its newest slot is too old to say anything (freshness_ms in common.domain.health). What was just
# resumed has to be looked at first; a heartbeat that nobody has pinged yet is waited for.
_STALE = """
(v.last_slot > 'epoch'
 AND greatest(v.last_slot, m.check_from) < clock_timestamp() - make_interval(secs => 2 * m.interval_s + m.timeout_s + 5)
 AND (m.type <> 'heartbeat' OR s.health <> 0))
"""

# Its state: the newest vote of all its locations, and the newest one with a reason (why it is down).
STATE = f"""
s.health, s.maintenance, s.since, v.last_slot, v.last_verdict, v.latency_ms,
{_STALE} AS stale,
(SELECT w.reason FROM votes w WHERE w.monitor_no = m.monitor_no AND w.reason <> 0
  ORDER BY w.last_slot DESC LIMIT 1) AS reason
"""
STATE_TABLES = """
JOIN monitor_states s ON s.monitor_no = m.monitor_no
LEFT JOIN LATERAL (
  SELECT x.last_slot, x.last_verdict, x.latency_ms FROM votes x
   WHERE x.monitor_no = m.monitor_no AND x.last_slot > 'epoch' ORDER BY x.last_slot DESC LIMIT 1
) v ON true
"""
LIVE = "m.org_id = %(org_id)s AND m.deleted_at IS NULL"

_GET = f"SELECT {SETTINGS}, {STATE} FROM monitors m {STATE_TABLES} WHERE {LIVE} AND m.id = %(id)s"

# Read to change. NO KEY: the writer opens incidents that reference this row, while it holds votes that we want next.
_LOCK = """
SELECT 1 FROM monitors WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL FOR NO KEY UPDATE
"""
_ID_BY_KEY = "SELECT id::text FROM monitors WHERE org_id = %(org_id)s AND key = %(key)s AND deleted_at IS NULL"

# Two upserts of one key that does not exist yet wait for each other; the second then finds it.
_LOCK_KEY = "SELECT pg_advisory_xact_lock(hashtextextended(%(org_id)s || '/' || %(key)s, 7305061973))"

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


def id_by_key(connection: Connection, *, org_id: str, key: str) -> str | None:
    """The monitor with this key, None when there is none; nobody else can make one until the transaction ends."""
    keys = {"org_id": org_id, "key": key}
    connection.exec_driver_sql(_LOCK_KEY, keys)
    monitor_id: str | None = connection.exec_driver_sql(_ID_BY_KEY, keys).scalar()
    return monitor_id


def notify(connection: Connection) -> None:
    """Hint to the scheduler that monitors have changed; sent with the commit."""
    connection.exec_driver_sql(_NOTIFY)


def now(connection: Connection) -> datetime:
    """The database's clock, cut to the millisecond as slots are."""
    moment: datetime = connection.exec_driver_sql(_NOW).scalar_one()
    return moment
