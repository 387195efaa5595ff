"""A database without a schema, or with an older one than the code: each role says it once, until it is migrated."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from sqlalchemy.exc import ProgrammingError

from common.domain.errors import NotMigrated
from common.embedded import EmbeddedServers
from common.store import readiness
from common.store.engine import Database, DatabaseRole
from common.store.readiness import Readiness
from migrations.run import migrate
from tests.integration.test_migrations import upgrade
from tests.integration.test_seed import run
from tests.stack import RoleProcess, Roles, wait_until
from tests.targets import free_port

#: Long enough for every loop of a role to have tried several times.
_LOOPS_TRY_S = 3.0


@contextmanager
def pool(url: str, role: DatabaseRole = DatabaseRole.WORKER) -> Iterator[Database]:
    database = Database(url, role, application="test", pool_size=1)
    yield database
    database.dispose()


def ask(url: str, statement: str) -> None:
    with pool(url) as database, database.begin() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def bare_server() -> Iterator[str]:
    """A server on which no database was ever migrated: it does not even know our roles."""
    data_dir = Path(tempfile.mkdtemp(prefix="tocsin-"))
    data_dir.chmod(0o755)
    with EmbeddedServers(data_dir, lambda _line: None, valkey=False) as owned:
        yield owned.start().database_url
    shutil.rmtree(data_dir, ignore_errors=True)


def test_what_is_missing_for_want_of_a_migration_is_told_from_what_is_missing(empty_database: str) -> None:
    with pytest.raises(NotMigrated, match="has no schema yet: run `tocsin migrate`"):
        ask(empty_database, "SELECT 1 FROM monitors")
    upgrade(empty_database, "0007")
    ask(empty_database, "SELECT 1 FROM monitors")  # what is there works
    for statement in (
        "SELECT 1 FROM maintenance_windows",
        "SELECT maintenance FROM monitor_states",
        "SELECT open_rollup_day(current_date)",
        "DELETE FROM incidents",  # a right that a later version gives
    ):
        with pytest.raises(NotMigrated, match="has schema 0007, and this version needs"):
            ask(empty_database, statement)
    migrate(empty_database)
    ask(empty_database, "SELECT maintenance FROM monitor_states")
    for statement in ("SELECT 1 FROM nowhere", "DROP TABLE monitors"):
        with pytest.raises(ProgrammingError):
            ask(empty_database, statement)


def test_a_server_that_does_not_know_our_roles_is_not_migrated_either(bare_server: str) -> None:
    for role in DatabaseRole:
        with pool(bare_server, role) as database:
            with pytest.raises(NotMigrated, match="no schema yet"), database.begin():
                pass
            with pytest.raises(NotMigrated), database.once() as once:
                once.exec_driver_sql("SELECT 1", {})
            assert readiness.check(database) is Readiness.MIGRATIONS_PENDING
    migrate(bare_server)
    with pool(bare_server) as database:
        assert readiness.check(database) is Readiness.OK


def test_an_operators_command_says_it_in_one_line(empty_database: str, tmp_path: Path) -> None:
    refused = run(["--monitors", "10", "--endpoint", "http://192.0.2.7/"], tmp_path, empty_database)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "tocsin seed: The database has no schema yet: run `tocsin migrate`.\n"


def told(process: RoleProcess) -> list[str]:
    """The one line that says it; and that nothing else was worth a warning, least of all a traceback."""
    assert process.alive
    assert [line for line in process.lines if "exception" in line or line["event"] == "raw"] == []
    said = [line for line in list(process.lines) if line["level"] in ("warning", "error", "critical")]
    return [f"{line['event']}: {line['error']}" for line in said]


@pytest.mark.parametrize("revision", ["", "0005"], ids=["empty", "older"])
def test_each_role_says_it_once_and_works_as_soon_as_somebody_migrates(
    empty_database: str, redis_url: str, revision: str
) -> None:
    if revision:
        upgrade(empty_database, revision)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with Roles(empty_database, redis_url, TOCSIN_JWT_KEY="k" * 40, TOCSIN_PORT=str(port)) as roles:
        started = {name: roles.start(name) for name in ("api", "scheduler", "worker", "notifier")}
        for process in started.values():
            process.wait_for("database_not_migrated")
        time.sleep(_LOOPS_TRY_S)
        what = f"has schema {revision}, and this version needs" if revision else "has no schema yet"
        for name, process in started.items():
            (line,) = told(process)
            assert line.startswith(f"database_not_migrated: The database {what}"), name
            assert line.endswith("run `tocsin migrate`.")

        ready = requests.get(f"{base}/readyz", timeout=60)
        assert (ready.status_code, ready.json()["checks"]["postgres"]) == (503, "migrations pending")
        assert requests.get(f"{base}/livez", timeout=60).status_code == 200
        login = {"email": "a@example.com", "password": "x"}
        refused = requests.post(f"{base}/v1/auth/login", json=login, timeout=60)
        if not revision:
            assert (refused.status_code, refused.json()["code"]) == (503, "NOT_MIGRATED")
            assert "tocsin migrate" in refused.json()["message"]
            assert int(refused.headers["Retry-After"]) >= 1
        assert [len(told(process)) for process in started.values()] == [1, 1, 1, 1]  # requests add none

        migrate(empty_database)
        for name in ("scheduler", "worker", "notifier"):
            started[name].wait_for(f"{name}_started")
        started["api"].wait_for("loop_recovered")
        wait_until(lambda: requests.get(f"{base}/readyz", timeout=60).status_code == 200, 60, "the API being ready")
        assert requests.post(f"{base}/v1/auth/login", json=login, timeout=60).status_code == 401
        started["scheduler"].wait_for("leading")
        assert [len(told(process)) for process in started.values()] == [1, 1, 1, 1]
