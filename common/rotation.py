"""`tocsin rotate-keys`: seal every stored secret with the newest key, so that the older ones can be dropped.

It goes through the tables in pieces, each a transaction of its own; broken off, it is simply started again. The roles
may go on meanwhile, as long as they know both keys.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from common.domain.errors import SettingsError
from common.keys import with_keys
from common.settings import Settings
from common.store import sealed
from common.store.engine import Database, DatabaseRole
from common.up import stack_file
from common.vault import SecretUnreadable, Vault

_BATCH = 500


@dataclass(slots=True)
class Counts:
    """What became of a table's secrets."""

    resealed: int = 0
    current: int = 0
    unreadable: int = 0


def run(settings: Settings) -> int:
    """Rotate and report; 1 when a secret was left behind because no key opens it. Raises SettingsError."""
    database = Database(_database_url(settings), DatabaseRole.OWNER, application="rotate-keys", pool_size=1)
    # Those of the embedded stack are in its data directory; with DATABASE_URL they are given.
    keys = settings.encryption_keys or (with_keys(settings).encryption_keys if settings.database_url is None else None)
    left = 0
    try:
        for table, counts in rotate(database, Vault(keys.get_secret_value() if keys else "")):
            sys.stdout.write(
                f"{table}: {counts.resealed} sealed anew, {counts.current} under the newest key already, "
                f"{counts.unreadable} unreadable\n"
            )
            left += counts.unreadable
    finally:
        database.dispose()
    if left:
        sys.stderr.write(
            f"{left} secrets open with none of TOCSIN_ENCRYPTION_KEYS: add their key, or write them anew\n"
        )
    return 1 if left else 0


def rotate(database: Database, vault: Vault, *, batch: int = _BATCH) -> Iterator[tuple[str, Counts]]:
    """Seal a table's secrets anew, table by table; (table, what became of them)."""
    for table in sealed.OWNERS:
        counts, after = Counts(), sealed.FIRST
        while True:
            with database.begin() as connection:
                rows = sealed.take(connection, table, after=after, limit=batch)
                tokens = [(row.id, token) for row in rows if (token := _reseal(vault, row, counts)) is not None]
                sealed.write(connection, table, tokens)
            if len(rows) < batch:
                break
            after = rows[-1].id
        yield table, counts


def _reseal(vault: Vault, row: sealed.Sealed, counts: Counts) -> str | None:
    try:
        token = vault.reseal(row.owner, row.token)
    except SecretUnreadable:
        counts.unreadable += 1
        return None
    if token is None:
        counts.current += 1
    else:
        counts.resealed += 1
    return token


def _database_url(settings: Settings) -> str:
    """The database that is set, or the embedded one of the stack that runs in this data directory."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    path = stack_file(settings.data_dir)
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["database_url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"nothing runs in {settings.data_dir}: start `tocsin up` there, or set DATABASE_URL"
        ) from None
