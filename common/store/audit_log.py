"""The audit log: added to in the transaction of the change that it tells of, never rewritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb
from uuid_utils import uuid7

from common.store import keyset
from common.store.engine import Connection

#: How long entries are kept.
RETENTION_DAYS = 400

_ADD = """
INSERT INTO audit_log (id, org_id, actor, action, resource_type, resource_id, before, after, request_id, address)
VALUES (%(id)s, %(org_id)s, %(actor)s, %(action)s, %(resource_type)s, %(resource_id)s, %(before)s, %(after)s,
        %(request_id)s, %(address)s)
"""

# Newest first; the cursor is the last row's (at, id). What is not asked for is NULL.
_LIST = """
SELECT id::text, at, actor, action, resource_type, resource_id, before, after, request_id, address FROM audit_log
 WHERE org_id = %(org_id)s AND (at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
   AND (%(actor)s::text IS NULL OR actor = %(actor)s)
   AND (%(action)s::text[] IS NULL OR action = ANY(%(action)s))
   AND (%(resource_type)s::text IS NULL OR resource_type = %(resource_type)s)
   AND (%(resource_id)s::text IS NULL OR resource_id = %(resource_id)s)
   AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
 ORDER BY at DESC, id DESC LIMIT %(limit)s
"""

# Entries past their retention, some at a time.
_FORGET = """
DELETE FROM audit_log WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM audit_log WHERE at < now() - %(days)s * interval '1 day' ORDER BY at LIMIT %(limit)s))
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of one thing. `before` and `after` are documents as the API shows them: without secrets."""

    org_id: str
    actor: str
    action: str
    resource_type: str
    resource_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    request_id: str
    address: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None: whatever it is. `until` is not included."""

    actor: str | None = None
    action: Sequence[str] | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write entries down, together with what they tell of."""
    if entries:
        connection.exec_driver_sql(_ADD, [_values(entry) for entry in entries])


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None, wanted: AuditFilter
) -> list[dict[str, Any]]:
    """An organization's entries, newest first."""
    parameters = {
        "org_id": org_id,
        "limit": limit,
        "actor": wanted.actor,
        "action": None if wanted.action is None else list(wanted.action),
        "resource_type": wanted.resource_type,
        "resource_id": wanted.resource_id,
        "since": wanted.since,
        "until": wanted.until,
    }
    return keyset.page(connection, _LIST, before, parameters)


def forget(connection: Connection, *, days: int = RETENTION_DAYS, limit: int = 50_000) -> int:
    """Delete entries past their retention; how many. Fewer than `limit`: none is left."""
    return connection.exec_driver_sql(_FORGET, {"days": days, "limit": limit}).rowcount


def _values(entry: Entry) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        "org_id": entry.org_id,
        "actor": entry.actor,
        "action": entry.action,
        "resource_type": entry.resource_type,
        "resource_id": entry.resource_id,
        "before": _document(entry.before),
        "after": _document(entry.after),
        "request_id": entry.request_id,
        "address": entry.address,
    }


def _document(document: Mapping[str, Any] | None) -> Jsonb | None:
    return None if document is None else Jsonb(dict(document), dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(value, default=datetime.isoformat)
