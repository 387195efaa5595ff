"""`tocsin platform-key`: the operator's keys, in the database that the settings name or that `tocsin up` runs."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from common.domain.errors import StackError
from common.operating import transaction
from common.store import platform_keys

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The operator's keys: they manage organizations, and their alerts go to every organization that wants them.",
)


@app.command()
def create(name: Annotated[str, typer.Argument(help="What the key is for.")]) -> None:
    """Make a key and print it: it is shown this once."""
    key = platform_keys.NewPlatformKey(name)
    with transaction("platform-key create") as connection:
        platform_keys.add(connection, key)
    sys.stdout.write(f"{key.token}\n")


@app.command("list")
def list_keys() -> None:
    """Print all keys without their secrets, one JSON object a line."""
    with transaction("platform-key list") as connection:
        rows = platform_keys.list_all(connection)
    for row in rows:
        sys.stdout.write(json.dumps({name: str(value) if value else None for name, value in row.items()}) + "\n")


@app.command()
def revoke(which: Annotated[str, typer.Argument(help="The key's id or prefix.")]) -> None:
    """Make a key useless: its next request is refused."""
    with transaction("platform-key revoke") as connection:
        prefix = platform_keys.revoke(connection, which)
        if prefix is None:
            raise StackError(f"there is no key with the id or prefix {which} that is not revoked")
    sys.stdout.write(f"revoked {prefix}\n")
