"""The ledger of notifications as people read it; the notifier's own store writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.errors import NotFound
from common.store import keyset
from common.store.engine import Connection

_COLUMNS = """
n.id::text, n.incident_id::text, n.event_type, n.channel_id::text, n.route_id::text, n.status, n.reason, n.attempts,
CASE WHEN n.status = 'pending' THEN n.next_attempt_at END AS next_attempt_at, n.sent_at, n.created_at
"""

# Newest first; the cursor is the last row's (created_at, id). Filters that are NULL do not filter.
_LIST = f"""
SELECT {_COLUMNS} FROM notifications n
 WHERE n.org_id = %(org_id)s
   AND (%(status)s::text[] IS NULL OR n.status = ANY(%(status)s::text[]))
   AND (%(incident_id)s::uuid IS NULL OR n.incident_id = %(incident_id)s::uuid)
   AND (%(channel_id)s::uuid IS NULL OR n.channel_id = %(channel_id)s::uuid)
   AND (%(event_type)s::text[] IS NULL OR n.event_type = ANY(%(event_type)s::text[]))
   AND (%(reason)s::text[] IS NULL OR n.reason = ANY(%(reason)s::text[]))
   AND (n.created_at, n.id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
 ORDER BY n.created_at DESC, n.id DESC LIMIT %(limit)s
"""
# What is dead is rare and has an index of its own, which only a constant finds.
_LIST_DEAD = _LIST.replace("WHERE n.org_id", "WHERE n.status = 'dead' AND n.org_id")
_GET = f"SELECT {_COLUMNS} FROM notifications n WHERE n.org_id = %(org_id)s AND n.id = %(id)s"
_GET_MANY = f"SELECT {_COLUMNS} FROM notifications n WHERE n.org_id = %(org_id)s AND n.id = ANY(%(ids)s::uuid[])"

# Every try to deliver it, in order. `error` is already free of secrets: it is written that way.
_ATTEMPTS = """
SELECT number, outcome, status_code, error, duration_ms, at, message_id::text FROM delivery_attempts
 WHERE org_id = %(org_id)s AND notification_id = %(id)s ORDER BY number, at LIMIT 1000
"""


@dataclass(frozen=True, slots=True)
class Filters:
    """What to list; None does not filter."""

    status: Sequence[str] | None = None
    incident_id: str | None = None
    channel_id: str | None = None
    event_type: Sequence[str] | None = None
    reason: Sequence[str] | None = None


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None, filters: Filters
) -> list[dict[str, Any]]:
    """Ledger rows, newest first."""
    return keyset.page(
        connection,
        _LIST_DEAD if filters.status is not None and set(filters.status) == {"dead"} else _LIST,
        before,
        {
            "org_id": org_id,
            "limit": limit,
            "status": _listed(filters.status),
            "incident_id": filters.incident_id,
            "channel_id": filters.channel_id,
            "event_type": _listed(filters.event_type),
            "reason": _listed(filters.reason),
        },
    )


def get_many(connection: Connection, *, org_id: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Those of these ledger rows that exist, by id, without their attempts."""
    rows = connection.exec_driver_sql(_GET_MANY, {"org_id": org_id, "ids": list(ids)})
    return {row["id"]: dict(row) for row in rows.mappings()}


def get(connection: Connection, *, org_id: str, notification_id: str) -> dict[str, Any]:
    """One ledger row with all its attempts. Raises NotFound."""
    keys = {"org_id": org_id, "id": notification_id}
    row = connection.exec_driver_sql(_GET, keys).mappings().first()
    if row is None:
        raise NotFound("notification")
    attempts = connection.exec_driver_sql(_ATTEMPTS, keys).mappings()
    return {**row, "delivery_attempts": [dict(attempt) for attempt in attempts]}


def _listed(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else [str(value) for value in values]
