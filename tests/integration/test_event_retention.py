"""Incidents of long ago are forgotten with all that tells of them, and nothing else is."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from common.clock import utc_now
from common.domain.incident import Severity
from common.settings import Settings
from common.store import forgotten, incidents
from common.store.incidents import Opening
from scheduler.app import _forget_incidents
from tests.conftest import Databases
from tests.stack import Seed
from tests.world import World

DAYS = 400
#: Every table that refers to an incident; a new one needs its place in common/store/forgotten.py.
HANDLED = {
    "incidents", "incident_events", "notifications", "reminders", "alerts", "alert_ends", "parent_holds", "held_notes",
    "blind_incidents",
}  # fmt: skip


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


def past(world: World, count: int = 1, *, days: int = 500) -> list[str]:
    """Resolved incidents, all told, that ended so long ago."""
    ids = world.open(count)
    for id_ in ids:
        world.resolve(id_)
    world.relay_all()
    world.run("UPDATE notifications SET status = 'sent' WHERE status = 'pending'")
    age(world, ids, days)
    return ids


def age(world: World, ids: list[str], days: int) -> None:
    world.run(
        "UPDATE incidents SET resolved_at = now() - %(days)s * interval '1 day' WHERE id = ANY(%(ids)s::uuid[])",
        ids=ids,
        days=days,
    )


def step(world: World, after: forgotten.Place | None = None, limit: int = forgotten.STEP) -> forgotten.Step:
    with world.worker.begin() as connection:
        return forgotten.forget(connection, days=DAYS, after=after, limit=limit)


def left(world: World) -> set[str]:
    return {row[0] for row in world.run("SELECT id::text FROM incidents")}


def test_old_ones_go_with_their_history_and_young_and_open_ones_stay(world: World) -> None:
    world.channel("http://127.0.0.1:9/")
    past(world, 3)
    young = past(world, 2, days=399)
    stays_open = world.open(1)
    world.run(
        "INSERT INTO delivery_attempts (id, org_id, notification_id, number, outcome, duration_ms, at)"
        " SELECT gen_random_uuid(), org_id, id, 1, 'delivered', 1, now() FROM notifications"
    )
    assert len(world.attempts()) == 10
    assert _forget_incidents(world.worker, Settings(), threading.Event()) is False
    assert left(world) == {*young, *stays_open}
    assert len(world.attempts()) == len(world.ledger()) == 4
    assert world.run("SELECT count(*) FROM incident_events") == [(5,)]


def test_steps_are_bounded_and_go_past_what_has_to_stay(world: World) -> None:
    ids = past(world, 5)
    age(world, ids[:2], 600)
    for id_ in ids[:2]:
        world.run(
            "INSERT INTO alerts (org_id, alert_id, status, incident_id)"
            " VALUES (%(o)s, %(i)s::text, 'resolved', %(i)s::uuid)",
            o=world.org_id,
            i=id_,
        )
    first = step(world, limit=2)
    assert (first.forgotten, left(world)) == (0, set(ids))
    second = step(world, first.place, limit=2)
    assert second.forgotten == 2
    assert step(world, second.place, limit=2) == forgotten.Step(1, None)
    assert left(world) == set(ids[:2])
    world.run("DELETE FROM alerts")  # an alert's identity is over: now its incident goes
    assert step(world) == forgotten.Step(2, None)


def test_what_still_tells_or_is_still_to_be_told_stays(world: World) -> None:
    world.channel("http://127.0.0.1:9/")
    pending, free = past(world, 2)
    world.run("UPDATE notifications SET status = 'pending' WHERE incident_id = %(i)s", i=pending)
    unrelayed = world.open(1)
    world.resolve(unrelayed[0])
    age(world, unrelayed, 500)
    parent, blind = past(world, 2)
    world.run("UPDATE notifications SET status = 'pending' WHERE incident_id = %(i)s", i=pending)
    world.run("INSERT INTO parent_holds (incident_id, org_id) VALUES (%(i)s, %(o)s)", i=parent, o=world.org_id)
    world.run("INSERT INTO blind_incidents VALUES (1, %(o)s, %(i)s)", i=blind, o=world.org_id)
    world.run("DELETE FROM outbox")
    world.run("UPDATE incident_events SET seq = NULL WHERE incident_id = %(i)s", i=unrelayed[0])
    assert step(world).forgotten == 1
    assert free not in left(world)
    assert left(world) == {pending, unrelayed[0], parent, blind}


def test_who_came_of_a_forgotten_one_stays_and_forgets_it_but_an_open_one_is_not_touched(world: World) -> None:
    old, older = past(world, 2)
    young = past(world, 1, days=10)[0]
    still = world.open(1)[0]
    world.run("UPDATE incidents SET reopened_from = %(f)s WHERE id = %(i)s", f=old, i=young)
    world.run("UPDATE incidents SET reopened_from = %(f)s WHERE id = %(i)s", f=older, i=still)
    assert step(world).forgotten == 1
    assert left(world) == {older, young, still}
    assert world.run("SELECT reopened_from FROM incidents WHERE id = %(i)s", i=young) == [(None,)]


def test_two_at_once_share_the_work_and_other_tenants_keep_theirs(world: World) -> None:
    other = World(world.owner, world.worker)
    theirs = past(other, 3, days=10)
    past(world, 60)
    with world.worker.begin() as held, ThreadPoolExecutor(1) as pool:
        first = forgotten.forget(held, days=DAYS, limit=20)
        second = pool.submit(step, world).result(60)  # skips what is held instead of waiting for it
    assert (first.forgotten, second.forgotten) == (20, 40)
    assert left(world) == set(theirs)


def open_again(world: World, reopened_from: str | None) -> str:
    opening = Opening(
        world.org_id,
        None,
        "test",
        "one-problem",
        "Shop is down",
        Severity.ERROR,
        {},
        utc_now(),
        "c" * 32,
        reopened_from,
    )
    with world.worker.begin() as connection:
        return next(iter(incidents.open_all(connection, [opening]).values()))


def test_the_same_problem_opens_anew_afterwards(world: World) -> None:
    old = open_again(world, None)
    world.resolve(old)
    world.relay_all()
    age(world, [old], 500)
    assert step(world).forgotten == 1
    new = open_again(world, None)
    assert left(world) == {new} != {old}


def test_one_that_its_monitor_may_still_reopen_stays_until_it_recovers(world: World, database_url: str) -> None:
    seed = Seed(database_url)
    number = seed.monitor("http://127.0.0.1:9/")
    (id_,) = past(world, 1)
    world.run("UPDATE monitors SET org_id = %(o)s WHERE monitor_no = %(n)s", o=world.org_id, n=number)
    world.run("UPDATE monitor_states SET last_resolved = %(i)s WHERE monitor_no = %(n)s", i=id_, n=number)
    world.run(
        "UPDATE incidents SET monitor_id = (SELECT id FROM monitors WHERE monitor_no = %(n)s) WHERE id = %(i)s",
        i=id_,
        n=number,
    )
    assert step(world).forgotten == 0
    world.run("UPDATE monitor_states SET last_resolved = NULL WHERE monitor_no = %(n)s", n=number)
    assert step(world).forgotten == 1


def test_a_redelivery_under_way_is_waited_for_and_seen(world: World) -> None:
    world.channel("http://127.0.0.1:9/")
    old = past(world, 1)[0]
    with ThreadPoolExecutor(1) as pool:
        with world.owner.begin() as redelivery:
            redelivery.exec_driver_sql("UPDATE notifications SET status = 'pending'")
            waiting = pool.submit(step, world)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        assert waiting.result(60).forgotten == 0
    assert left(world) == {old}


def test_every_reference_to_an_incident_is_handled(world: World) -> None:
    found = world.run(
        "SELECT conrelid::regclass::text FROM pg_constraint"
        " WHERE contype = 'f' AND confrelid = 'incidents'::regclass AND conparentid = 0"
    )
    assert {row[0] for row in found} == HANDLED


def test_a_step_finds_its_incidents_by_their_end_among_many(world: World) -> None:
    world.run(
        "INSERT INTO incidents (id, org_id, source, dedup_key, title, severity, priority, status, opened_at,"
        " resolved_at) SELECT gen_random_uuid(), %(o)s, 'test', g::text, 'x', 'error', 'P2', 'resolved', now(),"
        " now() - g * interval '6 minutes' FROM generate_series(1, 100000) g",
        o=world.org_id,
    )
    world.run("ANALYZE incidents")
    values = {"days": DAYS, "after_at": "-infinity", "after_id": str(uuid4()), "limit": forgotten.STEP}
    with world.worker.begin() as connection:
        plan = connection.exec_driver_sql("EXPLAIN (FORMAT JSON)" + forgotten._HOLD, values).scalar_one()
    assert "incidents_by_end" in json.dumps(plan)
    assert "Seq Scan" not in json.dumps(plan)
    assert "Sort" not in {node["Node Type"] for node in [plan[0]["Plan"], *plan[0]["Plan"]["Plans"]]}
    assert step(world).forgotten == forgotten.STEP
