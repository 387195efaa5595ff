"""Whether the database can serve this version of the code."""

from __future__ import annotations

from enum import StrEnum

import psycopg
from sqlalchemy.exc import DBAPIError

from common.domain.errors import Unavailable
from common.store import schema
from common.store.engine import Database, Trouble, classify


class Readiness(StrEnum):
    """What a readiness check shows for PostgreSQL."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    MIGRATIONS_PENDING = "migrations pending"


def check(database: Database) -> Readiness:
    """Ask the database. A schema newer than ours is fine: migrations are backward-compatible."""
    try:
        with database.begin() as connection:
            revision = schema.current(connection)
    except Unavailable:
        return Readiness.UNREACHABLE
    except (DBAPIError, psycopg.Error) as error:
        # Before the first migration not even our role exists.
        return Readiness.UNREACHABLE if classify(error) is Trouble.AWAY else Readiness.MIGRATIONS_PENDING
    return Readiness.OK if revision is not None and revision >= schema.REVISION else Readiness.MIGRATIONS_PENDING
