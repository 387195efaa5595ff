"""A server that hangs keeps one waiting, once, and everybody else not at all."""

from __future__ import annotations

import threading
import time

import pytest
import redis
import structlog

from common.pulse import FRESH_S, Pulse
from common.redis_breaker import Paused, RedisBreaker

PAUSE_S = 2.0


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Server:
    """Answers what it is told to, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.trouble: redis.RedisError | None = None

    def __call__(self) -> int:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return self.asked


@pytest.mark.parametrize(
    "trouble", [redis.ConnectionError("gone"), redis.TimeoutError("hangs"), redis.BusyLoadingError()]
)
def test_after_a_call_in_vain_nobody_tries_and_then_one_does(trouble: redis.RedisError) -> None:
    clock, server = Clock(), Server()
    breaker = RedisBreaker("queue", pause_s=PAUSE_S, monotonic=clock)
    assert breaker.attempt(server) == 1
    server.trouble = trouble
    with structlog.testing.capture_logs() as lines:
        with pytest.raises(type(trouble)):
            breaker.attempt(server)
        for _ in range(3):
            with pytest.raises(Paused, match="within 2 s"):
                breaker.attempt(server)
        assert server.asked == 2
        clock.now_s += PAUSE_S
        with pytest.raises(type(trouble)):
            breaker.attempt(server)
        with pytest.raises(Paused):
            breaker.attempt(server)
        server.trouble = None
        clock.now_s += PAUSE_S
        assert [breaker.attempt(server) for _ in range(3)] == [4, 5, 6]
    assert [line["event"] for line in lines] == ["queue_away", "queue_back"]


def test_while_one_tries_the_others_wait_for_what_it_finds() -> None:
    clock, server = Clock(), Server()
    breaker = RedisBreaker("queue", pause_s=PAUSE_S, monotonic=clock)
    server.trouble = redis.TimeoutError("hangs")
    with pytest.raises(redis.TimeoutError):
        breaker.attempt(server)
    clock.now_s += PAUSE_S
    server.trouble = None

    def others() -> str:
        with pytest.raises(Paused):
            breaker.attempt(server)
        return "mine"

    assert breaker.attempt(others) == "mine"
    assert breaker.attempt(server) == 2


def test_an_error_that_is_an_answer_stops_nobody() -> None:
    clock, server = Clock(), Server()
    breaker = RedisBreaker("queue", pause_s=PAUSE_S, monotonic=clock)
    server.trouble = redis.ResponseError("OOM command not allowed")
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="OOM"):
            breaker.attempt(server)
    assert server.asked == 3


def test_a_pulse_is_felt_once_a_second_however_many_ask() -> None:
    clock, answers = Clock(), [True, False, True]
    pulse = Pulse(lambda: answers.pop(0), monotonic=clock)
    assert [pulse.beats() for _ in range(100)] == [True] * 100
    clock.now_s += FRESH_S
    assert [pulse.beats() for _ in range(100)] == [False] * 100
    clock.now_s += FRESH_S
    assert pulse.beats()
    assert answers == []


def test_while_one_feels_the_others_are_told_what_was_known() -> None:
    clock, begun, go_on = Clock(), threading.Event(), threading.Event()
    slow = [False]

    def ask() -> bool:
        if slow[0]:
            begun.set()
            assert go_on.wait(60)
        return not slow[0]

    pulse = Pulse(ask, monotonic=clock)
    assert pulse.beats()
    clock.now_s += FRESH_S
    slow[0] = True
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(pulse.beats()))
    asking.start()
    assert begun.wait(60)
    began = time.monotonic()
    assert [pulse.beats() for _ in range(20)] == [True] * 20
    assert time.monotonic() - began < 30
    go_on.set()
    asking.join()
    assert found == [False]
    assert not pulse.beats()


def test_who_knows_nothing_waits_for_the_one_who_asks() -> None:
    asked: list[int] = []

    def ask() -> bool:
        asked.append(1)
        time.sleep(0.2)
        return True

    pulse = Pulse(ask, monotonic=Clock())
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(pulse.beats())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert len(asked) == 1
