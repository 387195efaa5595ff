"""Dead letters through the API: made by Dramatiq itself, seen, replayed once, discarded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import dramatiq
import pytest

from api.app import create_app
from common.broker import (
    DELIVER_ACTOR,
    NOTIFY_QUEUE,
    QueueBroker,
    UnreadableMessage,
    enqueue_notifications,
    make_broker,
    run_worker,
)
from tests import api_cast
from tests.api_cast import Person, World

world = api_cast.world
patient_queue = api_cast.patient_queue

pytestmark = pytest.mark.usefixtures("patient_queue")

NOWHERE = "redis://127.0.0.1:1/0"
CANARY = "the canary in the mine"
#: So late that no dead letter of these tests is ever old enough to be forgotten.
DIED_MS = 4_102_444_800_000


@dataclass
class Consumer:
    """A worker of the notifiers' queue that fails on demand, with one retry that comes at once."""

    broker: QueueBroker
    seen: list[Any] = field(default_factory=list)
    fail: Callable[[], None] | None = None

    def take(self, payload: Any) -> None:
        self.seen.append(payload)
        if self.fail is not None:
            self.fail()


@pytest.fixture
def consumer(redis_url: str) -> Iterator[Consumer]:
    broker = make_broker(redis_url, max_retries=1)
    consumer = Consumer(broker)
    dramatiq.actor(
        broker=broker, actor_name=DELIVER_ACTOR, queue_name=NOTIFY_QUEUE, min_backoff=10, max_backoff=20,
        throws=(UnreadableMessage,),
    )(consumer.take)  # fmt: skip
    worker = run_worker(broker, [NOTIFY_QUEUE])
    yield consumer
    worker.stop(timeout=2000)
    broker.client.close()


def explode() -> None:
    raise RuntimeError(CANARY)


def queue(person: Person, name: str = NOTIFY_QUEUE) -> dict[str, Any]:
    answer = person.get("/v1/queues")
    assert answer.status_code == 200, answer.text
    (found,) = (row for row in answer.get_json()["data"] if row["name"] == name)
    return found


def dead(person: Person, **query: Any) -> list[dict[str, Any]]:
    answer = person.get(f"/v1/queues/{NOTIFY_QUEUE}/dead", query_string=query)
    assert answer.status_code == 200, answer.text
    return answer.get_json()["data"]


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def bury(world: World, count: int, queue_name: str = NOTIFY_QUEUE) -> list[str]:
    """Dead letters as Dramatiq's own dispatch makes them (enqueue, fetch, nack), the first to die first."""
    broker = world.services.broker
    ids = []
    for number in range(count):
        payload = {"v": 1, "n": [str(uuid4())]}
        broker.enqueue(dramatiq.Message(queue_name, DELIVER_ACTOR, (payload,), {}, {"retries": 3}))
        (body,) = broker.do_fetch(queue_name, 1)
        id_ = json.loads(body)["options"]["redis_message_id"]
        broker.do_nack(queue_name, id_)
        broker.client.zadd(f"tocsin:{queue_name}.XQ", {id_: DIED_MS + number // 2})
        ids.append(id_)
    return ids


def test_every_queue_of_every_location_is_listed(world: World) -> None:
    world.execute("INSERT INTO locations (name) VALUES ('eu-west-1')")
    listed = world.alice.get("/v1/queues").get_json()
    assert listed["next_cursor"] is None
    assert [row["name"] for row in listed["data"]] == [
        "notify", "checks.eu-west-1", "slow.eu-west-1", "urgent.eu-west-1", "checks.local", "slow.local",
        "urgent.local", "probes.eu-west-1", "probes.local",
    ]  # fmt: skip
    assert {row["messages"] for row in listed["data"]} == {0}
    broker = world.services.broker
    enqueue_notifications(broker, [str(uuid4()) for _ in range(41)])
    broker.enqueue(dramatiq.Message(NOTIFY_QUEUE, DELIVER_ACTOR, ({},), {}, {}), delay=60_000)
    (first, *_) = bury(world, 2, "slow.local")
    assert queue(world.alice) == {
        "name": "notify", "messages": 3, "delayed": 1, "dead": 0, "oldest_dead_at": None,
    }  # fmt: skip
    slow = queue(world.alice, "slow.local")
    assert (slow["dead"], slow["oldest_dead_at"]) == (2, "2100-01-01T00:00:00+00:00"), first


def test_a_message_that_fails_for_good_is_seen_and_replayed_with_all_its_retries(
    world: World, consumer: Consumer
) -> None:
    consumer.fail = explode
    enqueue_notifications(consumer.broker, [str(uuid4())])
    wait_until(lambda: queue(world.alice)["dead"] == 1)
    (letter,) = dead(world.alice)
    assert set(letter) == {"id", "actor", "enqueued_at", "died_at", "retries", "error"}
    assert (letter["actor"], letter["retries"], letter["error"]) == (DELIVER_ACTOR, 1, "RuntimeError")
    assert letter["enqueued_at"] <= letter["died_at"]
    tried, payload = len(consumer.seen), consumer.seen[0]
    assert tried == 2

    # Still broken: the replayed one is tried as often as a new one.
    answer = world.alice.post(f"/v1/queues/{NOTIFY_QUEUE}/replay", json={"ids": [letter["id"]]})
    assert (answer.status_code, answer.get_json()["replayed"]) == (200, 1)
    wait_until(lambda: len(consumer.seen) == 4 and queue(world.alice)["dead"] == 1)
    (again,) = dead(world.alice)
    assert again["id"] != letter["id"]
    assert again["enqueued_at"] == letter["enqueued_at"]

    consumer.fail = None
    assert world.alice.post(f"/v1/queues/{NOTIFY_QUEUE}/replay", json={"all": True}).get_json()["replayed"] == 1
    wait_until(lambda: len(consumer.seen) == 5)
    assert consumer.seen == [payload] * 5
    wait_until(lambda: queue(world.alice) == {**queue(world.alice), "messages": 0, "delayed": 0, "dead": 0})


def test_what_a_message_carries_and_what_its_error_said_is_shown_to_nobody(world: World, consumer: Consumer) -> None:
    consumer.fail = explode
    id_ = str(uuid4())
    enqueue_notifications(consumer.broker, [id_])
    wait_until(lambda: queue(world.alice)["dead"] == 1)
    text = world.alice.get(f"/v1/queues/{NOTIFY_QUEUE}/dead").text
    assert CANARY not in text
    assert id_ not in text
    assert "Traceback" not in text


def test_of_many_who_replay_at_once_each_message_goes_once(world: World) -> None:
    bury(world, 500)
    client = world.client.application.test_client

    def replay(_number: int) -> int:
        answer = client().post("/v1/queues/notify/replay", json={"all": True}, headers=world.alice.headers)
        return int(answer.get_json()["replayed"])

    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(replay, range(4)))
    assert sum(counts) == 500
    broker = world.services.broker
    key = f"tocsin:{NOTIFY_QUEUE}"
    ids = broker.client.lrange(key, 0, -1)
    assert len(ids) == len(set(ids)) == broker.client.hlen(f"{key}.msgs") == 500
    for id_, body in broker.client.hgetall(f"{key}.msgs").items():
        options = json.loads(body)["options"]
        assert options == {"redis_message_id": id_.decode()}
    assert broker.client.hlen(f"{key}.XQ.msgs") == 0


def test_dead_messages_come_page_by_page_the_last_first(world: World) -> None:
    ids = bury(world, 7)  # two of each moment
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = world.alice.get(
            f"/v1/queues/{NOTIFY_QUEUE}/dead", query_string={"limit": 3, **({"cursor": cursor} if cursor else {})}
        ).get_json()
        seen += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        # What is replayed between two pages moves nothing else out of sight.
        world.alice.delete(f"/v1/queues/{NOTIFY_QUEUE}/dead/{page['data'][-1]['id']}")
    assert len(seen) == len(set(seen)) == 7
    assert set(seen) == set(ids)
    assert set(seen[-2:]) == set(ids[:2])


def test_replay_takes_what_is_dead_and_leaves_the_rest(world: World) -> None:
    first, second, third = bury(world, 3)
    path = f"/v1/queues/{NOTIFY_QUEUE}/replay"
    answer = world.alice.post(path, json={"ids": [first, first, str(uuid4())]})
    assert answer.get_json() == {"replayed": 1, "remaining": 2}
    assert world.alice.post(path, json={"ids": [first]}).get_json() == {"replayed": 0, "remaining": 2}
    assert {row["id"] for row in dead(world.alice)} == {second, third}


def test_garbage_is_listed_and_discarded_but_never_replayed(world: World) -> None:
    client, key = world.services.broker.client, f"tocsin:{NOTIFY_QUEUE}"
    bodies = {"g1": b"\xff\xfe", "g2": b"{}", "g3": b"[1]", "g4": b'{"args": 5}'}
    for name, body in bodies.items():
        client.zadd(f"{key}.XQ", {name: DIED_MS})
        client.hset(f"{key}.XQ.msgs", name, body)
    assert [(row["id"], row["actor"], row["enqueued_at"]) for row in dead(world.alice)] == [
        (name, None, None) for name in sorted(bodies, reverse=True)
    ]
    replay = world.alice.post(f"/v1/queues/{NOTIFY_QUEUE}/replay", json={"all": True})
    assert replay.get_json() == {"replayed": 0, "remaining": 4}
    for name in bodies:
        assert world.alice.delete(f"/v1/queues/{NOTIFY_QUEUE}/dead/{name}").status_code == 204
    gone = world.alice.delete(f"/v1/queues/{NOTIFY_QUEUE}/dead/g1")
    assert (gone.status_code, gone.get_json()["code"]) == (404, "MESSAGE_NOT_FOUND")
    assert (client.zcard(f"{key}.XQ"), client.hlen(f"{key}.XQ.msgs")) == (0, 0)


@pytest.mark.parametrize("name", ["nothing", "checks.mars", "notify.DQ", "notify.XQ", "__heartbeats__", "notify.msgs"])
def test_only_the_queues_that_there_are_can_be_named(world: World, name: str) -> None:
    for answer in (
        world.alice.get(f"/v1/queues/{name}/dead"),
        world.alice.post(f"/v1/queues/{name}/replay", json={"all": True}),
        world.alice.delete(f"/v1/queues/{name}/dead/x"),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (404, "QUEUE_NOT_FOUND")


#: (body, the field that is to blame)
BAD: list[tuple[Any, str]] = [
    ({}, "ids"),
    ({"ids": ["a"], "all": True}, "ids"),
    ({"all": False}, "all"),
    ({"all": "true"}, "all"),
    ({"ids": "a"}, "ids"),
    ({"ids": [5]}, "ids.0"),
    ({"ids": [""]}, "ids.0"),
    ({"ids": ["x" * 101]}, "ids.0"),
    ({"ids": ["x"] * 1_001}, "ids"),
    ({"all": True, "force": True}, "force"),
]


def test_bad_replays_are_named(world: World) -> None:
    for body, field_name in BAD:
        answer = world.alice.post(f"/v1/queues/{NOTIFY_QUEUE}/replay", json=body)
        assert answer.status_code == 400, body
        assert field_name in [detail["field"] for detail in answer.get_json()["details"]], body


def test_the_queues_are_for_administrators_and_the_operator(world: World) -> None:
    for role, allowed in (("owner", True), ("admin", True), ("editor", False), ("viewer", False)):
        key = world.alice.post("/v1/api-keys", json={"name": role, "role": role}).get_json()["key"]
        person = world.person(key)
        for answer in (
            person.get("/v1/queues"),
            person.get(f"/v1/queues/{NOTIFY_QUEUE}/dead"),
            person.post(f"/v1/queues/{NOTIFY_QUEUE}/replay", json={"ids": []}),
        ):
            assert (answer.status_code == 200) is allowed, (role, answer.text)
            assert allowed or answer.get_json()["code"] == "FORBIDDEN"
    assert queue(world.operator())["dead"] == 0
    assert world.nobody.get("/v1/queues").status_code == 401


def test_where_anybody_may_register_the_queues_are_the_operators_alone(world: World) -> None:
    settings = world.services.settings.model_copy(update={"registration": "open"})
    client = create_app(replace(world.services, settings=settings)).test_client()
    alice, operator = Person(client), Person(client)
    alice.headers, operator.headers = world.alice.headers, world.operator().headers
    for answer in (
        alice.get("/v1/queues"),
        alice.get(f"/v1/queues/{NOTIFY_QUEUE}/dead"),
        alice.post(f"/v1/queues/{NOTIFY_QUEUE}/replay", json={"all": True}),
        alice.delete(f"/v1/queues/{NOTIFY_QUEUE}/dead/x"),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "FORBIDDEN")
    assert operator.get("/v1/queues").status_code == 200


def test_without_redis_the_queues_are_unavailable(world: World) -> None:
    client = create_app(replace(world.services, broker=make_broker(NOWHERE))).test_client()
    alice = Person(client)
    alice.headers = world.alice.headers
    for answer in (
        alice.get("/v1/queues"),
        alice.get(f"/v1/queues/{NOTIFY_QUEUE}/dead"),
        alice.post(f"/v1/queues/{NOTIFY_QUEUE}/replay", json={"all": True}),
        alice.delete(f"/v1/queues/{NOTIFY_QUEUE}/dead/x"),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (503, "UNAVAILABLE")
        assert "Retry-After" in answer.headers
        assert "127.0.0.1" not in answer.text
