"""POST /v1/probes: a worker looks once, now; nothing is kept, nothing secret travels, and nobody waits for ever."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api.app import create_app
from api.probe_desk import ProbeDesk
from common.broker import QueueBroker, enqueue_probe, make_broker, probe_queue
from common.domain.checks import Observation, Phases, Verdict
from common.domain.errors import Unavailable
from common.probe_requests import BEGIN_WITHIN_S, ProbeRequest, ProbeRequests, Ticket
from common.vault import Vault, generate_key
from tests import api_cast
from tests.api_cast import Person, World
from tests.sink import Answer, Sink
from tests.stack import RoleProcess, Roles, wait_until

world = api_cast.world
patient_queue = api_cast.patient_queue

pytestmark = pytest.mark.usefixtures("patient_queue")

QUEUE = probe_queue("local")
SECRET = "hunter2-of-the-probed-service"
REQUEST = ProbeRequest("org", "http", "http://192.0.2.7/", 1.0, {}, {}, [])
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _questions_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until somebody takes them, however slow we all are here."""
    monkeypatch.setattr("common.probe_requests._QUESTION_KEPT_MS", 90_000)


@pytest.fixture
def target() -> Iterator[Sink]:
    with Sink() as sink:
        sink.default["/down"] = Answer(status=500)
        sink.default["/slow"] = Answer(wait_s=90)
        sink.default["/away"] = Answer(status=302, headers={"Location": "http://169.254.169.254/latest/"})
        yield sink


@pytest.fixture
def worker(world: World, database_url: str, redis_url: str) -> Iterator[RoleProcess]:
    keys = world.services.settings.encryption_keys
    assert keys is not None
    environ = {"TOCSIN_ENCRYPTION_KEYS": keys.get_secret_value(), "TOCSIN_LOG_LEVEL": "debug"}
    with Roles(database_url, redis_url, **environ) as roles:
        yield roles.worker()


def probe(person: Person, target: str, **fields: Any) -> TestResponse:
    return person.post("/v1/probes", json={"type": "http", "target": target, **fields})


def seen(person: Person, target: str, **fields: Any) -> dict[str, Any]:
    """What is seen by a worker that neither stands still nor is too late: else it is asked again."""
    ends = time.monotonic() + 60
    while True:
        answer = probe(person, target, **fields)
        is_ours = answer.status_code == 504 or answer.get_json().get("verdict") == "unknown"
        if not is_ours or time.monotonic() > ends:
            break
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def with_desk(world: World, requests: ProbeRequests, *, at_once: int = 3, begin_within_s: float = 0.4) -> World:
    """The same API, but whoever waits for a worker to begin waits so long."""
    desk = ProbeDesk(requests, at_once=at_once, begin_within_s=begin_within_s)
    client = create_app(replace(world.services, probes=desk)).test_client()
    people = {name: Person(client) for name in ("alice", "charlie")}
    for name, person in people.items():
        person.headers = getattr(world, name).headers
    return replace(world, client=client, services=replace(world.services, probes=desk), **people)


def asking(world: World) -> ProbeRequests:
    return ProbeRequests(world.services.broker, world.services.vault)


class BegunAtTheLastMoment(ProbeRequests):
    """The time in which a worker may begin is over just after one has."""

    def wait(self, ticket: Ticket, timeout_s: float) -> Observation | None:
        if timeout_s != BEGIN_WITHIN_S:
            return super().wait(ticket, timeout_s)
        wait_until(lambda: ticket.id not in _questions(self._broker), 30, "a beginning")
        return None


def left_behind(broker: QueueBroker) -> list[str]:
    """Everything of probes that is in Redis, but for what Dramatiq counts by."""
    return [key.decode() for key in broker.client.keys("*probe*") if b"__acks__" not in key]


def test_a_worker_says_what_it_sees_and_keeps_nothing(world: World, worker: RoleProcess, target: Sink) -> None:
    up = seen(world.alice, target.url("/up"))
    assert {**up, "phases": set(up["phases"]), "latency_ms": None} == {
        "verdict": "up", "reason": None, "message": None, "latency_ms": None, "status_code": 200,
        "phases": {"dns_ms", "connect_ms", "tls_ms", "ttfb_ms", "total_ms"}, "failed_assertion": None,
        "location": "local",
    }  # fmt: skip
    assert up["latency_ms"] == up["phases"]["total_ms"] > 0
    assert up["phases"]["tls_ms"] is None

    down = seen(world.alice, target.url("/down"))
    assert (down["verdict"], down["reason"], down["status_code"]) == ("down", "status_mismatch", 500)
    expected = [{"source": "status", "op": "eq", "value": 500},
                {"source": "header", "op": "eq", "name": "X-Here", "value": "yes", "on_fail": "degraded"}]  # fmt: skip
    degraded = seen(world.alice, target.url("/down"), assertions=expected)
    assert (degraded["verdict"], degraded["failed_assertion"]["source"]) == ("degraded", "header")
    tcp = seen(world.alice, f"127.0.0.1:{target.port}", type="tcp")
    assert (tcp["verdict"], tcp["status_code"]) == ("up", None)
    slow = seen(world.alice, target.url("/slow"), timeout_seconds=0.5)
    assert (slow["verdict"], slow["reason"]) == ("down", "timeout")

    for table in ("results", "result_details", "monitors", "incidents", "audit_log"):
        assert world.rows(f"SELECT 1 FROM {table}") == [], table
    assert left_behind(world.services.broker) == []
    assert worker.alive


def test_the_worker_judges_where_a_probe_may_go(world: World, worker: RoleProcess, target: Sink) -> None:
    refused = probe(world.alice, "http://169.254.169.254/latest/meta-data/")
    assert (refused.status_code, refused.get_json()["code"]) == (400, "EGRESS_DENIED")
    away = seen(world.alice, target.url("/away"))
    assert (away["verdict"], away["reason"]) == ("down", "egress_denied")
    assert worker.alive


def test_a_worker_that_may_not_reach_inside_does_not_whatever_the_api_thinks(
    world: World, database_url: str, redis_url: str, target: Sink
) -> None:
    """The API stands where loopback is allowed, the worker where it is not: names, spellings, protocols."""
    keys = world.services.settings.encryption_keys
    assert keys is not None
    environ = {"TOCSIN_ENCRYPTION_KEYS": keys.get_secret_value(), "TOCSIN_EGRESS": "public"}
    with Roles(database_url, redis_url, **environ) as roles:
        roles.worker()
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            judged = seen(world.alice, f"http://{host}:{target.port}/")
            assert (judged["verdict"], judged["reason"]) == ("down", "egress_denied"), host
        judged = seen(world.alice, f"localhost:{target.port}", type="tcp")
        assert judged["reason"] == "egress_denied"
    assert target.received == []


def test_a_secret_arrives_at_the_target_and_nowhere_else(
    world: World, worker: RoleProcess, target: Sink, redis_url: str
) -> None:
    commands: list[str] = []
    listener = _listen(redis_url, commands)
    http = {"headers": {"X-Key": {"secret": SECRET}, "X-Plain": SECRET + "-plain"}, "method": "POST", "body": SECRET}
    assert seen(world.alice, target.url(f"/guarded?token={SECRET}"), http=http)["verdict"] == "up"
    received = target.received[-1]
    assert received.headers["X-Key"] == SECRET
    assert received.headers["X-Plain"] == SECRET + "-plain"
    assert received.body == SECRET.encode()
    wait_until(lambda: any("question" in command for command in list(commands)), 60)
    assert SECRET not in "\n".join(commands)
    assert SECRET not in json.dumps(worker.lines)
    listener.close()


def test_what_comes_too_late_or_twice_is_not_made(world: World, worker: RoleProcess, target: Sink) -> None:
    """Nor is what cannot be opened; and none of it ends among the dead letters."""
    broker = world.services.broker
    requests = ProbeRequests(broker, world.services.vault)
    request = replace(REQUEST, target=target.url("/up"))
    enqueue_probe(broker, "local", "0" * 32)  # its question has gone
    sealed = broker.client.set(
        "tocsin:probe:other:question", Vault(generate_key()).seal("probe question:other", [1, {}])
    )
    assert sealed
    enqueue_probe(broker, "local", "other")
    ticket = requests.ask("local", request)
    enqueue_probe(broker, "local", ticket.id)  # as if its message were taken over from a dead worker
    assert requests.wait(ticket, 60) is not None
    wait_until(lambda: broker.client.llen(f"tocsin:{QUEUE}") == 0, 60)
    assert requests.wait(ticket, 0.3) is None
    assert len(target.received) == 1
    wait_until(lambda: worker.logged("asked_probe_dropped"), 60, "a word about what was dropped")
    assert broker.client.zcard(f"tocsin:{QUEUE}.XQ") == 0
    wait_until(lambda: left_behind(broker) == [], 60, "an end of it all")
    assert [line["error"] for line in worker.logged("asked_probe_dropped")] == [
        "The secret of probe question:other does not open with any of TOCSIN_ENCRYPTION_KEYS."
    ]


def test_without_a_worker_it_is_504_and_nothing_stays(world: World) -> None:
    world = with_desk(world, asking(world))
    answer = probe(world.alice, "http://192.0.2.7/")
    assert (answer.status_code, answer.get_json()["code"]) == (504, "PROBE_UNANSWERED")
    assert "location local" in answer.get_json()["message"]
    assert int(answer.headers["Retry-After"]) > 0
    assert left_behind(world.services.broker) == []


def test_a_worker_that_has_begun_is_waited_for_and_one_that_dies_is_504(world: World) -> None:
    requests = BegunAtTheLastMoment(world.services.broker, world.services.vault)
    world = with_desk(world, requests, begin_within_s=BEGIN_WITHIN_S)
    for answers in (True, False):
        timeout_s = 30 if answers else 0.1
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(probe, world.alice, "http://192.0.2.7/", timeout_seconds=timeout_s)
            (id_,) = wait_for_questions(world.services.broker, 1)
            request = requests.take(id_)
            assert request is not None
            assert (request.target, request.timeout_s) == ("http://192.0.2.7/", timeout_s)
            if answers:
                time.sleep(0.2)  # so that the time for a beginning is over
                requests.answer(id_, Observation(Verdict.UP, code=204, phases=Phases(total_ms=800)))
            answer = asked.result(60)
        assert answer.status_code == (200 if answers else 504)
        world.services.broker.client.flushall()


def test_few_wait_at_once_and_one_organization_leaves_a_place_to_others(world: World) -> None:
    requests = asking(world)
    world = with_desk(world, requests, begin_within_s=80)
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(probe, world.alice, "http://192.0.2.7/") for _ in range(2)]
        wait_for_questions(world.services.broker, 2)
        third = probe(world.alice, "http://192.0.2.7/")
        assert (third.status_code, third.get_json()["code"]) == (503, "PROBES_BUSY")
        assert int(third.headers["Retry-After"]) > 0
        others = threads.submit(probe, world.charlie, "http://192.0.2.7/")
        ids = wait_for_questions(world.services.broker, 3)
        assert probe(world.charlie, "http://192.0.2.7/").status_code == 503
        for id_ in ids:
            requests.take(id_)
            requests.answer(id_, Observation(Verdict.UP))
        assert [one.result(60).status_code for one in (*asked, others)] == [200, 200, 200]
    # Every place is free again.
    world.services.probes._begin_within_s = 0.4
    assert probe(world.alice, "http://192.0.2.7/").status_code == 504


def test_without_redis_it_is_503_and_the_place_is_free_again(world: World) -> None:
    world = with_desk(world, ProbeRequests(make_broker(NOWHERE), world.services.vault), at_once=1)
    for _ in range(2):
        answer = probe(world.alice, "http://192.0.2.7/")
        assert (answer.status_code, answer.get_json()["code"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0


def test_an_answer_cannot_be_forged_and_none_opens_anothers(redis_url: str) -> None:
    broker = make_broker(redis_url)
    requests = ProbeRequests(broker, Vault(generate_key()))
    mine, others = requests.ask("local", REQUEST), requests.ask("local", REQUEST)
    requests.answer(others.id, Observation(Verdict.UP))
    broker.client.rename(f"tocsin:probe:{others.id}:answer", f"tocsin:probe:{mine.id}:answer")
    with pytest.raises(Exception, match="sealed for another row"):
        requests.wait(mine, 30)
    broker.client.close()
    with pytest.raises(Unavailable):
        ProbeRequests(make_broker(NOWHERE), Vault(generate_key())).ask("local", REQUEST)


#: (fields, the one that is to blame)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "gopher"}, "type"),
    ({"target": "nowhere"}, "target"),
    ({"target": "http://shop.example/\r\nX: y"}, "target"),
    ({"timeout_seconds": 31}, "timeout_seconds"),
    ({"timeout_seconds": 0}, "timeout_seconds"),
    ({"timeout_seconds": None}, "timeout_seconds"),
    ({"location": "mars"}, "location"),
    ({"location": ""}, "location"),
    ({"type": "tcp", "target": "db.example:1", "http": {}}, "http"),
    ({"http": {"headers": {"A": "b\r\nC: d"}}}, "http.headers.A"),
    ({"http": {"headers": {"A": None}}}, "http.headers.A"),
    ({"assertions": [{"source": "status", "op": "nope", "value": 1}]}, "assertions.0"),
    ({"assertions": [{"source": "body", "op": "matches", "value": "("}]}, "assertions.0"),
    ({"interval_seconds": 30}, "interval_seconds"),  # what only a schedule needs
    ({"name": "x"}, "name"),
]


@pytest.mark.parametrize(("fields", "blamed"), WRONG)
def test_what_is_wrong_is_named_before_anybody_is_asked(world: World, fields: dict[str, Any], blamed: str) -> None:
    answer = probe(world.alice, **{"target": "http://192.0.2.7/", **fields})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "VALIDATION_ERROR"), answer.text
    assert [detail["field"] for detail in answer.get_json()["details"]] == [blamed]
    assert left_behind(world.services.broker) == []


def test_it_counts_as_a_write_and_a_viewer_may_not(
    world: World, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.limits._TIMEOUT_S", 30.0)
    assert probe(world.bob, "http://192.0.2.7/").status_code == 403
    settings = api_cast.settings_for(database_url, redis_url, rate_limit_writes=1).model_copy(
        update={"encryption_keys": SecretStr(generate_key())}
    )
    client = create_app(replace(world.services, settings=settings)).test_client()
    alice = Person(client)
    alice.headers = world.alice.headers
    statuses = [probe(alice, "http://192.0.2.7/", location="mars").status_code for _ in range(2)]
    assert statuses == [400, 429]


def wait_for_questions(broker: QueueBroker, count: int) -> list[str]:
    """The ids of what is asked right now."""
    wait_until(lambda: len(_questions(broker)) >= count, 60)
    return _questions(broker)


def _questions(broker: QueueBroker) -> list[str]:
    return [key.decode().split(":")[2] for key in broker.client.keys("tocsin:probe:*:question")]


def _listen(redis_url: str, commands: list[str]) -> redis.Redis:
    """Write down every command that reaches Valkey."""
    client = redis.Redis.from_url(redis_url)
    started = threading.Event()

    def listen() -> None:
        with suppress(redis.RedisError, ValueError, OSError, AttributeError), client.monitor() as monitor:  # type: ignore[no-untyped-call]
            started.set()
            commands.extend(heard["command"] for heard in monitor.listen())

    threading.Thread(target=listen, daemon=True).start()
    assert started.wait(60)
    return client
