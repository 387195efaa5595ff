"""How many monitors are how: counts over all monitors of an organization, by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg.types.json import Jsonb

from common.store.engine import Connection

# Both look at the organization of the transaction; see the function. The first row is that of all monitors.
_COUNT = """
SELECT name, monitors, up, degraded, down, unknown, pending, paused, incidents, maintenance
  FROM summarize_monitors(%(what)s, %(label_name)s, %(labels)s)
"""
_UNRESOLVED = "SELECT count(*) FROM incidents WHERE org_id = %(org_id)s AND status <> 'resolved'"
_NOW = "SELECT clock_timestamp()"


@dataclass(frozen=True, slots=True)
class Grouping:
    """By what monitors are counted, and which: `what` is severity, type, state, location or label (`label_name`)."""

    what: str
    label_name: str | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many monitors are how, and how many incidents of theirs are unresolved."""

    total: int = 0
    up: int = 0
    degraded: int = 0
    down: int = 0
    unknown: int = 0
    pending: int = 0
    paused: int = 0
    open_incidents: int = 0
    maintenance: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Summary:
    """Groups, the worst first, and all monitors together. None is the group of those without the label."""

    at: datetime
    groups: list[tuple[str | None, Counts]]
    total: Counts


def count(connection: Connection, *, org_id: str, grouping: Grouping) -> Summary:
    """Count the monitors of the transaction's organization."""
    at = connection.exec_driver_sql(_NOW).scalar_one()
    groups = _counted(connection, grouping)
    # A monitor has several locations, and stands in all their groups.
    whole = groups if grouping.what != "location" else _counted(connection, Grouping("", labels=grouping.labels))
    total = sum((counts for _, counts in whole), Counts())
    if grouping.labels is None:
        unresolved = connection.exec_driver_sql(_UNRESOLVED, {"org_id": org_id}).scalar_one()
        total = replace(total, open_incidents=unresolved)
    return Summary(at, groups, total)


def _counted(connection: Connection, grouping: Grouping) -> list[tuple[str | None, Counts]]:
    labels = None if grouping.labels is None else Jsonb(dict(grouping.labels))
    keys = {"what": grouping.what, "label_name": grouping.label_name, "labels": labels}
    return [(row[0], Counts(*row[1:])) for row in connection.exec_driver_sql(_COUNT, keys)]
