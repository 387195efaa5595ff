"""What backup and restore ask of a database: who logs in, that it is empty, its roles, and what has come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from common.domain.errors import Unavailable
from common.store.engine import Connection, Database, DatabaseRole

_HAS_TABLES = (
    "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace)"
)

_MAY_READ_EVERYTHING = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user"

# As the first migration makes them: they belong to the server, a backup only names them.
_MAKE_ROLE = """
DO $$
BEGIN
  BEGIN
    CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS;
  EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
  END;
  IF NOT pg_has_role(
    current_user, '{role}', CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
  ) THEN
    EXECUTE format('GRANT {role} TO %I', current_user);
  END IF;
END $$
"""

_COUNT = """
SELECT (SELECT count(*) FROM monitors WHERE deleted_at IS NULL),
       (SELECT count(*) FROM incidents WHERE status <> 'resolved'),
       (SELECT count(*) FROM notifications WHERE status = 'pending')
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in a restored database."""

    monitors: int
    open_incidents: int
    pending: int


def has_tables(database: Database) -> bool:
    """Whether there is anything in it. Raises Unavailable."""
    return _ask(database, _HAS_TABLES)


def may_read_everything(database: Database) -> bool:
    """Whether row-level security hides nothing from the login. Raises Unavailable."""
    return _ask(database, _MAY_READ_EVERYTHING)


def make_roles(database: Database) -> None:
    """The roles that tables and rights of a backup belong to, where they are missing. Raises Unavailable."""
    with _login(database) as login:
        for role in DatabaseRole:
            login.execute(_MAKE_ROLE.format(role=role.value))


def _ask(database: Database, question: str) -> bool:
    with _login(database) as login:
        found = login.execute(question).fetchone()
        return found is not None and bool(found[0])


@contextmanager
def _login(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """As who logs in, in none of our roles: there may be none yet."""
    try:
        with database.raw_connection() as login:
            yield login
    except psycopg.OperationalError as error:
        raise Unavailable("The database cannot be reached.") from error


def count(connection: Connection) -> Restored:
    """What has come back."""
    return Restored(*connection.exec_driver_sql(_COUNT).one())
