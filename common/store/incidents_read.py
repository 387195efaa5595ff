"""Incidents and their timelines as people read them; common.store.incidents writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.errors import NotFound
from common.store.engine import Connection
from common.store.incidents import DOCUMENT
from common.store.keyset import BEGINNING

_GET = f"SELECT {DOCUMENT} FROM incidents i WHERE i.org_id = %(org_id)s AND i.id = %(id)s"
_EVENTS = """
SELECT id::text, type, at, actor, data, seq, version FROM incident_events
 WHERE org_id = %(org_id)s AND incident_id = %(incident_id)s AND version > %(after)s
 ORDER BY version LIMIT %(limit)s
"""
# Newest first; the cursor is the last row's (opened_at, id). Filters that are NULL do not filter.
_LIST = f"""
SELECT {DOCUMENT}, i.opened_at, i.id::text FROM incidents i
 WHERE i.org_id = %(org_id)s
   AND (%(status)s::text[] IS NULL OR i.status = ANY(%(status)s::text[]))
   AND (%(severity)s::text[] IS NULL OR i.severity = ANY(%(severity)s::text[]))
   AND (%(monitor_id)s::uuid IS NULL OR i.monitor_id = %(monitor_id)s::uuid)
   AND (i.opened_at, i.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
 ORDER BY i.opened_at DESC, i.id DESC LIMIT %(limit)s
"""


def get(connection: Connection, *, org_id: str, incident_id: str) -> dict[str, Any]:
    """One incident as everybody sees it. Raises NotFound."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "id": incident_id}).first()
    if row is None:
        raise NotFound("incident")
    document: dict[str, Any] = row[0]
    return document


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """What a list shows; None does not filter."""

    status: Sequence[str] | None = None
    severity: Sequence[str] | None = None
    monitor_id: str | None = None


def list_page(
    connection: Connection,
    *,
    org_id: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    wanted: IncidentFilter | None = None,
) -> list[tuple[dict[str, Any], datetime, str]]:
    """Newest first: (document, opened_at, id); the last row's two are the cursor of the next page."""
    before_at, before_id = before or BEGINNING
    wanted = wanted or IncidentFilter()
    rows = connection.exec_driver_sql(
        _LIST,
        {
            "org_id": org_id,
            "limit": limit,
            "status": None if wanted.status is None else list(wanted.status),
            "severity": None if wanted.severity is None else list(wanted.severity),
            "monitor_id": wanted.monitor_id,
            "before_at": before_at,
            "before_id": before_id,
        },
    )
    return [(row[0], row[1], row[2]) for row in rows]


def events(
    connection: Connection, *, org_id: str, incident_id: str, after_version: int, limit: int
) -> list[dict[str, Any]]:
    """The timeline in order. Raises NotFound when there is no such incident."""
    get(connection, org_id=org_id, incident_id=incident_id)
    rows = connection.exec_driver_sql(
        _EVENTS, {"org_id": org_id, "incident_id": incident_id, "after": after_version, "limit": limit}
    )
    return [dict(row) for row in rows.mappings()]
