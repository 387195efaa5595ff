"""One statement in a transaction of its own, in one round trip instead of four: for what every request asks first.

Everything travels as one text, so nothing is prepared and the values are quoted by us: for small questions only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import psycopg


class Rows(Protocol):
    """What an answer consists of."""

    def first(self) -> Any:
        """The first row, None when there is none."""
        ...


class Asks(Protocol):
    """Whatever takes a question: an ordinary transaction's connection, or Once."""

    def exec_driver_sql(self, statement: str, parameters: Mapping[str, Any], /) -> Rows:
        """Ask it."""
        ...


class Once:
    """Takes questions, each in a transaction that `begin` (statements) opens."""

    def __init__(self, raw: psycopg.Connection[Any], begin: str) -> None:
        self._raw = raw
        self._begin = begin

    def exec_driver_sql(self, statement: str, parameters: Mapping[str, Any], /) -> Rows:
        """Ask it. An error leaves the transaction open: the pool rolls it back."""
        cursor = psycopg.ClientCursor(self._raw)
        cursor.execute(f"{self._begin}; {statement}; COMMIT", parameters)
        for _ in self._begin.split(";"):
            cursor.nextset()
        return _Answer(cursor)


class _Answer:
    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    def first(self) -> Any:
        return self._cursor.fetchone()
