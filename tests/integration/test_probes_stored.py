"""Types, options and assertions on their whole way: from a monitor's row through a worker process to its results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from common.domain.checks import Reason, Verdict
from tests.sink import Sink
from tests.stack import Queue, Roles, Seed, scheduled, wait_until
from tests.targets import free_port


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


@pytest.fixture
def roles(database_url: str, redis_url: str) -> Iterator[Roles]:
    with Roles(database_url, redis_url) as roles:
        yield roles


GET = "GET / HTTP/1.0\r\n\r\n"
JSON = {"source": "json", "path": "$.db", "op": "eq", "value": "up"}
#: How types write a target that is more than host and port.
WRITTEN = {"http": "http://{}/", "websocket": "ws://{}/"}
#: type, options, assertions → verdict, reason, failed assertion's expected (what is watched is a web server)
MONITORS: list[tuple[str, dict[str, Any], list[dict[str, Any]], Verdict, Reason, str | None]] = [
    ("tcp", {"send": GET, "expect": "^HTTP/1"}, [], Verdict.UP, Reason.NONE, None),
    ("tcp", {"send": GET, "expect": "^220 "}, [], Verdict.DOWN, Reason.ANSWER_MISMATCH, None),
    ("tcp", {}, [{"source": "connect_ms", "op": "lt", "value": 0.0001, "on_fail": "degraded"}], Verdict.DEGRADED,
     Reason.LATENCY_EXCEEDED, "0.0001"),
    ("websocket", {}, [], Verdict.DOWN, Reason.STATUS_MISMATCH, None),
    ("smtp", {}, [], Verdict.DOWN, Reason.TIMEOUT, None),  # each waits for the other to begin
    ("http", {"max_redirects": 1, "http_version": "1.1"}, [], Verdict.UP, Reason.NONE, None),
    ("http", {}, [JSON], Verdict.DOWN, Reason.BODY_MISMATCH, "up"),
]  # fmt: skip


def test_every_part_of_a_monitor_reaches_its_probe_and_its_verdict_the_rows(
    seed: Seed, roles: Roles, redis_url: str
) -> None:
    queue = Queue(redis_url)
    with Sink() as target:
        address = target.url("/").removeprefix("http://").removesuffix("/")
        numbers = [
            seed.monitor(
                WRITTEN.get(type_, "{}").format(address),
                type=type_, options=Jsonb(options), assertions=Jsonb(assertions), timeout_s=2.0,
            )
            for type_, options, assertions, *_ in MONITORS
        ]  # fmt: skip
        silent = seed.monitor("silent.test", type="dns", timeout_s=2.0,
                              options=Jsonb({"resolver": f"127.0.0.1:{free_port()}"}))  # fmt: skip
        roles.worker()

        def missing() -> set[int]:
            return {*numbers, silent} - {number for number, *_ in seed.results()}

        for _ in range(3):
            queue.push([scheduled(number, seed.now_ms()) for number in missing()])
            wait_until(lambda: not missing(), 60)
            # A worker that this machine left standing did not judge them: once more.
            seed.run("DELETE FROM results WHERE verdict::text = '0'")
            if not missing():
                break
    rows = seed.run(
        "SELECT r.monitor_no, r.verdict::text::int, r.reason, d.failed_assertion ->> 'expected'"
        "  FROM results r LEFT JOIN result_details d USING (monitor_no, location, scheduled_at) ORDER BY 1"
    )
    wanted = [
        (number, int(verdict), int(reason), expected)
        for number, (_, _, _, verdict, reason, expected) in zip(numbers, MONITORS, strict=True)
    ]
    assert rows == [*wanted, (silent, int(Verdict.DOWN), int(Reason.CONNECT_REFUSED), None)]
    down = sum(verdict is not Verdict.UP for _, _, _, verdict, _, _ in MONITORS) + 1
    assert seed.count("incidents") == down
