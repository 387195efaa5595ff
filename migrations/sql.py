"""Runs the SQL files of a migration; SQL stands in files of its own, where it reads and highlights as SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import psycopg
from alembic import op

#: An index that is built beside writers waits for every transaction that is older, and nobody waits for it meanwhile:
#: longer than what changes a table may wait (seconds).
BUILD_WAIT_S = 120.0

_BUILD = re.compile(r"CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+) [^;]+")
_UNFINISHED = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"


def run_sql(name: str) -> None:
    """Run all statements of `migrations/versions/<name>` in the migration's transaction."""
    # Straight to the driver: many statements in one go, and % is not a placeholder there without parameters.
    _driver().execute(_read(name))


def build_indexes(name: str) -> None:
    """Build the indexes of `migrations/versions/<name>`, one after the other and without keeping any writer waiting.

    What came before in the migration is committed, and each index for itself: who is interrupted goes on there. An
    index that was not finished is there, is kept up to date and used by nobody; it goes, and is built anew.
    """
    with op.get_context().autocommit_block(), _as_owner(_driver()) as driver:
        for build in _BUILD.finditer(_read(name)):
            if driver.execute(_UNFINISHED, (build[1],)).fetchone() is not None:
                driver.execute(f"DROP INDEX CONCURRENTLY {build[1]}".encode())
            driver.execute(build[0].encode())


@contextmanager
def _as_owner(driver: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """Outside of a transaction a role and a timeout last until they are taken back."""
    patience = driver.execute("SHOW lock_timeout").fetchone()
    driver.execute(f"SET ROLE tocsin_owner; SET lock_timeout = {int(BUILD_WAIT_S * 1000)}".encode())
    try:
        yield driver
    finally:
        if not driver.closed:
            driver.execute("RESET ROLE")
            driver.execute("SELECT set_config('lock_timeout', %s, false)", patience)


def _read(name: str) -> str:
    return files("migrations").joinpath("versions", name).read_text(encoding="utf-8")


def _driver() -> Any:
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    return driver
