"""Real servers for every integration test: one embedded PostgreSQL and Valkey per test process, a database per test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from sqlalchemy.engine import make_url

from common.embedded import EmbeddedServers, EmbeddedUrls
from common.store.engine import Database, DatabaseRole
from migrations.run import migrate

_numbers = itertools.count(1)

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedUrls]:
    """PostgreSQL with a migrated template database, and Valkey; both end with the run.

    TEST_DATABASE_URL names another PostgreSQL, for one run at a time and to be used up: a superuser's login, as the
    embedded one is.
    """
    given = os.environ.get("TEST_DATABASE_URL")
    # A short path: a Unix socket's name may have 107 characters.
    data_dir = Path(tempfile.mkdtemp(prefix="tocsin-"))
    data_dir.chmod(0o755)
    with EmbeddedServers(data_dir, lambda _line: None, postgres=given is None) as owned:
        urls = owned.start()
        if given is None:
            # A database per test is a directory per test: what must survive a crash of the machine is not tested here.
            _admin(urls, "ALTER SYSTEM SET fsync = off")
            # A copy by the file system takes a tenth of the time that one through the log takes.
            _admin(urls, "ALTER SYSTEM SET file_copy_method = clone")
            _admin(urls, "SELECT pg_reload_conf()")
        else:
            urls = replace(urls, database_url=given)
        _admin(urls, "DROP DATABASE IF EXISTS tocsin_template")
        _admin(urls, "CREATE DATABASE tocsin_template")
        migrate(_database_url(urls, "tocsin_template"))
        yield urls
    shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture
def database_url(servers: EmbeddedUrls) -> Iterator[str]:
    """A migrated database of this test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _admin(servers, f"CREATE DATABASE {name} TEMPLATE tocsin_template STRATEGY file_copy")
    yield _database_url(servers, name)
    _admin(servers, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def module_database_url(servers: EmbeddedUrls) -> Iterator[str]:
    """A migrated database that the tests of a module share."""
    name = f"module_{next(_numbers)}"
    _admin(servers, f"CREATE DATABASE {name} TEMPLATE tocsin_template STRATEGY file_copy")
    yield _database_url(servers, name)
    _admin(servers, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(servers: EmbeddedUrls) -> Iterator[str]:
    """A database of this test's own without a schema."""
    _admin(servers, "CREATE DATABASE unmigrated")
    yield _database_url(servers, "unmigrated")
    _admin(servers, "DROP DATABASE unmigrated WITH (FORCE)")


@pytest.fixture
def redis_url(servers: EmbeddedUrls) -> Iterator[str]:
    """An empty Valkey database of this test's own."""
    client = redis.Redis.from_url(servers.redis_url)
    client.flushall()
    yield servers.redis_url
    client.close()


@dataclass(frozen=True, slots=True)
class Databases:
    """The same database as each role sees it."""

    owner: Database
    api: Database
    worker: Database


@pytest.fixture
def databases(database_url: str) -> Iterator[Databases]:
    """Pools for all three roles."""
    pools = Databases(*(Database(database_url, role, application="test") for role in _ROLES))
    yield pools
    for pool in (pools.owner, pools.api, pools.worker):
        pool.dispose()


_ROLES = (DatabaseRole.OWNER, DatabaseRole.API, DatabaseRole.WORKER)


def _database_url(urls: EmbeddedUrls, name: str) -> str:
    return make_url(urls.database_url).set(database=name).render_as_string(hide_password=False)


def _admin(urls: EmbeddedUrls, statement: str) -> None:
    with psycopg.connect(urls.database_url, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL(statement))  # type: ignore[arg-type]
