"""`tocsin platform-key`: the operator's keys, in the database that the settings name or that `tocsin up` runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from common.domain.errors import SettingsError, StackError, Unavailable
from common.settings import load_settings
from common.store import platform_keys
from common.store.engine import Connection, Database, DatabaseRole
from common.up import stack_file

app = typer.Typer(
    no_args_is_help=True,
    help="The operator's keys: they manage organizations, and their alerts go to every organization that wants them.",
)

_UNUSABLE = 2


@app.command()
def create(name: Annotated[str, typer.Argument(help="What the key is for.")]) -> None:
    """Make a key and print it: it is shown this once."""
    key = platform_keys.NewPlatformKey(name)
    with _transaction("create") as connection:
        platform_keys.add(connection, key)
    sys.stdout.write(f"{key.token}\n")


@app.command("list")
def list_keys() -> None:
    """Print all keys without their secrets, one JSON object a line."""
    with _transaction("list") as connection:
        rows = platform_keys.list_all(connection)
    for row in rows:
        sys.stdout.write(json.dumps({name: str(value) if value else None for name, value in row.items()}) + "\n")


@app.command()
def revoke(which: Annotated[str, typer.Argument(help="The key's id or prefix.")]) -> None:
    """Make a key useless: its next request is refused."""
    with _transaction("revoke") as connection:
        prefix = platform_keys.revoke(connection, which)
        if prefix is None:
            raise StackError(f"there is no key with the id or prefix {which} that is not revoked")
    sys.stdout.write(f"revoked {prefix}\n")


@contextmanager
def _transaction(command: str) -> Iterator[Connection]:
    """As the owner of the database; what the operator has to mend is one line and exit status 2."""
    try:
        database = Database(_database_url(), DatabaseRole.OWNER, application="platform-key", pool_size=1)
        try:
            with database.begin() as connection:
                yield connection
        finally:
            database.dispose()
    except (SettingsError, StackError) as error:
        sys.stderr.write(f"tocsin platform-key {command}: {error.message}\n")
        raise typer.Exit(_UNUSABLE) from None
    except Unavailable:
        sys.stderr.write(f"tocsin platform-key {command}: the database cannot be reached\n")
        raise typer.Exit(_UNUSABLE) from None


def _database_url() -> str:
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
