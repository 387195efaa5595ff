"""How many SQL statements something takes: those of one pool, without what takes the role at a transaction's start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from common.store.engine import Database


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that are sent through this pool meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        sent.append(statement)

    event.listen(database._engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database._engine, "before_cursor_execute", note)
