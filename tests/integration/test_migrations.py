"""Every migration on a filled database, and beside the version before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from psycopg.types.json import Jsonb
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from common.domain.errors import Contended
from common.settings import load_settings
from common.store import schema
from migrations import run
from migrations.run import CREDENTIALS_FILE, alembic_config, migrate, migrate_and_bootstrap
from tests.stack import Seed, wait_until

REVISIONS = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]


def upgrade(url: str, revision: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        command.upgrade(alembic_config(connection), revision)
        connection.commit()
        connection.exec_driver_sql("SELECT keep_result_partitions(2, 3650)")
        connection.commit()
    engine.dispose()


def read(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


def fill(url: str) -> None:
    """What the first version writes: a row of every kind that later migrations touch."""
    seed = Seed(url)
    monitor = seed.monitor("http://127.0.0.1:9/")
    seed.run(
        "INSERT INTO incidents"
        " (id, org_id, monitor_id, source, dedup_key, title, severity, priority, status, opened_at)"
        " SELECT gen_random_uuid(), org_id, id, 'monitor', 'monitor:' || id, 'x is down', 'error', 'P2', 'open', now()"
        "   FROM monitors WHERE monitor_no = %s",
        monitor,
    )
    seed.run(
        "INSERT INTO incident_events (id, org_id, incident_id, version, type, actor, snapshot, at)"
        " SELECT gen_random_uuid(), org_id, id, 1, 'opened', 'tocsin', %s, now() FROM incidents ON CONFLICT DO NOTHING",
        Jsonb({}),
    )
    seed.run(
        "INSERT INTO channels (id, org_id, name, type, config, is_default)"
        " VALUES (gen_random_uuid(), %s, 'hook', 'webhook', %s, true)",
        seed.org_id,
        Jsonb({"url": "http://127.0.0.1:9/"}),
    )
    seed.run(
        "INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, next_attempt_at)"
        " SELECT gen_random_uuid(), e.org_id, e.id, e.incident_id, c.id, 'opened', 'pending', now()"
        "   FROM incident_events e JOIN channels c ON c.org_id = e.org_id ON CONFLICT DO NOTHING"
    )


COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity FROM information_schema.columns
 WHERE table_schema = 'public' AND table_name !~ '_[0-9]{8}$'
"""
ROWS = "SELECT count(*) FROM {}"
TABLES = ("organizations", "monitors", "votes", "monitor_states", "incidents", "incident_events", "channels")


def test_the_code_needs_the_newest_revision() -> None:
    assert REVISIONS[-1] == schema.REVISION
    folder = Path(__file__).parents[2] / "migrations" / "versions"
    assert sorted(path.name[:4] for path in folder.glob("[0-9]*.py")) == REVISIONS


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_a_filled_database_is_migrated_and_the_version_before_still_finds_all_it_knows(
    empty_database: str, revision: str
) -> None:
    upgrade(empty_database, REVISIONS[REVISIONS.index(revision) - 1])
    fill(empty_database)
    known = set(read(empty_database, COLUMNS))
    rows = {table: read(empty_database, ROWS.format(table)) for table in TABLES}
    upgrade(empty_database, revision)
    now = set(read(empty_database, COLUMNS))
    assert known <= now, "a column changed or went"
    tables = {table for table, *_ in known}
    # The version before does not name a new column when it writes.
    forced = [c for c in now - known if c[0] in tables and c[3] == "NO" and c[4] is None and c[5] == "NO"]
    assert forced == []
    assert {table: read(empty_database, ROWS.format(table)) for table in TABLES} == rows
    assert read(empty_database, "SELECT count(*) FROM notifications WHERE status = 'pending'") == [(1,)]
    fill(empty_database)  # as the version before goes on writing


def test_a_version_before_that_starts_again_leaves_a_newer_schema_alone(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_database)
    read_before = read(empty_database, COLUMNS)
    with psycopg.connect(empty_database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    migrate(empty_database)
    assert read(empty_database, "SELECT version_num FROM alembic_version") == [("9999",)]
    assert read(empty_database, COLUMNS) == read_before


def test_every_tenant_table_has_row_level_security_and_a_policy_for_its_tenant(database_url: str) -> None:
    found = read(
        database_url,
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,"
        "       EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant')"
        "  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id'"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace",
    )
    assert len(found) >= 15
    # Tokens belong to a session and are only reached through functions.
    assert [row for row in found if not row[1] or (not row[2] and row[0] != "refresh_tokens")] == []


@contextmanager
def report(url: str) -> Iterator[None]:
    """A transaction that reads states and does not end: it is in the way of what changes the table."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT count(*) FROM monitor_states").fetchall()
        yield


def write_on(
    url: str, stop: threading.Event, statement: LiteralString = "UPDATE monitor_states SET health = health"
) -> tuple[int, float]:
    """Write until told to stop, twenty times at least: how often, and how long the slowest write took."""
    count, slowest_s = 0, 0.0
    with psycopg.connect(url, autocommit=True) as connection:
        while count < 20 or not stop.is_set():
            begun_s = time.monotonic()
            connection.execute(statement)
            count, slowest_s = count + 1, max(slowest_s, time.monotonic() - begun_s)
            time.sleep(0.01)
    return count, slowest_s


def test_writers_go_on_while_a_migration_waits_for_a_long_transaction(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    upgrade(empty_database, "0007")
    fill(empty_database)
    monkeypatch.setattr(run, "_LOCK_WAIT_S", 0.3)
    monkeypatch.setattr(run, "_PAUSE_S", 0.3)
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        with report(empty_database):
            migrated = pool.submit(migrate, empty_database)
            time.sleep(0.5)
            writing = pool.submit(write_on, empty_database, stop)
            time.sleep(3.0)
            stop.set()
            # A writer that waits for as long as the migration would wait for us.
            _, slowest_s = writing.result(timeout=30)
            waits = not migrated.done()
        migrated.result(timeout=60)
    assert waits, "nothing was in the way"
    assert slowest_s < HELD_UP_S
    assert read(empty_database, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    assert "".join(capfd.readouterr()).count("migration_waits") == 1


def test_a_migration_that_never_gets_its_lock_says_so_and_goes_on_where_it_stopped(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(empty_database, "0007")
    with monkeypatch.context() as impatient, report(empty_database):
        impatient.setattr(run, "_LOCK_WAIT_S", 0.1)
        impatient.setattr(run, "_PAUSE_S", 0.1)
        impatient.setattr(run, "_PATIENCE_S", 0.5)
        with pytest.raises(Contended, match=r"lock timeout.*pg_stat_activity"):
            migrate(empty_database)
    stopped_at = read(empty_database, "SELECT version_num FROM alembic_version")
    assert stopped_at != [(REVISIONS[-1],)]
    migrate(empty_database)
    assert read(empty_database, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]


#: A statement that is in a writer's way gives up after three seconds; a machine that stutters adds some.
HELD_UP_S = 12.0

OLD_INCIDENTS = """
INSERT INTO incidents (id, org_id, source, dedup_key, title, severity, priority, status, opened_at, resolved_at)
SELECT gen_random_uuid(), o.id, 'test', 'old-' || n, 'x is down', 'error', 'P2', 'resolved', now(), now()
  FROM (SELECT id FROM organizations LIMIT 1) o, generate_series(1, 20000) AS n
"""
BUILDING = "SELECT 1 FROM pg_class WHERE relname = 'incidents_by_end'"
UNFINISHED = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


@contextmanager
def unfinished_write(url: str) -> Iterator[None]:
    """A transaction that has changed an incident and does not end: every index on incidents waits for it."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE incidents SET title = title WHERE dedup_key = 'old-1'")
        yield


@pytest.fixture
def before_indexes(empty_database: str) -> str:
    """A filled database of the version before the first indexes that are built beside writers."""
    upgrade(empty_database, "0012")
    fill(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute(OLD_INCIDENTS)
    return empty_database


def test_nobody_who_writes_waits_for_an_index_that_is_built(before_indexes: str) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        with unfinished_write(before_indexes):
            migrated = pool.submit(migrate, before_indexes)
            wait_until(lambda: read(before_indexes, BUILDING), 30, "the first index being built")
            statement: LiteralString = "UPDATE incidents SET title = title WHERE dedup_key = 'old-2'"
            writing = pool.submit(write_on, before_indexes, stop, statement)
            time.sleep(1.5)
            stop.set()
            # A writer that waits for the index would wait for us.
            _, slowest_s = writing.result(timeout=30)
            waits = not migrated.done()
        migrated.result(timeout=60)
    assert waits, "nothing was in the way of the index"
    assert slowest_s < HELD_UP_S
    assert read(before_indexes, UNFINISHED) == []
    assert read(before_indexes, BUILDING) == [(1,)]


def test_an_index_whose_building_was_interrupted_is_built_anew(before_indexes: str) -> None:
    with ThreadPoolExecutor(1) as pool, unfinished_write(before_indexes):
        interrupted = pool.submit(migrate, before_indexes)
        wait_until(lambda: read(before_indexes, BUILDING), 30, "the first index being built")
        read(
            before_indexes,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'",
        )
        with pytest.raises((psycopg.OperationalError, DBAPIError)):
            interrupted.result(timeout=60)
    assert read(before_indexes, UNFINISHED) == [("incidents_by_end",)]
    assert read(before_indexes, "SELECT version_num FROM alembic_version") == [("0012",)]
    migrate(before_indexes)
    assert read(before_indexes, UNFINISHED) == []
    assert read(before_indexes, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname LIKE '%\\_by\\_incident'"
    assert read(before_indexes, owners) == [("tocsin_owner",)]


def test_whoever_waits_for_the_turn_to_migrate_is_not_waited_for_by_an_index(
    before_indexes: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        with unfinished_write(before_indexes):
            first = pool.submit(migrate, before_indexes)
            wait_until(lambda: read(before_indexes, BUILDING), 30, "the first index being built")
            others = [pool.submit(migrate, before_indexes) for _ in range(2)]
            time.sleep(1.5)  # a deadlock is found after one second
        for done in (first, *others):
            done.result(timeout=60)
    assert "migration_waits" not in "".join(capfd.readouterr())
    assert read(before_indexes, UNFINISHED) == []


@contextmanager
def somebody_starts(url: str) -> Iterator[None]:
    """A role that makes itself known, on a machine so slow that this takes long, and in the end in vain."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO locations (name) VALUES ('local')")
        yield
        connection.rollback()


def test_a_first_start_on_a_slow_machine_waits_until_it_can_make_its_administrator(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_database)
    monkeypatch.setattr(run, "_LOCK_WAIT_S", 0.3)
    monkeypatch.setattr(run, "_PAUSE_S", 0.2)
    settings = load_settings({"DATABASE_URL": empty_database, "TOCSIN_DATA_DIR": str(tmp_path)})
    with monkeypatch.context() as impatient, somebody_starts(empty_database):
        impatient.setattr(run, "_PATIENCE_S", 0.5)
        with pytest.raises(Contended, match=r"the first administrator could not be made.*lock timeout"):
            migrate_and_bootstrap(settings)
    with ThreadPoolExecutor(1) as pool:
        with somebody_starts(empty_database):
            made = pool.submit(migrate_and_bootstrap, settings)
            time.sleep(1.2)
            assert not made.done()
        message = made.result(timeout=60)
    assert message is not None and CREDENTIALS_FILE in message
    assert (tmp_path / CREDENTIALS_FILE).exists()
    assert read(empty_database, "SELECT count(*) FROM users") == [(1,)]
