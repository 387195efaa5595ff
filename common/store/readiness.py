"""Whether the database can serve this version of the code."""

from __future__ import annotations

from enum import StrEnum

import psycopg
from sqlalchemy.exc import DBAPIError

from common.domain.errors import NotMigrated, Unavailable
from common.store import schema
from common.store.engine import Database


class Readiness(StrEnum):
    """What a readiness check shows for PostgreSQL."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    MIGRATIONS_PENDING = "migrations pending"


def check(database: Database) -> Readiness:
    """Ask the database. A schema newer than ours is fine: migrations are backward-compatible."""
    try:
        require(database)
    except NotMigrated:
        return Readiness.MIGRATIONS_PENDING
    except Unavailable:
        return Readiness.UNREACHABLE
    except (DBAPIError, psycopg.Error):
        return Readiness.MIGRATIONS_PENDING  # nor may our login take the role, which is what a migration grants
    return Readiness.OK


def require(database: Database) -> bool:
    """True; raises Unavailable while it cannot be reached, or NotMigrated while its schema is older than ours."""
    with database.begin() as connection:
        schema.require(connection)
    return True
