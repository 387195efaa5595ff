"""GET /v1/locations: who lives where, and what it has come to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from api import schemas
from api.app import create_app, open_services
from common.broker import enqueue_checks
from common.domain.checks import Check, Kind, Lane
from common.store import blindness
from common.store.blindness import Sign
from tests import api_cast
from tests.api_cast import Person, World

world = api_cast.world


def sign(world: World, worker: int, *, location: str = "local", ago_s: float = 0, **said: Any) -> None:
    """A worker gave a sign so long ago."""
    number = world.rows("SELECT id FROM locations WHERE name = %(name)s", name=location)[0]["id"]
    id_ = f"00000000-0000-0000-0000-{worker:012d}"
    given = Sign(id_, number, **{"saw": 1, "blinded": 0, "checks_minute": 60, "judged_s": 0.0, **said})
    with world.databases.worker.begin() as connection:
        blindness.sign(connection, given)
    world.execute(
        "UPDATE worker_signs SET seen_at = seen_at - %(ago)s * interval '1 s' WHERE id = %(id)s", ago=ago_s, id=id_
    )


def sight(world: World, **columns: Any) -> None:
    """What the leader makes of the location `local`."""
    names, values = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    world.execute(
        f"INSERT INTO location_sights (location, looked_at, {names}) SELECT id, now(), {values} FROM locations",
        **columns,
    )


def local(person: Person) -> dict[str, Any]:
    response = person.get("/v1/locations")
    assert response.status_code == 200, response.text
    [found] = response.get_json()["data"]
    schemas.Location.model_validate(found, strict=False)
    return dict(found)


def test_a_location_without_a_worker_says_so(world: World) -> None:
    found = local(world.alice)
    created = found.pop("created_at")
    assert datetime.fromisoformat(created).tzinfo is not None
    assert found == {
        "name": "local", "status": "stale", "workers": 0, "checks_last_minute": 0, "last_seen_at": None,
        "last_result_at": None, "backlog": {"fast": 0, "slow": 0, "urgent": 0}, "blind_since": None, "reason": None,
    }  # fmt: skip


def test_workers_that_live_are_counted_together_and_the_dead_are_not(world: World) -> None:
    sign(world, 1, checks_minute=100, judged_s=3.0)
    sign(world, 2, checks_minute=20, judged_s=None, ago_s=1)
    sign(world, 3, checks_minute=5_000, judged_s=2.0, ago_s=11)
    found = local(world.alice)
    assert (found["status"], found["workers"], found["checks_last_minute"]) == ("fresh", 2, 120)
    # The newest result may be one that a dead worker stored.
    assert datetime.fromisoformat(found["last_seen_at"]) > datetime.fromisoformat(found["last_result_at"])


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"failing_since": "2026-03-01T12:00:00Z", "reason": "network"}, "stale"),
        ({"blind_since": "2026-03-01T12:00:00Z", "reason": "no_results"}, "blind"),
        ({"reason": None}, "fresh"),
    ],
)
def test_what_the_leader_makes_of_it_is_shown(world: World, columns: dict[str, Any], status: str) -> None:
    sign(world, 1)
    sight(world, **columns)
    found = local(world.bob)
    assert (found["status"], found["reason"]) == (status, columns["reason"])
    assert (found["blind_since"] is not None) is (status == "blind")


def test_what_waits_is_shown_by_lane(world: World) -> None:
    checks = [Check(number, 1, 0, Kind.SCHEDULED) for number in range(250)]
    enqueue_checks(world.services.broker, Lane.FAST, "local", checks)
    enqueue_checks(world.services.broker, Lane.URGENT, "local", checks[:1])
    assert local(world.alice)["backlog"] == {"fast": 3, "slow": 0, "urgent": 1}


@pytest.fixture
def without_redis(world: World, database_url: str) -> Iterator[World]:
    settings = world.services.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    services = open_services(settings)
    client = create_app(services).test_client()
    world.alice._client = client
    yield world
    services.database.dispose()
    services.platform.close()


def test_it_answers_without_redis(without_redis: World) -> None:
    sign(without_redis, 1)
    found = local(without_redis.alice)
    assert (found["status"], found["backlog"]) == ("fresh", None)


def test_where_anybody_may_register_queues_are_the_operators(world: World) -> None:
    settings = world.services.settings
    object.__setattr__(world.services, "settings", settings.model_copy(update={"registration": "open"}))
    assert local(world.alice)["backlog"] is None


#: (newest slot so long ago in s, made or resumed so long ago, what is shown) of one with interval 30 and timeout 10.
SHOWN = [
    (60, 3_600, "up"),
    (80, 3_600, "unknown"),  # two intervals, a timeout and five seconds
    (80, 60, "up"),  # resumed: it has to be looked at first
    (3_600, 80, "unknown"),
]


@pytest.mark.parametrize(("slot_s", "from_s", "status"), SHOWN)
def test_a_monitor_that_nobody_looked_at_lately_is_unknown(world: World, slot_s: int, from_s: int, status: str) -> None:
    monitor = world.alice.make_monitor(interval_seconds=30, timeout_seconds=10)
    world.execute(
        "UPDATE monitors SET check_from = now() - %(s)s * interval '1 s' WHERE id = %(id)s", s=from_s, id=monitor["id"]
    )
    world.execute("UPDATE votes SET last_slot = now() - %(s)s * interval '1 s', last_verdict = 1, health = 1", s=slot_s)
    world.execute("UPDATE monitor_states SET health = 1")
    shown = world.alice.get(f"/v1/monitors/{monitor['id']}").get_json()["state"]
    assert shown["status"] == status
    assert shown["last_check_at"] is not None
    [listed] = world.alice.get("/v1/monitors").get_json()["data"]
    assert listed["state"]["status"] == status


def test_nobody_opens_an_alert_under_the_key_of_a_location(world: World) -> None:
    alert = {"name": "x", "source": "s", "severity": "error", "status": "firing", "summary": "x",
             "dedup_key": "tocsin:blind:local"}  # fmt: skip
    response = world.alice.post("/v1/alerts", json=[alert])
    assert response.status_code == 400, response.text
    assert "reserved" in response.text
