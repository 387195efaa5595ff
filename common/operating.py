"""What the operator's commands share: how they fail, and the database, which the settings name or `tocsin up` runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from common.domain.errors import NotMigrated, SettingsError, StackError, Unavailable
from common.settings import load_settings
from common.store.engine import Connection, Database, DatabaseRole
from common.up import stack_file

#: Exit status for what the operator has to mend.
UNUSABLE = 2


@contextmanager
def transaction(command: str) -> Iterator[Connection]:
    """As the owner of the database; what the operator has to mend is one line and exit status 2."""
    with operating(command):
        database = Database(database_url(), DatabaseRole.OWNER, application="operator", pool_size=1)
        try:
            with database.begin() as connection:
                yield connection
        finally:
            database.dispose()


@contextmanager
def operating(command: str) -> Iterator[None]:
    """What the operator has to mend is one line and exit status 2."""
    try:
        yield
    except (SettingsError, StackError, NotMigrated) as error:
        sys.stderr.write(f"tocsin {command}: {error.message}\n")
        raise typer.Exit(UNUSABLE) from None
    except Unavailable:
        sys.stderr.write(f"tocsin {command}: the database cannot be reached\n")
        raise typer.Exit(UNUSABLE) from None


def database_url() -> str:
    """Of the database that the settings name or that `tocsin up` runs. Raises StackError when nothing runs."""
    settings = load_settings()
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    path = stack_file(settings.data_dir)
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["database_url"])
    except PermissionError:
        raise StackError(f"{path} belongs to another user: run this as the one who runs Tocsin") from None
    except (OSError, ValueError, KeyError):
        raise StackError(f"nothing runs in {settings.data_dir}: start `tocsin up`, or set DATABASE_URL") from None
