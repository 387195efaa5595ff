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


def test_a_login_of_its_own_for_a_worker_takes_that_role_alone(managed_url: str) -> None:
    """As docs/security.md makes it."""
    migrate(managed_url)
    with psycopg.connect(managed_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE far_worker LOGIN PASSWORD 'far' IN ROLE tocsin_worker")
    url = make_url(managed_url).set(username="far_worker", password="far").render_as_string(hide_password=False)
    worker = Database(url, DatabaseRole.WORKER, application="test")
    with worker.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM monitors")).scalar_one() == 0
    worker.dispose()
    for role in (DatabaseRole.OWNER, DatabaseRole.API):
        other = Database(url, role, application="test")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied to set role"), other.begin():
            pass
        other.dispose()
