"""The API's process is killed while alerts come in: who got no answer sends again, and each is one incident (AR3)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import requests

from common.store import api_keys
from common.store.engine import Database, DatabaseRole
from tests.integration.test_alertmanager_peer import free_ports
from tests.stack import RoleProcess, Roles, Seed, wait_until

KILLS = 4
BATCH = 100
SENDERS = 3


def key_for(database_url: str, org_id: str) -> str:
    database = Database(database_url, DatabaseRole.OWNER, application="test", pool_size=1)
    key = api_keys.NewKey(org_id, "sender", "editor")
    with database.begin() as connection:
        api_keys.add(connection, key)
    database.dispose()
    return key.token


class Sender(threading.Thread):
    """Sends batches one after the other, each until it is answered."""

    def __init__(self, number: int, post: Callable[[list[dict[str, Any]]], int], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number, self._post, self._stop_sending = number, post, stop
        self.sent: set[str] = set()
        self.unanswered = 0

    def run(self) -> None:
        batch_no = 0
        while not self._stop_sending.is_set():
            names = [f"{self._number}-{batch_no}-{n}" for n in range(BATCH)]
            # Some have an alert_id, some only their start: both are known when they come again.
            batch: list[dict[str, Any]] = [
                {"name": name, "source": "crash", "starts_at": "2026-03-01T12:00:00Z"}
                | ({"alert_id": name} if n % 2 else {})
                for n, name in enumerate(names)
            ]
            while self._post(batch) != 202:
                self.unanswered += 1
                time.sleep(0.05)
            self.sent.update(names)
            batch_no += 1


def test_alerts_are_neither_lost_nor_doubled_when_the_api_is_killed(database_url: str, redis_url: str) -> None:
    seed = Seed(database_url)
    headers = {"Authorization": f"Bearer {key_for(database_url, seed.org_id)}"}
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    dice = random.Random(11)

    def alive() -> bool:
        try:
            return requests.get(f"{url}/livez", timeout=10).status_code == 200
        except requests.RequestException:
            return False

    def post(batch: list[dict[str, Any]]) -> int:
        try:
            return requests.post(f"{url}/v1/alerts", json=batch, headers=headers, timeout=10).status_code
        except requests.RequestException:
            return 0

    with Roles(database_url, redis_url, TOCSIN_JWT_KEY="k" * 40, TOCSIN_PORT=str(port)) as roles:

        def start() -> RoleProcess:
            process = roles.start("api")
            wait_until(alive, 60, "the API")
            return process

        process, stop = start(), threading.Event()
        senders = [Sender(number, post, stop) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        for _ in range(KILLS):
            time.sleep(0.4 + dice.random())
            process.kill()
            wait_until(lambda: not alive(), 30, "its end")
            process = start()
        wait_until(lambda: sum(len(sender.sent) for sender in senders) >= 1_000, 60, "a thousand alerts")
        stop.set()
        for sender in senders:
            sender.join(60)
        assert not any(sender.is_alive() for sender in senders)
    sent = set().union(*(sender.sent for sender in senders))
    assert len(sent) >= 1_000
    assert sum(sender.unanswered for sender in senders) >= KILLS, "no batch was caught in a crash"
    assert {row[0] for row in seed.run("SELECT name FROM incidents")} == sent
    assert [seed.count(table) for table in ("incidents", "incident_events", "outbox", "alerts")] == [len(sent)] * 4
