"""A Redis that hangs, which is worse than one that is gone: it takes every connection and answers nobody."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from werkzeug.test import TestResponse

from api.app import create_app, open_services
from common.broker import make_broker
from common.embedded import EmbeddedServers
from tests import api_cast
from tests.api_cast import Person, World, settings_for
from tests.stack import wait_until

world = api_cast.world

#: Less than it takes to find out that Redis is away, and so much that a busy machine hardly fails us.
AT_ONCE_S = 0.4
#: To find out takes half a second; who is stopped and waited for is so for ever. Between them a machine may stutter.
FOUND_OUT_S = 15

PROBE = {"type": "http", "target": "http://192.0.2.7/"}


@dataclass(frozen=True, slots=True)
class Valkey:
    """A server of this module's own, which can be stopped as a machine is that swaps."""

    pid: int
    url: str

    @contextmanager
    def stopped(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    data_dir = Path(tempfile.mkdtemp(prefix="tocsin-"))
    data_dir.chmod(0o755)
    with EmbeddedServers(data_dir, lambda _line: None, postgres=False) as owned:
        url = owned.start().redis_url
        yield Valkey(owned.pids()["valkey"], url)
    shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """Instead of the one that all tests share."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


def timed(ask: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    began = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - began


def at_once(ask: Callable[[], TestResponse], within_s: float = AT_ONCE_S) -> TestResponse:
    """Its answer, which takes no time: a machine that stutters holds up one of several, a Redis that hangs them all."""
    for _ in range(5):
        answer, took_s = timed(ask)
        if took_s < within_s:
            return answer
    raise AssertionError(f"the last of five took {took_s} s")


def another(world: World, person: Person) -> Person:
    """The same person, for a thread of its own."""
    same = Person(world.client.application.test_client())
    same.headers = person.headers
    return same


def test_readiness_says_degraded_and_waits_for_nobody(world: World, valkey: Valkey) -> None:
    for path in ("/readyz", "/ready"):
        assert world.nobody.get(path).get_json()["checks"]["redis"] == "ok"
    time.sleep(1.1)  # what was known is old
    with valkey.stopped():
        lenient, took_s = timed(lambda: world.nobody.get("/readyz"))
        assert (lenient.status_code, lenient.get_json()["checks"]) == (200, {"postgres": "ok", "redis": "degraded"})
        assert took_s < FOUND_OUT_S
        strict = at_once(lambda: world.nobody.get("/ready"))
        assert (strict.status_code, strict.headers["Retry-After"]) == (503, "5")
        took = []
        until = time.monotonic() + 5
        while time.monotonic() < until:
            took.append(timed(lambda: world.nobody.get("/readyz"))[1])
            took.append(timed(lambda: world.nobody.get("/ready"))[1])
            time.sleep(0.05)
        # Now and then one finds out whether it is back; of the others a busy machine holds up some.
        assert sum(one > AT_ONCE_S for one in took) <= 3 + len(took) // 10
        assert sorted(took)[len(took) // 2] < 0.1
    wait_until(lambda: world.nobody.get("/ready").status_code == 200, FOUND_OUT_S)
    assert world.nobody.get("/readyz").get_json()["checks"]["redis"] == "ok"


def test_what_needs_the_queue_is_refused_at_once(world: World, valkey: Valkey) -> None:
    monitor = world.alice.make_monitor()
    asks: list[Callable[[], TestResponse]] = [
        lambda: world.alice.post(f"/v1/monitors/{monitor['id']}/check"),
        lambda: world.alice.post("/v1/probes", json=PROBE),
        lambda: world.alice.get("/v1/queues"),
        lambda: world.alice.get("/v1/queues/notify/dead"),
        lambda: world.alice.post("/v1/queues/notify/replay", json={"all": True}),
        lambda: world.alice.delete("/v1/queues/notify/dead/x"),
    ]
    assert asks[0]().status_code == 202
    for first in asks[:3]:
        with valkey.stopped():
            refused, took_s = timed(first)
            assert (refused.status_code, refused.get_json()["code"]) == (503, "UNAVAILABLE")
            assert int(refused.headers["Retry-After"]) >= 1
            assert took_s < FOUND_OUT_S
            for again in asks:
                assert at_once(again).status_code == 503
            at_once(lambda: world.alice.get("/v1/monitors"))
        wait_until(lambda: asks[2]().status_code == 200, FOUND_OUT_S)
    assert asks[0]().status_code == 202


def test_a_crowd_at_the_door_keeps_nobody_from_their_monitors(world: World, valkey: Valkey) -> None:
    with valkey.stopped():
        took: list[float] = []
        crowd = [another(world, world.nobody) for _ in range(10)]
        threads = [
            threading.Thread(target=lambda one=one: took.append(timed(lambda: one.get("/readyz"))[1])) for one in crowd
        ]
        for thread in threads:
            thread.start()
        _, mine_s = timed(lambda: world.alice.get("/v1/monitors"))
        for thread in threads:
            thread.join()
        assert len(took) == 10
        # One after the other, the last would have waited for ten times half a second.
        assert max(took) < 4
        assert mine_s < 4
        at_once(lambda: world.nobody.get("/readyz"))


def test_who_waits_for_a_probe_does_not_wait_for_ever(world: World, valkey: Valkey) -> None:
    found: list[tuple[TestResponse, float]] = []
    alice = another(world, world.alice)
    waiting = threading.Thread(target=lambda: found.append(timed(lambda: alice.post("/v1/probes", json=PROBE))))
    waiting.start()
    with redis.Redis.from_url(valkey.url) as client:
        wait_until(lambda: bool(client.keys("tocsin:probe:*")), 60)
        time.sleep(0.2)  # it looks for the answer
        with valkey.stopped():
            waiting.join(FOUND_OUT_S)
            assert not waiting.is_alive()
    ((answer, _),) = found
    assert (answer.status_code, answer.get_json()["code"]) == (503, "UNAVAILABLE")


def test_nobody_waits_in_vain_longer_than_the_probe_may_take_to_begin(world: World, valkey: Valkey) -> None:
    """Several looks, each shorter than the connection's patience: no worker is a 504, not a Redis that is away."""
    answer, took_s = timed(lambda: world.alice.post("/v1/probes", json=PROBE))
    assert (answer.status_code, answer.get_json()["code"]) == (504, "PROBE_UNANSWERED")
    assert 2.9 < took_s < FOUND_OUT_S


def test_the_limits_of_requests_are_counted_without_waiting(
    world: World, database_url: str, redis_url: str, valkey: Valkey
) -> None:
    services = open_services(settings_for(database_url, redis_url, rate_limit_reads=1_000))
    alice = Person(create_app(services).test_client())
    alice.headers = world.alice.headers
    assert alice.get("/v1/monitors").status_code == 200
    with valkey.stopped():
        took = []
        for _ in range(30):
            answer, took_s = timed(lambda: alice.get("/v1/monitors"))
            assert answer.status_code == 200
            took.append(took_s)
        assert max(took) < FOUND_OUT_S
        assert sorted(took)[20] < 0.1
    services.database.dispose()
    services.platform.close()
    services.broker.client.close()
    services.incident_cache.close()


def test_a_worker_is_as_patient_as_before(valkey: Valkey) -> None:
    """What waits for messages outlasts a Redis that hangs for a moment."""
    broker = make_broker(valkey.url)
    assert broker.answers()
    timer = threading.Timer(1.5, lambda: os.kill(valkey.pid, signal.SIGCONT))
    with valkey.stopped():
        timer.start()
        assert broker.ask(broker.client.ping)
    timer.join()
    broker.client.close()
