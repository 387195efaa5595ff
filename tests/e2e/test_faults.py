"""Processes and servers killed in the middle of outages: one incident, two webhooks, whatever dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import pytest
import requests

from tests.e2e.outage import Watch
from tests.e2e.stack import Stack, running, wait_for
from tests.sink import Received


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running() as stack:
        yield stack


ROLES = ("worker", "scheduler", "notifier", "api")
MONITORS = 5


@dataclass
class Outage:
    """Some monitors that break and mend together."""

    watch: Watch
    name: str
    monitors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [f"{self.name}-{n}" for n in range(MONITORS)]
        self.monitors = {n: self.watch.api.add_monitor(self.watch.endpoint.url(f"/{n}"), name=n) for n in names}
        for monitor in self.monitors.values():
            self.watch.api.await_state(monitor, "up")

    def begin(self) -> None:
        for name in self.monitors:
            self.watch.breaks(name)

    def end(self) -> None:
        for name in self.monitors:
            self.watch.mends(name)

    def await_webhooks(self, count: int) -> None:
        for monitor in self.monitors.values():
            self.watch.await_webhooks(monitor, count)

    def assert_told_once(self, *, may_repeat: bool = False) -> None:
        for monitor in self.monitors.values():
            wait_for(partial(self.watch.api.state, monitor), "the API")
            self.watch.assert_told_once(monitor, may_repeat=may_repeat)
        self.watch.assert_bystander_unharmed()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_killed_right_after_the_failure_began_changes_nothing(watch: Watch, role: str) -> None:
    outage = Outage(watch, f"early-{role}")
    outage.begin()
    watch.stack.kill(role)
    outage.await_webhooks(1)
    outage.end()
    outage.await_webhooks(2)
    # Where we come to the killing late, the notifier may already have sent what it did not settle any more.
    outage.assert_told_once(may_repeat=role == "notifier")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_killed_while_it_is_down_changes_nothing(watch: Watch, role: str) -> None:
    outage = Outage(watch, f"middle-{role}")
    outage.begin()
    outage.await_webhooks(1)
    # The notifier's settling follows the webhook: killed in between, it may repeat that one id.
    wait_for(lambda: not watch.api.items("/notifications?status=pending"), "settled")
    watch.stack.kill(role)
    outage.end()
    outage.await_webhooks(2)
    outage.assert_told_once()


def test_a_killed_api_takes_its_workers_along_and_is_soon_back(watch: Watch) -> None:
    url = f"{watch.stack.url}/livez"
    with requests.Session() as held:  # an orphan would keep the port for the sake of this connection
        assert held.get(url, timeout=60).ok
        before = watch.stack.pids("api")
        workers = psutil.Process(before[0]).children()
        watch.stack.kill("api")
        # One that waited for its connections to end would do so for half a minute.
        wait_for(lambda: not any(map(runs, workers)), "the end of the API's workers", 15)
        wait_for(lambda: requests.get(url, timeout=3).ok and watch.stack.pids("api") not in ([], before), "the API", 25)


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def last_check(watch: Watch, monitor: str) -> str:
    return str(watch.api.state(monitor)["last_check_at"])


def later(watch: Watch, before: str) -> str | None:
    """The bystander's last check, if it came after that one."""
    last = last_check(watch, watch.bystander)
    return last if last > before else None


def await_checks(watch: Watch, timeout_s: float) -> None:
    """The bystander is checked, and checked again."""
    before = wait_for(lambda: last_check(watch, watch.bystander), "the API", timeout_s)
    second = wait_for(lambda: later(watch, before), "a check", timeout_s)
    wait_for(lambda: later(watch, second), "checks go on", timeout_s)


def test_valkey_killed_is_no_outage_and_checks_resume(watch: Watch) -> None:
    watch.stack.kill("valkey")
    # The API works without it. (A machine that stood still may have made it unknown.)
    assert watch.api.get(f"/monitors/{watch.bystander}")["state"]["status"] in ("up", "unknown")
    await_checks(watch, 45)
    watch.assert_bystander_unharmed()


def test_an_outage_that_begins_as_valkey_dies_is_told_once(watch: Watch) -> None:
    outage = Outage(watch, "valkey")
    outage.begin()
    watch.stack.kill("valkey")
    outage.await_webhooks(1)
    outage.end()
    outage.await_webhooks(2)
    outage.assert_told_once()


@contextmanager
def asking(stack: Stack) -> Iterator[list[tuple[int, str, Any]]]:
    """Writes and reads through the API all the time: (status, key or "", Retry-After)."""
    answers: list[tuple[int, str, Any]] = []
    stop = threading.Event()

    def ask(worker: int) -> None:
        api = stack.api()
        for number in range(10_000):
            if stop.is_set():
                return
            key = f"asked-{worker}-{number}"
            body = {"type": "http", "name": key, "target": "http://127.0.0.1:9/", "enabled": False}
            try:
                response = api.session.put(f"{api.url}/v1/monitors/by-key/{key}", json=body, timeout=90)
            except requests.RequestException as error:
                answers.append((0, key, str(error)))
                continue
            answers.append((response.status_code, key, response.headers.get("Retry-After")))

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)


def test_postgres_killed_is_503_with_retry_after_and_never_a_false_2xx(watch: Watch) -> None:
    outage = Outage(watch, "postgres")
    with asking(watch.stack) as answers:
        wait_for(lambda: len(answers) > 5, "answers")
        outage.begin()
        watch.stack.kill("postgres")
        wait_for(lambda: any(status == 503 for status, _, _ in list(answers)), "a 503")
        outage.await_webhooks(1)
        count = len(answers)
        wait_for(lambda: any(status == 201 for status, _, _ in list(answers)[count:]), "writes go on")
    assert {status for status, _, _ in answers} == {201, 503}
    assert all(int(after) >= 1 for status, _, after in answers if status == 503)
    stored = {row[0] for row in watch.stack.sql("SELECT key FROM monitors WHERE key IS NOT NULL")}
    assert {key for status, key, _ in answers if status == 201} <= stored
    outage.end()
    outage.await_webhooks(2)
    outage.assert_told_once()


def test_by_the_end_nothing_was_told_twice_and_nobody_waits(watch: Watch) -> None:
    wait_for(lambda: not watch.api.items("/notifications?status=pending"), "settled")
    assert watch.api.items("/notifications?status=dead") == []
    ids = [hook.headers["webhook-id"] for hook in watch.hooks() if not _may_repeat(hook)]
    assert len(ids) == len(set(ids))
    before = len(watch.hooks())
    time.sleep(1)
    assert len(watch.hooks()) == before
    watch.assert_bystander_unharmed()


def _may_repeat(hook: Received) -> bool:
    """Of an outage in which the notifier was killed at any moment."""
    return str(hook.json["data"]["monitor"]["name"]).startswith("early-notifier")
