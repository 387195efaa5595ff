"""The cache of incidents: never an old answer, whoever wrote; ETags; and life without Redis."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from api.app import create_app
from common import incident_cache
from common.clock import utc_now
from common.domain.incident import EventType, Status
from common.incident_cache import IncidentCache
from common.store import incidents
from common.store.incidents import Alteration
from notifier.acknowledgements import Acknowledgements
from tests import api_cast
from tests.api_cast import Person, World
from tests.integration.test_api_channels import add_notification
from tests.integration.test_api_incidents_by_hand import make, set_status
from tests.statements import counted

world = api_cast.world

#: How long the cache waits for Redis.
IMPATIENT = (incident_cache._CONNECT_S, incident_cache._ANSWER_S)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that this machine keeps waiting for a moment is not away: what is kept is looked at here."""
    monkeypatch.setattr(incident_cache, "_CONNECT_S", 30.0)
    monkeypatch.setattr(incident_cache, "_ANSWER_S", 30.0)


def entries(redis_url: str) -> dict[str, dict[str, Any]]:
    """What Redis holds of incidents, by key."""
    with redis.Redis.from_url(redis_url) as client:
        return {key.decode(): json.loads(client.get(key)) for key in client.keys("tocsin:incident:*")}


def get(person: Person, incident: str) -> dict[str, Any]:
    response = person.get(f"/v1/incidents/{incident}")
    assert response.status_code == 200, response.text
    return response.get_json()


def worker_resolves(world: World, incident: str) -> None:
    change = Alteration(incident, EventType.RESOLVED, utc_now(), "c", status=Status.RESOLVED)
    with world.databases.worker.begin() as connection:
        incidents.alter_all(connection, [change])


# What is kept --------------------------------------------------------------------------------------------------------


def test_a_second_look_is_answered_from_redis_and_the_same(world: World, redis_url: str) -> None:
    made = make(world.alice, labels={"team": "shop"})
    first = get(world.bob, made["id"])
    ((key, kept),) = entries(redis_url).items()
    assert key == f"tocsin:incident:1:{world.org_a}:{made['id']}"
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl(key) <= 300
        client.set(key, json.dumps({**kept, "title": "from the cache"}))
    with counted(world.services.database) as sent:
        second = get(world.bob, made["id"])
    assert second == {**first, "title": "from the cache", "duration_seconds": second["duration_seconds"]}
    assert not any("postmortem" in statement for statement in sent)  # its content was not read


def test_others_do_not_see_what_is_kept(world: World) -> None:
    made = make(world.alice)
    get(world.alice, made["id"])
    assert world.charlie.get(f"/v1/incidents/{made['id']}").status_code == 404


def test_whatever_others_write_into_redis_breaks_nothing(world: World, redis_url: str) -> None:
    made = make(world.alice)
    good = get(world.alice, made["id"])
    (key,) = entries(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        for text in (b"", b"x", b"null", b"[]", b"5", b"{}", b'{"version": "1"}', b"\xff\xfe", b"[" * 100_000):
            client.set(key, text)
            assert get(world.alice, made["id"])["title"] == good["title"], text
        client.delete(key)
        client.rpush(key, "a list")
        assert get(world.alice, made["id"])["title"] == good["title"]


# Never an old answer -------------------------------------------------------------------------------------------------


def by_status(world: World, incident: str) -> None:
    set_status(world, incident, "ack")


def by_patch(world: World, incident: str) -> None:
    assert world.alice.patch(f"/v1/incidents/{incident}", json={"title": "Other"}).status_code == 200


def by_assigning(world: World, incident: str) -> None:
    body = {"assignee": world.users["bob"]}
    assert world.alice.patch(f"/v1/incidents/{incident}", json=body).status_code == 200


def by_comment(world: World, incident: str) -> None:
    assert world.alice.post(f"/v1/incidents/{incident}/comments", json={"body": "x"}).status_code == 201


def by_bulk(world: World, incident: str) -> None:
    assert world.alice.post("/v1/incidents/acknowledge", json={"ids": [incident]}).status_code == 200


def by_expiry(world: World, incident: str) -> None:
    world.execute(
        "UPDATE incidents SET status = 'acknowledged', version = version + 1,"
        " ack_expires_at = now() - interval '1 hour'"
    )
    get(world.bob, incident)  # acknowledged, and kept so
    Acknowledgements(world.databases.worker, utc_now).step()


@pytest.mark.parametrize("write", [by_status, by_patch, by_assigning, by_comment, by_bulk, by_expiry, worker_resolves])
def test_after_a_write_nobody_gets_the_old_answer(
    world: World, write: Callable[[World, str], None], redis_url: str
) -> None:
    incident = make(world.alice)["id"]
    before = world.bob.get(f"/v1/incidents/{incident}")
    kept = entries(redis_url)
    assert kept
    write(world, incident)
    after = world.bob.get(f"/v1/incidents/{incident}")
    (row,) = world.rows("SELECT status, title, version, assignee_id::text AS assignee FROM incidents")
    assert {name: after.get_json()[name] for name in row} == row
    assert row["version"] > before.get_json()["version"]
    assert after.headers["ETag"] != before.headers["ETag"]
    # A slow reader that writes down what it read before the write: as good as nothing.
    with redis.Redis.from_url(redis_url) as client:
        for key, content in kept.items():
            client.set(key, json.dumps(content))
    again = get(world.bob, incident)
    assert again == {**after.get_json(), "duration_seconds": again["duration_seconds"]}


def test_a_write_through_the_api_takes_its_entry_away(world: World, redis_url: str) -> None:
    for write in (by_status, by_patch, by_comment, by_bulk):
        incident = make(world.alice)["id"]
        get(world.bob, incident)
        assert incident in "".join(entries(redis_url))
        write(world, incident)
        assert incident not in "".join(entries(redis_url)), write


def test_a_write_that_fails_leaves_nothing_of_itself(world: World, redis_url: str) -> None:
    incident = make(world.alice)["id"]
    get(world.bob, incident)
    kept = entries(redis_url)
    response = world.alice.patch(
        f"/v1/incidents/{incident}", json={"title": "Other", "assignee": world.users["charlie"]}
    )
    assert response.status_code == 400
    assert entries(redis_url) == kept
    assert get(world.bob, incident)["title"] == "Shop is slow"


def test_readers_and_writers_at_once_never_see_time_run_backwards(world: World) -> None:
    """A worker escalates and resolves while people look: whoever starts to look after a commit sees it."""
    incident = make(world.alice)["id"]
    committed, wrong, stop = [1], [], threading.Event()

    def look() -> None:
        person = Person(world.client.application.test_client(), "")
        person.headers = world.bob.headers
        while not stop.is_set():
            floor = committed[0]
            version = person.get(f"/v1/incidents/{incident}").get_json()["version"]
            if version < floor:
                wrong.append((version, floor))

    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(2, 42):
        with world.databases.worker.begin() as connection:
            incidents.alter_all(connection, [Alteration(incident, EventType.ESCALATED, utc_now(), "c")])
        committed[0] = number
        time.sleep(0.01)
    worker_resolves(world, incident)
    assert get(world.bob, incident)["status"] == "resolved"
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


# ETags ---------------------------------------------------------------------------------------------------------------


def test_who_knows_it_already_is_told_so(world: World) -> None:
    incident = make(world.alice)["id"]
    first = world.bob.get(f"/v1/incidents/{incident}")
    tag = first.headers["ETag"]
    assert tag == 'W/"1.0.0.0.0"'
    assert first.headers["Cache-Control"] == "private, no-cache"
    for given in (tag, f'"x", {tag}', tag.removeprefix("W/"), "*"):
        known = world.bob.get(f"/v1/incidents/{incident}", headers={"If-None-Match": given})
        assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", tag), given
    for given in ('"2.0.0.0.0"', "nonsense", ""):
        assert world.bob.get(f"/v1/incidents/{incident}", headers={"If-None-Match": given}).status_code == 200
    add_notification(world, incident, world.alice.make_channel()["id"])
    told = world.bob.get(f"/v1/incidents/{incident}", headers={"If-None-Match": tag})
    assert told.status_code == 200
    assert told.headers["ETag"] != tag


def test_a_change_of_what_has_changed_meanwhile_is_refused(world: World) -> None:
    incident = make(world.alice)["id"]
    path = f"/v1/incidents/{incident}"
    tag = world.alice.get(path).headers["ETag"]
    worker = Alteration(incident, EventType.ESCALATED, utc_now(), "c")
    with world.databases.worker.begin() as connection:
        incidents.alter_all(connection, [worker])
    for given in (tag, '"1"', '"nonsense"', "nonsense", '""', '"1.2", "7"', '"' + "9" * 30 + '"', ""):
        for method, body in ((path, {"title": "x"}), (f"{path}/status", {"status": "resolved"})):
            response = world.alice.patch(method, json=body, headers={"If-Match": given})
            assert (response.status_code, response.get_json()["code"]) == (412, "PRECONDITION_FAILED"), given
    assert world.rows("SELECT version, status FROM incidents") == [{"version": 2, "status": "open"}]
    strangers = world.charlie.patch(path, json={"title": "x"}, headers={"If-Match": tag})
    assert strangers.status_code == 404
    for given in ("*", world.alice.get(path).headers["ETag"], '"x", "3"'):
        assert world.alice.patch(path, json={"title": given}, headers={"If-Match": given}).status_code in (200, 412)
    fresh = world.alice.get(path).headers["ETag"]
    answer = world.alice.patch(f"{path}/status", json={"status": "ack"}, headers={"If-Match": fresh})
    assert answer.status_code == 200
    assert answer.headers["ETag"] == world.alice.get(path).headers["ETag"]


def test_what_is_told_meanwhile_is_no_change(world: World) -> None:
    incident = make(world.alice)["id"]
    tag = world.alice.get(f"/v1/incidents/{incident}").headers["ETag"]
    add_notification(world, incident, world.alice.make_channel()["id"])
    changed = world.alice.patch(f"/v1/incidents/{incident}", json={"title": "x"}, headers={"If-Match": tag})
    assert changed.status_code == 200


def test_of_two_who_saw_the_same_one_may_change_it(world: World) -> None:
    incident = make(world.alice)["id"]
    tag = world.alice.get(f"/v1/incidents/{incident}").headers["ETag"]
    ready, codes = threading.Barrier(4), []

    def one(number: int) -> None:
        person = Person(world.client.application.test_client(), "")
        person.headers = world.alice.headers
        ready.wait()
        body = {"title": f"mine {number}"}
        codes.append(person.patch(f"/v1/incidents/{incident}", json=body, headers={"If-Match": tag}).status_code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 412, 412, 412]


# Without Redis -------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def alone(world: World, url: str, monotonic: Callable[[], float] = time.monotonic) -> World:
    """The same world with another cache."""
    services = replace(world.services, incident_cache=IncidentCache(url, monotonic=monotonic))
    client = create_app(services).test_client()
    people = {name: Person(client) for name in ("alice", "bob")}
    for name, person in people.items():
        person.headers = getattr(world, name).headers
    return replace(world, services=services, client=client, **people)


def test_without_redis_everything_works(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    lonely = alone(world, f"redis://127.0.0.1:{port}/0")
    incident = make(lonely.alice)["id"]
    assert get(lonely.bob, incident)["status"] == "open"
    set_status(lonely, incident, "ack")
    worker_resolves(lonely, incident)
    first = lonely.bob.get(f"/v1/incidents/{incident}")
    assert first.get_json()["status"] == "resolved"
    assert (
        lonely.bob.get(f"/v1/incidents/{incident}", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    )


def test_a_redis_that_hangs_costs_a_tenth_of_a_second_once(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident_cache, "_CONNECT_S", IMPATIENT[0])
    monkeypatch.setattr(incident_cache, "_ANSWER_S", IMPATIENT[1])
    measured = []
    for _ in range(5):  # a machine that is busy for a moment gets another try
        cache = IncidentCache(f"redis://127.0.0.1:{silent_port}/0")
        started = time.monotonic()
        assert cache.get("o", "i") is None
        found_out = time.monotonic()
        for _ in range(1_000):
            cache.get("o", "i")
            cache.put("o", "i", {"version": 1})
            cache.forget("o", ["i"])
        measured.append((found_out - started, time.monotonic() - found_out))
        cache.close()
        if measured[-1][0] < 0.3 and measured[-1][1] < 0.1:
            return
    pytest.fail(f"the first call, three thousand more: {measured} s")


def test_one_at_a_time_tries_whether_redis_is_back(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    cache = IncidentCache(redis_url, monotonic=lambda: now[0])
    cache.put("o", "i", {"version": 1})
    calls: list[str] = []
    broken = [True]
    real = cache._client.get

    def fetch(key: str) -> Any:
        calls.append(key)
        if broken[0]:
            raise redis.ConnectionError("gone")
        return real(key)

    monkeypatch.setattr(cache._client, "get", fetch)
    assert cache.get("o", "i") is None
    assert cache.get("o", "i") is None
    assert len(calls) == 1
    now[0] += incident_cache.PAUSE_S
    assert [cache.get("o", "i") for _ in range(3)] == [None] * 3
    assert len(calls) == 2
    broken[0] = False
    assert cache.get("o", "i") is None  # its pause is not over
    now[0] += incident_cache.PAUSE_S
    assert cache.get("o", "i") == {"version": 1}
    assert cache.get("o", "i") == {"version": 1}
    cache.close()
