"""What nobody can ask for any more goes: pings of deleted heartbeats, and changes of monitors deleted long ago."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from common.domain.accounting_cover import Level
from common.domain.health import Health
from common.store import rollups
from tests import api_cast
from tests.api_cast import World
from tests.conftest import Databases
from tests.heartbeat_world import Judges, judging, make, ping, state
from tests.integration.test_migrations import upgrade
from tests.rollup_world import Past
from tests.stack import Seed

world = api_cast.world

DAY = Level.DAY.ms


@pytest.fixture
def judges(world: World) -> Iterator[Judges]:
    world.services.pings.start()
    with judging(world) as judges:
        yield judges
    world.services.pings.close()


def test_a_deleted_one_is_forgotten_with_its_pings_and_its_secret(world: World, judges: Judges) -> None:
    kept, gone = make(world.alice, name="kept"), make(world.alice, name="gone")
    for monitor in (kept, gone):
        ping(world, monitor, "", "POST", data=b"what it said")
    judges.run()
    ping(world, gone)  # not judged when the monitor goes
    assert world.alice.delete(f"/v1/monitors/{gone['id']}").status_code == 204
    judges.run()
    assert world.rows("SELECT id::text FROM heartbeats") == [{"id": kept["id"]}]
    assert world.rows("SELECT count(DISTINCT monitor_no) AS n, count(*) AS pings FROM pings") == [{"n": 1, "pings": 1}]
    assert world.rows("SELECT 1 FROM ping_inbox") == []
    assert ping(world, gone).status_code == 404
    assert ping(world, kept).status_code == 200
    judges.run()
    assert state(world, kept)["status"] == "up"


def test_a_paused_one_is_not_forgotten(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    world.alice.post(f"/v1/monitors/{monitor['id']}/pause")
    judges.run()
    assert len(world.alice.get(f"/v1/monitors/{monitor['id']}/pings").get_json()["data"]) == 1


def heartbeat(seed: Seed, *, deleted: bool) -> int:
    """A heartbeat as version 0013 has it, with a ping."""
    number = seed.monitor("job", type="heartbeat")
    seed.run(
        "INSERT INTO heartbeats (id, org_id, monitor_no, token_hash, heard_at)"
        " SELECT id, org_id, monitor_no, sha256(id::text::bytea), now() FROM monitors WHERE monitor_no = %s",
        number,
    )
    seed.run("INSERT INTO pings VALUES (1, now(), NULL, %s, NULL, 1, 0, NULL, '', 'said')", number)
    if deleted:
        seed.run("UPDATE monitors SET deleted_at = now() WHERE monitor_no = %s", number)
    return number


def test_an_upgrade_forgets_those_that_were_deleted_before_and_the_version_before_goes_on(empty_database: str) -> None:
    upgrade(empty_database, "0013")
    seed = Seed(empty_database)
    kept, gone = heartbeat(seed, deleted=False), heartbeat(seed, deleted=True)
    upgrade(empty_database, "0014")
    assert gone != kept
    assert seed.run("SELECT monitor_no, successes, counted_from FROM heartbeats") == [(kept, [], None)]
    assert seed.run("SELECT monitor_no FROM pings") == [(kept,)]
    # As the version before writes: it names neither of the new columns.
    assert heartbeat(seed, deleted=False) in {row[0] for row in seed.run("SELECT monitor_no FROM heartbeats")}
    with psycopg.connect(empty_database) as connection:
        connection.execute("SET ROLE tocsin_worker")
        update = "UPDATE heartbeats SET heard_at = now(), pings = pings + 1 WHERE monitor_no = %s"
        assert connection.execute(update, (kept,)).rowcount == 1
        assert connection.execute("DELETE FROM heartbeats WHERE monitor_no = %s", (kept,)).rowcount == 1


@pytest.fixture
def past(databases: Databases, database_url: str) -> Past:
    return Past(databases, Seed(database_url))


def changes(past: Past, table: str) -> dict[int, int]:
    found: list[tuple[Any, ...]] = past.seed.run(f"SELECT monitor_no, count(*) FROM {table} GROUP BY 1")
    return dict(found)


def keep(past: Past, days: int) -> None:
    with past.databases.worker.begin() as connection:
        rollups.keep(connection, fine_days=days, days=days)


def test_changes_are_kept_as_long_as_rollups_and_what_holds_as_long_as_its_monitor(past: Past) -> None:
    alive, gone, lately = past.monitor(), past.monitor(), past.monitor()
    old, older = past.start_ms - 41 * DAY, past.start_ms - 60 * DAY
    for number in (alive, gone, lately):
        past.watch(number, older)
        past.health(number, older, Health.UP)
        past.health(number, older + 1_000, Health.DOWN)
    past.watch(gone, old, gone=True)
    past.watch(lately, past.start_ms - DAY, gone=True)
    keep(past, 40)
    assert changes(past, "watch_changes") == {alive: 1, lately: 2}
    assert changes(past, "health_changes") == {alive: 1, lately: 1}
    health = past.seed.run("SELECT health FROM health_changes WHERE monitor_no = %s", alive)
    assert health == [(Health.DOWN.value,)]
    keep(past, 2)
    assert set(changes(past, "watch_changes")) == {alive, lately}


def test_none_of_it_is_forgotten_before_its_time(past: Past) -> None:
    number = past.plain(past.start_ms - 39 * DAY)
    past.health(number, past.start_ms - 38 * DAY, Health.DOWN)
    past.watch(number, past.start_ms - 37 * DAY, gone=True)
    before = changes(past, "watch_changes"), changes(past, "health_changes")
    keep(past, 40)
    assert (changes(past, "watch_changes"), changes(past, "health_changes")) == before
