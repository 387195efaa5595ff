"""503 when nothing is away: others change the same rows, or every place is taken. Neither is told as an outage."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import psycopg
import structlog
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

from api.app import create_app
from api.streams import Streams
from common.process import Step
from common.store.engine import Database, DatabaseRole
from tests import api_cast
from tests.api_cast import Person, World
from tests.stack import wait_until

world = api_cast.world

LOCK = "SELECT 1 FROM monitors WHERE id = %s FOR UPDATE"
WAITING = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"


def plain(database_url: str) -> psycopg.Connection[Any]:
    """A stranger's connection."""
    return psycopg.connect(database_url)


def events(lines: list[Any]) -> list[str]:
    return [line["event"] for line in lines if line["log_level"] == "warning"]


def assert_contended(answer: TestResponse, lines: list[Any], why: str) -> None:
    assert (answer.status_code, answer.get_json()["code"]) == (503, "CONTENDED")
    assert answer.headers["Retry-After"] == "1"
    assert events(lines) == ["contended"]
    assert why in next(line["error"] for line in lines if line["event"] == "contended")


def test_a_deadlock_is_contended_and_the_same_again_works(world: World, database_url: str) -> None:
    ids = one, between, two = sorted(world.alice.make_monitor()["id"] for _ in range(3))
    answers: list[TestResponse] = []
    asked = threading.Thread(target=lambda: answers.append(world.alice.post("/v1/monitors/pause", json={"ids": ids})))
    with (
        structlog.testing.capture_logs() as lines, plain(database_url) as stranger, plain(database_url) as doorkeeper
    ):  # fmt: skip
        closing = threading.Thread(target=stranger.execute, args=(LOCK, (one,)))
        stranger.execute("SET deadlock_timeout = '60s'")  # the other one notices it first
        stranger.execute(LOCK, (two,))
        doorkeeper.execute(LOCK, (between,))
        asked.start()  # holds the one, and is kept from the other until the stranger waits for the one
        wait_until(lambda: world.rows(WAITING)[0]["n"] >= 1, 60)
        closing.start()
        wait_until(lambda: world.rows(WAITING)[0]["n"] >= 2, 60)
        doorkeeper.rollback()  # the ring is closed; after a second it asks itself why it waits
        asked.join(60)
        closing.join(60)
    (answer,) = answers
    assert_contended(answer, lines, "deadlock detected")
    assert world.alice.post("/v1/monitors/pause", json={"ids": ids}).status_code == 200


def test_a_row_that_others_hold_too_long_is_contended(world: World, database_url: str) -> None:
    monitor = world.alice.make_monitor()
    hasty = Database(database_url, DatabaseRole.API, application="test", statement_timeout_s=0.3)
    alice = Person(create_app(replace(world.services, database=hasty)).test_client())
    alice.headers = world.alice.headers
    with structlog.testing.capture_logs() as lines, plain(database_url) as stranger:
        stranger.execute(LOCK, (monitor["id"],))
        answer = alice.patch(f"/v1/monitors/{monitor['id']}", json={"name": "Other"})
    assert_contended(answer, lines, "canceling statement")
    hasty.dispose()


def test_no_place_is_counted_and_no_alarm(world: World) -> None:
    def nothing(_streams: Streams) -> Step:
        raise AssertionError("a stream that has no room does not begin")

    full = create_app(replace(world.services, streams=Streams(0, 0, nothing))).test_client()
    alice = Person(full)
    alice.headers = world.alice.headers
    before = REGISTRY.get_sample_value("tocsin_api_full_total", {"code": "STREAMS_FULL"}) or 0
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            answer = alice.get("/v1/stream")
            assert (answer.status_code, answer.get_json()["code"]) == (503, "STREAMS_FULL")
            assert answer.headers["Retry-After"] == "30"
    assert events(lines) == []
    assert REGISTRY.get_sample_value("tocsin_api_full_total", {"code": "STREAMS_FULL"}) == before + 3
