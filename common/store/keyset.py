"""A list that is read newest first: where it begins, and a page of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from common.store.engine import Connection

#: (time, id) before which everything lies. A bound that is always there can be an index condition; "no bound, or
#: before it" never is, and the hundredth page would read the ninety-nine before it.
BEGINNING = ("infinity", "ffffffff-ffff-ffff-ffff-ffffffffffff")


def page(
    connection: Connection, statement: str, before: tuple[datetime, str] | None, parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows that lie before (time, id), or the newest ones. The statement takes them as before_at and before_id."""
    before_at, before_id = before or BEGINNING
    rows = connection.exec_driver_sql(statement, {**parameters, "before_at": before_at, "before_id": before_id})
    return [dict(row) for row in rows.mappings()]
