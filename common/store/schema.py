"""Which schema this code needs, and which one the database has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from common.domain.errors import NotMigrated

#: The newest revision in migrations/versions; a test holds the two together.
REVISION = "0015"

_THERE = "SELECT to_regclass('alembic_version')"
_CURRENT = "SELECT version_num FROM alembic_version"


def current(connection: Connection) -> str | None:
    """The database's revision, None before the first migration."""
    return read(lambda statement: connection.exec_driver_sql(statement).scalar())


def read(scalar: Callable[[str], Any]) -> str | None:
    """The same by whatever has a value of a statement's one row for us."""
    revision: str | None = scalar(_CURRENT) if scalar(_THERE) is not None else None
    return revision


def require(connection: Connection) -> None:
    """Raise NotMigrated while the database's schema is older than what we need."""
    error = behind(current(connection))
    if error is not None:
        raise error


def behind(revision: str | None) -> NotMigrated | None:
    """The error that a database of this revision is; None where it will do, as newer ones do: migrations only add."""
    if revision is not None and revision >= REVISION:
        return None
    found = "has no schema yet" if revision is None else f"has schema {revision}, and this version needs {REVISION}"
    return NotMigrated(f"The database {found}: run `tocsin migrate`.")
