"""How many SQL statements something takes: those of one pool, without what begins and ends transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from common.store.engine import Database
from common.store.once import Once


class _Noting:
    """A Once that notes its questions."""

    def __init__(self, asking: Once, sent: list[str]) -> None:
        self._asking = asking
        self._sent = sent

    def exec_driver_sql(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        self._sent.append(statement)
        return self._asking.exec_driver_sql(statement, parameters)


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that are sent through this pool meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        sent.append(statement)

    plain = database.once

    @contextmanager
    def once(org_id: str = "") -> Iterator[Any]:
        with plain(org_id) as asking:
            yield _Noting(asking, sent)

    event.listen(database._engine, "before_cursor_execute", note)
    database.once = once  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        del database.once
        event.remove(database._engine, "before_cursor_execute", note)
