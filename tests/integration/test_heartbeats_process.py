"""Heartbeats through real processes: from ping to webhook, and whatever is killed, no taken ping is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
import requests
from psycopg.types.json import Jsonb

from common.vault import Vault, generate_key
from tests.sink import Sink
from tests.stack import RoleProcess, Roles, Seed, wait_until
from tests.targets import free_port

KEY = generate_key()


class Heard:
    """An API, workers and a notifier on one database with a heartbeat of 2 s and 3 s of grace."""

    def __init__(self, roles: Roles, seed: Seed, sink: Sink) -> None:
        self.roles, self.seed, self.sink = roles, seed, sink
        self.port, self.token = free_port(), uuid4()
        self.number = seed.monitor(
            "backup", type="heartbeat", interval_s=2, timeout_s=1.0, options=Jsonb({"grace_seconds": 3})
        )
        seed.run(
            "INSERT INTO heartbeats (id, org_id, monitor_no, token_hash)"
            " SELECT id, org_id, monitor_no, %s FROM monitors",
            sha256(self.token.bytes).digest(),
        )
        id_ = str(uuid4())
        seed.run(
            "INSERT INTO channels (id, org_id, name, type, config, secrets, is_default)"
            " VALUES (%s, %s, 'hook', 'webhook', %s, %s, true)",
            id_, seed.org_id, Jsonb({"url": sink.url("/hook")}),
            Vault(KEY).seal(f"channel:{seed.org_id}:{id_}", {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}),
        )  # fmt: skip

    def api(self) -> RoleProcess:
        process = self.roles.start("api", TOCSIN_PORT=str(self.port), TOCSIN_JWT_KEY="k" * 40)
        wait_until(lambda: self.ping(UUID(int=0)) == 404, 60, "the API")
        return process

    def ping(self, token: UUID | None = None) -> int:
        """The answer's status, 0 without one."""
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/ping/{token or self.token}", timeout=30).status_code
        except requests.RequestException:
            return 0

    def was_up(self) -> bool:
        return self.seed.run("SELECT 1 FROM health_changes WHERE health = 1") != []

    def incidents(self) -> int:
        return self.seed.count("incidents")

    def stored(self) -> int:
        return int(self.seed.run("SELECT pings FROM heartbeats")[0][0])

    def told(self, type_: str) -> Callable[[], bool]:
        return lambda: any(f'"{type_}"' in request.body.decode() for request in list(self.sink.received))


@pytest.fixture
def heard(database_url: str, redis_url: str) -> Iterator[Heard]:
    with Roles(database_url, redis_url, TOCSIN_ENCRYPTION_KEYS=KEY) as roles, Sink() as sink:
        yield Heard(roles, Seed(database_url), sink)


def test_a_silence_is_told_by_webhook_and_so_is_the_next_ping(heard: Heard) -> None:
    heard.api()
    heard.roles.worker()
    heard.roles.start("notifier").wait_for("notifier_started")
    pinged_s = time.monotonic()
    assert heard.ping() == 200
    wait_until(heard.was_up, 30, "up")
    # 2 s of period, 3 s of grace, 1 s of margin.
    wait_until(heard.told("incident.opened"), 30, "the webhook of the miss")
    assert time.monotonic() - pinged_s >= 5
    assert heard.seed.run("SELECT cause ->> 'reason' FROM incidents") == [("heartbeat_missed",)]
    (again,) = heard.seed.run("SELECT clock_timestamp()")
    assert heard.ping() == 200
    wait_until(heard.told("incident.resolved"), 30, "the webhook of the recovery")
    # Of this silence alone: with as long a pause of this machine, another follows.
    of_the_first = "SELECT count(*), min(status) FROM incidents WHERE opened_at < %s"
    assert heard.seed.run(of_the_first, *again) == [(1, "resolved")]


def test_no_taken_ping_is_lost_and_nothing_is_down_whatever_is_killed(heard: Heard) -> None:
    api = heard.api()
    workers = [heard.roles.worker(), heard.roles.worker()]
    stop, taken = threading.Event(), [0, 0]

    def beat(place: int) -> None:
        while not stop.is_set():
            taken[place] += heard.ping() == 200
            time.sleep(0.02)

    threads = [threading.Thread(target=beat, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    wait_until(heard.was_up, 30, "up")
    for _ in range(2):
        time.sleep(0.5)
        workers.pop(0).kill()
        workers.append(heard.roles.worker())
    api.kill()
    time.sleep(7)  # longer than period and grace: nobody hears
    assert heard.incidents() == 0
    heard.api()
    time.sleep(1)
    wait_until(lambda: heard.seed.count("deaf_spells") >= 1, 30, "the deaf spell")
    wait_until(lambda: heard.seed.run("SELECT 1 FROM results WHERE verdict::text = '0'"), 30, "the doubt")
    assert heard.incidents() == 0
    stop.set()
    for thread in threads:
        thread.join(60)
    wait_until(lambda: not heard.seed.run("SELECT 1 FROM ping_inbox"), 30, "the inbox")
    assert heard.stored() >= sum(taken) > 50
    # Now it is really silent.
    wait_until(lambda: heard.incidents() == 1, 60, "the incident")
