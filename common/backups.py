"""`tocsin backup` and `tocsin restore`: the whole database as one file, by PostgreSQL's own pg_dump and pg_restore.

A backup is what the database held at one moment, taken while everything runs. Redis is not in it: nothing there is
worth keeping (docs/decisions/0001). The keys are not in it either: without TOCSIN_ENCRYPTION_KEYS its secrets stay
sealed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from common.domain.errors import StackError
from common.dumps import dump, fill
from common.embedded import EmbeddedServers
from common.keys import with_keys
from common.operating import database_url, operating
from common.settings import Settings, load_settings
from common.store import restoring, sealed
from common.store.engine import Database, DatabaseRole
from common.vault import SecretUnreadable, Vault

#: What is large and tells of single checks only; what was counted from them (uptime, latency) stays in.
_RESULTS = ("results", "results_*", "result_details", "result_details_*")

#: Secrets that are tried in one transaction.
_BATCH = 500


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; what is there is replaced when all is well.")],
    *,
    without_results: Annotated[
        bool, typer.Option("--without-results", help="Leave out single checks' results, which are most of the size.")
    ] = False,
) -> None:
    """Write the whole database to a file, while everything runs."""
    with operating("backup"):
        url = database_url()
        _refuse_partial(url)
        size = dump(url, file, skip=_RESULTS if without_results else ())
    sys.stdout.write(
        f"{file}: {size / 1e6:.1f} MB. Keep the keys as well (TOCSIN_ENCRYPTION_KEYS, or keys.json in the data "
        "directory), but elsewhere: without them the secrets in it cannot be read\n"
    )


def restore(
    file: Annotated[Path, typer.Argument(help="What `tocsin backup` has written.", exists=True, dir_okay=False)],
) -> None:
    """Fill an empty database from a backup, before Tocsin is started on it."""
    with operating("restore"):
        settings = load_settings()
        with _empty_database(settings) as url:
            fill(url, file)
            database = Database(url, DatabaseRole.OWNER, application="restore", pool_size=1)
            try:
                with database.begin() as connection:
                    found = restoring.count(connection)
                unreadable = count_unreadable(database, _vault(settings))
            finally:
                database.dispose()
    sys.stdout.write(
        f"restored {found.monitors} monitors and {found.open_incidents} open incidents; "
        f"{found.pending} notifications wait and are sent when Tocsin starts\n"
    )
    if unreadable:
        sys.stderr.write(
            f"{unreadable} secrets open with none of the keys here: set TOCSIN_ENCRYPTION_KEYS to those of then, or "
            f"put that installation's keys.json into {settings.data_dir}\n"
        )
        raise typer.Exit(1)


def count_unreadable(database: Database, vault: Vault) -> int:
    """How many stored secrets none of our keys opens."""
    unreadable = 0
    for table in sealed.OWNERS:
        after = sealed.FIRST
        while True:
            with database.begin() as connection:
                rows = sealed.take(connection, table, after=after, limit=_BATCH)
            for row in rows:
                try:
                    vault.open(row.owner, row.token)
                except SecretUnreadable:
                    unreadable += 1
            if len(rows) < _BATCH:
                break
            after = rows[-1].id
    return unreadable


@contextmanager
def _empty_database(settings: Settings) -> Iterator[str]:
    """The one that DATABASE_URL names, or the embedded one, started for this."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        _refuse_filled(url)
        yield url
        return
    with EmbeddedServers(settings.data_dir, _say, valkey=False) as servers:
        url = servers.start().database_url
        _refuse_filled(url)
        yield url


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _refuse_partial(url: str) -> None:
    database = Database(url, DatabaseRole.OWNER, application="backup", pool_size=1)
    try:
        if not restoring.may_read_everything(database):
            raise StackError(
                "the login of DATABASE_URL may not see past row-level security, so that a backup by it would lack "
                "rows: take a superuser's, or one with BYPASSRLS; a managed database has snapshots instead"
            )
    finally:
        database.dispose()


def _refuse_filled(url: str) -> None:
    database = Database(url, DatabaseRole.OWNER, application="restore", pool_size=1)
    try:
        if restoring.has_tables(database):
            raise StackError(
                "the database has tables already: restore into an empty one (DATABASE_URL), or into a new data "
                "directory (TOCSIN_DATA_DIR)"
            )
    finally:
        database.dispose()


def _vault(settings: Settings) -> Vault:
    keys = settings.encryption_keys or (with_keys(settings).encryption_keys if settings.database_url is None else None)
    return Vault(keys.get_secret_value() if keys else "")
