"""A managed database's login may create roles but is no superuser: it migrates, and takes all three roles."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from common.embedded import EmbeddedServers
from common.store.engine import Database, DatabaseRole
from migrations.run import migrate


@pytest.fixture(scope="module")
def managed_url() -> Iterator[str]:
    """As RDS makes its master user: CREATEROLE, owner of its database, nothing more. The server has no roles yet."""
    data_dir = Path(tempfile.mkdtemp(prefix="tocsin-"))
    data_dir.chmod(0o755)
    with EmbeddedServers(data_dir, lambda _line: None) as owned:
        url = owned.start().database_url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE ROLE managed LOGIN CREATEROLE CREATEDB NOSUPERUSER PASSWORD 'managed'")
            connection.execute("CREATE DATABASE managed OWNER managed")
        managed = make_url(url).set(username="managed", password="managed", database="managed")
        yield managed.render_as_string(hide_password=False)
    shutil.rmtree(data_dir, ignore_errors=True)


def test_that_login_migrates_and_takes_every_role(managed_url: str) -> None:
    migrate(managed_url)
    for role in DatabaseRole:
        database = Database(managed_url, role, application="test")
        with database.begin() as connection:
            assert connection.execute(text("SELECT current_user")).scalar_one() == role.value
        database.dispose()
