"""Bring the database to this version's schema, once, whoever else starts at the same time.

`python -m migrations.run` is what `tocsin migrate` and `tocsin up` start. It also makes the first organization with
its administrator, and says where the credentials are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from common import log
from common.clock import monotonic_s
from common.domain.errors import Contended, SettingsError
from common.keys import write_private
from common.passwords import Passwords
from common.settings import Settings, load_settings
from common.store import schema
from common.store.accounts import Credentials, FirstAdmin, bootstrap
from common.store.engine import DatabaseRole, Trouble, classify

T = TypeVar("T")

#: Any number, the same for all versions: whoever holds it migrates, the others wait and then find nothing to do.
_LOCK_ID = 7305061971
_TURN_EVERY_S = 0.2

#: Whoever waits for a table makes everybody wait who comes after: no longer than this, then they get their turn.
_LOCK_WAIT_S = 3.0
_PAUSE_S = 5.0
_PATIENCE_S = 120.0

#: What could not be done.
_SCHEMA = "the schema could not be changed"
_ADMINISTRATOR = "the first administrator could not be made"

CREDENTIALS_FILE = "credentials.json"


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the migrations beside this file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def migrate(database_url: str) -> None:
    """Upgrade to the newest revision, under an advisory lock of the session; Contended if others are too busy."""
    with _locked(database_url) as connection:
        _patiently(connection, _SCHEMA, lambda: _step_up(connection))


def migrate_and_bootstrap(settings: Settings) -> str | None:
    """Migrate; make the first administrator if there is none. What the operator has to be told, None for nothing."""
    if settings.database_url is None:
        raise SettingsError("DATABASE_URL must be set to migrate; `tocsin up` starts everything by itself")
    with _locked(settings.database_url.get_secret_value()) as connection:
        _patiently(connection, _SCHEMA, lambda: _step_up(connection))
        return _patiently(connection, _ADMINISTRATOR, lambda: _bootstrap(connection, settings))


def main() -> int:
    """Migrate by the environment's settings; the exit status."""
    try:
        settings = load_settings()
        log.configure("migrate", level=settings.log_level, style=settings.log_format)
        message = migrate_and_bootstrap(settings)
    except SettingsError as error:
        sys.stderr.write(f"tocsin migrate: {error.message}\n")
        return 2
    except Contended as error:
        sys.stderr.write(f"tocsin migrate: {error.message}\n")
        return 1
    except (OperationalError, psycopg.OperationalError) as error:
        sys.stderr.write(f"tocsin migrate: the database cannot be reached: {_reason(error)}\n")
        return 1
    if message is not None:
        sys.stdout.write(f"{message}\n")
    return 0


@contextmanager
def _locked(database_url: str) -> Iterator[Connection]:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        _await_turn(connection)
        try:
            yield connection
        finally:
            connection.rollback()
            connection.exec_driver_sql("SELECT pg_advisory_unlock(%(id)s)", {"id": _LOCK_ID})
            connection.commit()
    engine.dispose()


def _await_turn(connection: Connection) -> None:
    """Take the lock. Without a statement that waits for it: an index that its holder builds waits for all of those."""
    while not connection.exec_driver_sql("SELECT pg_try_advisory_lock(%(id)s)", {"id": _LOCK_ID}).scalar_one():
        connection.commit()
        time.sleep(_TURN_EVERY_S)
    connection.commit()


def _patiently(connection: Connection, what: str, act: Callable[[], T]) -> T:
    """Do it, again and again while others hold a lock that it needs; what is done stays done."""
    connection.exec_driver_sql(f"SET lock_timeout = {int(_LOCK_WAIT_S * 1000)}")
    connection.commit()
    until_s, told = monotonic_s() + _PATIENCE_S, False
    while True:
        try:
            return act()
        except (DBAPIError, psycopg.Error) as error:  # the latter from a migration's SQL file
            if classify(error) is not Trouble.RACE:
                raise
            connection.rollback()
            if monotonic_s() >= until_s:
                raise Contended(_too_busy(what, _reason(error))) from error
            if not told:
                log.get_logger().warning("migration_waits", error=_reason(error), tries_for_s=_PATIENCE_S)
                told = True
        time.sleep(_PAUSE_S)


def _step_up(connection: Connection) -> None:
    """Upgrade to the newest revision."""
    found = schema.current(connection)
    connection.rollback()
    # A newer schema is fine (somebody went back to this version): migrations are backward-compatible.
    if found is None or found <= schema.REVISION:
        command.upgrade(alembic_config(connection), "head")
        connection.commit()
    connection.exec_driver_sql("SELECT keep_result_partitions(2, 3650)")
    connection.commit()


def _bootstrap(connection: Connection, settings: Settings) -> str | None:
    """Make the first administrator if there is none; where the credentials are."""
    with connection.begin():
        connection.exec_driver_sql(f"SET LOCAL ROLE {DatabaseRole.OWNER}")
        credentials = bootstrap(connection, _first_admin(settings), Passwords().hash)
        # Before the commit: credentials that nobody can read any more would lock everybody out.
        return None if credentials is None else _hand_over(credentials, settings)


def _too_busy(what: str, reason: str) -> str:
    return (
        f"{what} for {_PATIENCE_S:.0f} s, as others hold what it needs ({reason}); look for long transactions in"
        " pg_stat_activity and start again: it goes on where it stopped"
    )


def _reason(error: DBAPIError | psycopg.Error) -> str:
    """Only the first line: the rest repeats the statement."""
    return str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]


def _first_admin(settings: Settings) -> FirstAdmin:
    password = settings.admin_password
    return FirstAdmin(settings.admin_email, password.get_secret_value() if password else None, settings.location)


def _hand_over(credentials: Credentials, settings: Settings) -> str:
    """Write the credentials where only we can read them; without such a place they are in the message, this once."""
    path = settings.data_dir / CREDENTIALS_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, {"url": settings.base_url, **asdict(credentials)})
    except OSError as error:
        return (
            f"First start: {path} cannot be written ({error.strerror}); keep this, it is shown once: "
            f"e-mail {credentials.email}, password {credentials.password}, API key {credentials.api_key}"
        )
    return f"First start: login {credentials.email}; password and an API key are in {path}"


if __name__ == "__main__":
    sys.exit(main())
