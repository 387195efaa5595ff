"""Which schema this code needs, and which one the database has."""

from __future__ import annotations

from common.store.engine import Connection

#: The newest revision in migrations/versions; a test holds the two together.
REVISION = "0013"

_CURRENT = "SELECT version_num FROM alembic_version"


def current(connection: Connection) -> str | None:
    """The database's revision, None before the first migration."""
    if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is None:
        return None
    revision: str | None = connection.exec_driver_sql(_CURRENT).scalar()
    return revision
