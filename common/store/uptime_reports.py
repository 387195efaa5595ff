"""Monitors of a report, page by page in the order of their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from common.store.engine import Connection

# In the order of numbers, since that is how rollups lie. One monitor is a page of one.
_PAGE = """
SELECT m.monitor_no, m.id::text, m.key, m.name, m.labels FROM monitors m
 WHERE m.org_id = %(org_id)s AND m.deleted_at IS NULL AND m.monitor_no > %(after)s
   AND (%(labels)s::jsonb IS NULL OR m.labels @> %(labels)s::jsonb)
   AND (%(label_name)s::text IS NULL OR m.labels ? %(label_name)s::text)
   AND (%(monitor_id)s::uuid IS NULL OR m.id = %(monitor_id)s::uuid)
 ORDER BY m.monitor_no LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which monitors of an organization: all (all None), one, those with these labels, those that have a label."""

    org_id: str
    monitor_id: str | None = None
    labels: Mapping[str, str] | None = None
    label_name: str | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """A monitor as a report names it."""

    number: int
    id: str
    key: str | None
    name: str
    labels: dict[str, str]


def page(connection: Connection, chosen: Chosen, *, after: int, limit: int) -> Sequence[Reported]:
    """The next monitors after this number."""
    rows = connection.exec_driver_sql(
        _PAGE,
        {
            "org_id": chosen.org_id,
            "monitor_id": chosen.monitor_id,
            "labels": None if chosen.labels is None else Jsonb(dict(chosen.labels)),
            "label_name": chosen.label_name,
            "after": after,
            "limit": limit,
        },
    )
    return [Reported(*row) for row in rows]
