"""What a restore asks of a database: that it is empty, the roles that a backup names, and what has come back."""

from __future__ import annotations

from dataclasses import dataclass

from common.store.engine import Connection, Database, DatabaseRole

_HAS_TABLES = (
    "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace)"
)

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
    """Whether there is anything in it."""
    with database.raw_connection() as login:
        found = login.execute(_HAS_TABLES).fetchone()
        return found is not None and bool(found[0])


def make_roles(database: Database) -> None:
    """The roles that tables and rights of a backup belong to, where they are missing."""
    with database.raw_connection() as login:
        for role in DatabaseRole:
            login.execute(_MAKE_ROLE.format(role=role.value))


def count(connection: Connection) -> Restored:
    """What has come back."""
    return Restored(*connection.exec_driver_sql(_COUNT).one())
