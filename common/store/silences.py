"""Silences as their organization manages them; who changes some holds the organization's row (routing_versions).

What is still wrong when one ends is announced by the notifier: see silence_ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb
from uuid_utils import uuid7

from common.domain.errors import NotFound
from common.store import keyset
from common.store.engine import Connection

_STATE = """CASE WHEN ends_at <= statement_timestamp() THEN 'expired'
     WHEN starts_at > statement_timestamp() THEN 'pending' ELSE 'active' END"""
_COLUMNS = f"""id::text, matchers, comment, created_by, starts_at, ends_at, {_STATE} AS state, created_at, updated_at"""

_ADD = f"""
INSERT INTO silences (id, org_id, matchers, comment, created_by, starts_at, ends_at)
VALUES (%(id)s, %(org_id)s, %(matchers)s, %(comment)s, %(created_by)s, %(starts_at)s, %(ends_at)s)
RETURNING {_COLUMNS}
"""

# The newest end first; the cursor is the last row's (ends_at, id). A filter that is NULL does not filter.
_LIST = f"""
SELECT {_COLUMNS} FROM silences
 WHERE org_id = %(org_id)s AND (ends_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
   AND (%(state)s::text[] IS NULL OR {_STATE} = ANY(%(state)s::text[]))
 ORDER BY ends_at DESC, id DESC LIMIT %(limit)s
"""
_GET = f"SELECT {_COLUMNS} FROM silences WHERE org_id = %(org_id)s AND id = %(id)s"

_COUNT = "SELECT count(*) FROM silences WHERE org_id = %(org_id)s AND ends_at > statement_timestamp()"

# Those that hold back what comes now.
_ACTIVE = """
SELECT id::text, matchers FROM silences
 WHERE org_id = %(org_id)s AND ends_at > statement_timestamp() AND starts_at <= statement_timestamp()
   AND settled_at IS NULL
 ORDER BY ends_at DESC, id DESC
"""

# One that goes on has an end that is still to come, even if the notifier was about to see it over.
_CHANGE = f"""
UPDATE silences
   SET matchers = %(matchers)s, comment = %(comment)s, starts_at = %(starts_at)s, ends_at = %(ends_at)s,
       updated_at = statement_timestamp(),
       settled_at = CASE WHEN %(ends_at)s::timestamptz > statement_timestamp() THEN NULL ELSE settled_at END
 WHERE org_id = %(org_id)s AND id = %(id)s
RETURNING {_COLUMNS}
"""

# What it has held back by its old matchers goes to a copy that ends now: if it is still wrong and nothing holds it back
# any more, it is announced now, not when the silence ends.
_LEAVE_BEHIND = """
INSERT INTO silences (id, org_id, matchers, comment, created_by, starts_at, ends_at, created_at)
SELECT %(copy)s, s.org_id, s.matchers, s.comment, s.created_by, s.starts_at, statement_timestamp(), s.created_at
  FROM silences s
 WHERE s.org_id = %(org_id)s AND s.id = %(id)s
   AND EXISTS (SELECT 1 FROM notifications n WHERE n.org_id = s.org_id AND n.silence_id = s.id)
"""
# Whoever is about to hold something back by it has done so, or will see it changed.
_HOLD = "SELECT 1 FROM silences WHERE org_id = %(org_id)s AND id = %(id)s FOR NO KEY UPDATE"
_HAND_OVER = "UPDATE notifications SET silence_id = %(copy)s WHERE org_id = %(org_id)s AND silence_id = %(id)s"

# One that has ended stays as it is; one that never began ends where it would have begun.
_END = """
UPDATE silences
   SET starts_at = least(starts_at, statement_timestamp()), ends_at = statement_timestamp(),
       updated_at = statement_timestamp()
 WHERE org_id = %(org_id)s AND id = %(id)s AND ends_at > statement_timestamp()
"""


@dataclass(frozen=True, slots=True)
class SilenceConfig:
    """What a user decides about a silence."""

    matchers: Sequence[Mapping[str, str]]
    comment: str
    starts_at: datetime
    ends_at: datetime


def add(
    connection: Connection, *, org_id: str, silence_id: str, silence: SilenceConfig, created_by: str
) -> dict[str, Any]:
    """Store a silence."""
    parameters = {**_values(silence), "org_id": org_id, "id": silence_id, "created_by": created_by}
    return dict(connection.exec_driver_sql(_ADD, parameters).mappings().one())


def list_page(
    connection: Connection,
    *,
    org_id: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    state: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Silences in these states (None: all), the newest end first."""
    parameters = {"org_id": org_id, "limit": limit, "state": None if state is None else list(state)}
    return keyset.page(connection, _LIST, before, parameters)


def count(connection: Connection, *, org_id: str) -> int:
    """How many have not ended."""
    return int(connection.exec_driver_sql(_COUNT, {"org_id": org_id}).scalar_one())


def get(connection: Connection, *, org_id: str, silence_id: str) -> dict[str, Any]:
    """One silence. Raises NotFound."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "id": silence_id}).mappings().first()
    if row is None:
        raise NotFound("silence")
    return dict(row)


def active(connection: Connection, *, org_id: str) -> list[tuple[str, list[dict[str, str]]]]:
    """(id, matchers) of those that hold back what comes now."""
    return [(row[0], row[1]) for row in connection.exec_driver_sql(_ACTIVE, {"org_id": org_id})]


def leave_behind(connection: Connection, *, org_id: str, silence_id: str) -> None:
    """Before its matchers change: let an ended copy take along what the silence has held back, if it has."""
    keys = {"org_id": org_id, "id": silence_id, "copy": str(uuid7())}
    connection.exec_driver_sql(_HOLD, keys)
    if connection.exec_driver_sql(_LEAVE_BEHIND, keys).rowcount:
        connection.exec_driver_sql(_HAND_OVER, keys)


def change(connection: Connection, *, org_id: str, silence_id: str, silence: SilenceConfig) -> dict[str, Any]:
    """Write a silence that there is."""
    parameters = {**_values(silence), "org_id": org_id, "id": silence_id}
    return dict(connection.exec_driver_sql(_CHANGE, parameters).mappings().one())


def end(connection: Connection, *, org_id: str, silence_id: str) -> None:
    """End a silence now, unless it has ended."""
    connection.exec_driver_sql(_END, {"org_id": org_id, "id": silence_id})


def _values(silence: SilenceConfig) -> dict[str, Any]:
    return {
        "matchers": Jsonb([dict(matcher) for matcher in silence.matchers]),
        "comment": silence.comment,
        "starts_at": silence.starts_at,
        "ends_at": silence.ends_at,
    }
