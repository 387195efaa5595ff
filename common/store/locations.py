"""Locations: where checks run from. They belong to the operator, so every organization sees them all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.blindness import ALIVE_FOR
from common.store.engine import Connection

_LIST = "SELECT id, name, created_at FROM locations ORDER BY name"

# The look before the insert keeps the smallint identity from running out: a refused insert would use up a number.
_ENSURE = """
INSERT INTO locations (name)
SELECT %(name)s WHERE NOT EXISTS (SELECT 1 FROM locations WHERE name = %(name)s)
    ON CONFLICT (name) DO NOTHING
"""
# Who lives there, and what the leader makes of it: a few rows for each location, however much is checked.
_STANDINGS = """
SELECT l.name, l.created_at, w.workers, w.checks_minute, w.seen_at, w.judged_at, s.blind_since, s.reason
  FROM locations l
  LEFT JOIN location_sights s ON s.location = l.id
 CROSS JOIN LATERAL (
   SELECT count(*) FILTER (WHERE g.seen_at > clock_timestamp() - %(alive)s) AS workers,
          COALESCE(sum(g.checks_minute) FILTER (WHERE g.seen_at > clock_timestamp() - %(alive)s), 0) AS checks_minute,
          max(g.seen_at) AS seen_at, max(g.judged_at) AS judged_at
     FROM worker_signs g WHERE g.location = l.id
 ) w
 ORDER BY l.name
"""
_NUMBER = "SELECT id FROM locations WHERE name = %(name)s"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a location stands. `reason`: why it is blind, or about to be."""

    name: str
    created_at: datetime
    workers: int
    checks_last_minute: int
    last_seen_at: datetime | None
    last_result_at: datetime | None
    blind_since: datetime | None
    reason: str | None

    @property
    def status(self) -> str:
        """fresh, stale or blind."""
        if self.blind_since is not None:
            return "blind"
        return "fresh" if self.workers and self.reason is None else "stale"


def ensure(connection: Connection, name: str) -> int:
    """The number of a location, made if it is not known yet."""
    connection.exec_driver_sql(_ENSURE, {"name": name})
    number: int = connection.exec_driver_sql(_NUMBER, {"name": name}).scalar_one()
    return number


def list_all(connection: Connection) -> list[tuple[int, str, datetime]]:
    """All locations by name: (id, name, created_at)."""
    return [(row[0], row[1], row[2]) for row in connection.exec_driver_sql(_LIST)]


def standings(connection: Connection) -> list[Standing]:
    """All locations by name, and how they stand."""
    rows: Any = connection.exec_driver_sql(_STANDINGS, {"alive": ALIVE_FOR})
    return [Standing(*row) for row in rows]


def ids_by_name(connection: Connection) -> dict[str, int]:
    """The numbers that rows and queues use for the names."""
    return {name: number for number, name, _ in list_all(connection)}
