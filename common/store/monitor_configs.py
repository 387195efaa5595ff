"""Monitors as the worker needs them: configurations by number, secrets still sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.store.engine import Connection

# The current configuration of monitors that are to be checked; paused and deleted ones are absent.
_LOAD = """
SELECT monitor_no, id::text, org_id::text, config_version, type, name, target, interval_s, timeout_s,
       failure_threshold, recovery_threshold, retry_interval_s, quorum, location_ids, options, assertions, secrets
  FROM monitors
 WHERE monitor_no = ANY(%(monitors)s) AND enabled AND deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A monitor's row, as it is stored."""

    monitor_no: int
    monitor_id: str
    org_id: str
    config_version: int
    type: str
    name: str
    target: str
    interval_s: int
    timeout_s: float
    failure_threshold: int
    recovery_threshold: int
    retry_interval_s: int
    quorum: int | None
    location_ids: list[int]
    options: dict[str, Any]
    assertions: list[dict[str, Any]]
    secrets: str | None


def load(connection: Connection, monitors: Sequence[int]) -> list[StoredConfig]:
    """Configurations of these monitors, in one query."""
    return [StoredConfig(*row) for row in connection.exec_driver_sql(_LOAD, {"monitors": list(monitors)})]
