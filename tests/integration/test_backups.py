"""`tocsin backup` and `restore`: everything comes back, into an empty database only, and Tocsin goes on with it."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from common import backups, cli, dumps
from common.domain.errors import StackError
from common.store.engine import Database, DatabaseRole
from common.vault import Vault, generate_key
from migrations.run import migrate
from tests.conftest import Databases
from tests.sink import Sink
from tests.world import World, posting

KEY = generate_key()
_TABLES = """
SELECT relname FROM pg_class
 WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
 ORDER BY relname
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def world(databases: Databases, sink: Sink) -> World:
    """An installation that has told of one incident and has still to tell of another."""
    world = World(databases.owner, databases.worker, key=KEY)
    world.channel(sink.url())
    world.open()
    world.relay_all()
    with posting(world) as post:
        post.round()
    world.open()
    world.relay_all()
    world.run("INSERT INTO results SELECT now(), 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, '1', '0'")
    return world


def contents(url: str) -> dict[str, int]:
    """{table: rows}, of all."""
    with psycopg.connect(url) as connection:
        tables = [row[0] for row in connection.execute(_TABLES)]
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}  # type: ignore[index, arg-type]


def test_everything_comes_back_and_what_waited_is_sent(
    world: World, sink: Sink, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    size = dumps.dump(database_url, file)
    assert size == file.stat().st_size and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]

    dumps.fill(empty_database, file)
    assert contents(empty_database) == contents(database_url)
    assert contents(empty_database)["results"] == 1

    migrate(empty_database)  # as the start does: the same schema, nothing to bring up to date
    restored = Database(empty_database, DatabaseRole.OWNER, application="test", pool_size=2)
    worker = Database(empty_database, DatabaseRole.WORKER, application="test", pool_size=2)
    try:
        assert backups.count_unreadable(restored, Vault(KEY)) == 0
        assert backups.count_unreadable(restored, Vault(generate_key())) == 1
        again = copy(world)
        again.owner, again.worker = restored, worker
        with posting(again) as post:
            post.round()
        assert [(row[2], row[3]) for row in again.ledger()] == [("sent", None), ("sent", None)]
    finally:
        restored.dispose()
        worker.dispose()
    assert len(sink.received) == 2


def test_results_can_be_left_out(world: World, database_url: str, empty_database: str, tmp_path: Path) -> None:
    dumps.dump(database_url, tmp_path / "backup", skip=backups._RESULTS)
    dumps.fill(empty_database, tmp_path / "backup")
    assert contents(empty_database) == {**contents(database_url), "results": 0}


def test_a_command_each_and_a_filled_database_is_refused(
    world: World, database_url: str, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "backup")
    monkeypatch.setenv("TOCSIN_ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("DATABASE_URL", database_url)
    runner = CliRunner()
    done = runner.invoke(cli.app, ["backup", file])
    assert done.exit_code == 0 and "Keep the keys as well" in done.output
    done = runner.invoke(cli.app, ["restore", file])
    assert done.exit_code == 2 and "has tables already" in done.output

    monkeypatch.setenv("DATABASE_URL", empty_database)
    done = runner.invoke(cli.app, ["restore", file])
    assert done.exit_code == 0, done.output
    assert "2 open incidents; 1 notifications wait" in done.output


def test_the_secrets_of_another_installation_are_said_to_be_unreadable(
    world: World, database_url: str, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumps.dump(database_url, tmp_path / "backup")
    monkeypatch.setenv("TOCSIN_ENCRYPTION_KEYS", generate_key())
    monkeypatch.setenv("DATABASE_URL", empty_database)
    done = CliRunner().invoke(cli.app, ["restore", str(tmp_path / "backup")])
    assert done.exit_code == 1 and "1 secrets open with none of the keys here" in done.output


def test_what_is_no_backup_changes_nothing(empty_database: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_bytes(b"PGDMP and no more")
    with pytest.raises(StackError, match="pg_restore failed"):
        dumps.fill(empty_database, file)
    assert contents(empty_database) == {}


def test_half_a_backup_changes_nothing_either(
    world: World, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    dumps.dump(database_url, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(StackError, match="failed"):
        dumps.fill(empty_database, file)
    assert contents(empty_database) == {}


def test_what_the_database_refuses_is_said_and_nothing_stays(
    world: World, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    dumps.dump(database_url, tmp_path / "backup")
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE monitors (id integer)")
    with pytest.raises(StackError, match=r'psql failed: .*"monitors" already exists'):
        dumps.fill(empty_database, tmp_path / "backup")
    assert contents(empty_database) == {"monitors": 0}


def test_a_login_that_row_level_security_hides_rows_from_writes_no_backup(
    world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE half_blind LOGIN PASSWORD 'x' IN ROLE tocsin_owner")
    try:
        blind = make_url(database_url).set(username="half_blind", password="x")
        monkeypatch.setenv("DATABASE_URL", blind.render_as_string(hide_password=False))
        done = CliRunner().invoke(cli.app, ["backup", str(tmp_path / "backup")])
        assert done.exit_code == 2 and "past row-level security" in done.output
        assert list(tmp_path.iterdir()) == []
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DROP ROLE half_blind")


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_database_that_is_away_is_one_line(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    done = CliRunner().invoke(cli.app, [command, str(tmp_path / "file")])
    assert (done.exit_code, done.output) == (2, f"tocsin {command}: the database cannot be reached\n")


def test_older_servers_are_not_told_of_what_they_do_not_know() -> None:
    script = b"--\nSET lock_timeout = 0;\nSET transaction_timeout = 0;\nCOPY t FROM stdin;\n" + b"row\n" * 100
    told = io.BytesIO()
    dumps._copy(io.BytesIO(script + b"SET transaction_timeout = 0;\n"), told)
    # What stands in a row stays.
    assert told.getvalue() == script.replace(b"SET transaction_timeout = 0;\n", b"") + b"SET transaction_timeout = 0;\n"


def test_a_failed_backup_leaves_the_older_one(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("older")
    with pytest.raises(StackError, match="pg_dump failed"):
        dumps.dump("postgresql://nobody@/none?host=/nowhere", file)
    assert file.read_text() == "older" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(StackError, match="cannot be written"):
        dumps.dump("postgresql:///", tmp_path / "none" / "backup")


def test_a_password_is_not_on_the_command_line() -> None:
    url = "postgresql://me:se%40cret@db.example:6543/tocsin?sslmode=verify-full"
    assert dumps.environment(url) == {
        "PGHOST": "db.example",
        "PGPORT": "6543",
        "PGUSER": "me",
        "PGPASSWORD": "se@cret",
        "PGDATABASE": "tocsin",
        "PGSSLMODE": "verify-full",
    }
