"""An answer a second old at most, made once however many ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from api import summary_cache
from api.summary_cache import STALE_S, SummaryCache
from common.domain.errors import Full, Unavailable


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Counting:
    """Makes answers, each with its number; takes as long as it is told."""

    def __init__(self, clock: Clock, *, takes_s: float = 0.0) -> None:
        self.made = 0
        self._clock = clock
        self._takes_s = takes_s

    def __call__(self) -> bytes:
        self.made += 1
        self._clock.now_s += self._takes_s
        return b"%d" % self.made


class AtOnce(Executor):
    """Does in the caller's thread what others do in one of their own."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args))
        except Unavailable as error:
            done.set_exception(error)
        return done


def caching(clock: Clock) -> SummaryCache:
    return SummaryCache(monotonic=clock, renewing=AtOnce)


def test_an_answer_is_shared_and_never_too_old() -> None:
    clock = Clock()
    cache, make = caching(clock), Counting(clock)
    assert [cache.get("a", make) for _ in range(3)] == [b"1"] * 3
    clock.now_s += STALE_S
    assert cache.get("a", make) == b"2"
    assert cache.get("b", make) == b"3"


def test_its_age_counts_from_the_beginning_of_the_count() -> None:
    clock = Clock()
    cache, make = caching(clock), Counting(clock, takes_s=0.2)
    assert cache.get("a", make) == b"1"
    clock.now_s += 0.4
    assert cache.get("a", make) == b"1"
    clock.now_s += 0.2  # 0.8: in time for the next one to be there at 1.0
    assert [cache.get("a", make) for _ in range(2)] == [b"1", b"2"]


def test_who_asks_now_and_then_does_not_wait() -> None:
    clock = Clock()
    cache, make = caching(clock), Counting(clock, takes_s=0.2)
    assert cache.get("a", make) == b"1"
    clock.now_s += 2.0
    assert cache.get("a", make) == b"1"  # and was counted anew beside it
    assert cache.get("a", make) == b"2"


def test_what_takes_long_to_count_is_shared_all_the_same() -> None:
    """Two seconds of counting on a machine at its limit: nobody may begin again for being late."""
    clock = Clock()
    cache, make = caching(clock), Counting(clock, takes_s=2.0)
    assert [cache.get("a", make) for _ in range(10)] == [b"1"] * 10
    clock.now_s += 2.0
    assert cache.get("a", make) == b"1"
    clock.now_s += 4.0
    assert cache.get("a", make) == b"2"
    # A count that is quick again is as fresh as ever.
    quick = Counting(clock)
    quick.made = 2
    clock.now_s += 8.0
    assert cache.get("a", quick) == b"3"
    clock.now_s += STALE_S
    assert cache.get("a", quick) == b"4"


def test_of_many_who_ask_at_once_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_cache, "_PATIENCE_S", 60.0)
    cache, gate, answers, made = SummaryCache(monotonic=Clock()), threading.Event(), [], []

    def make() -> bytes:
        made.append(1)
        gate.wait(60)
        return b"counted"

    threads = [threading.Thread(target=lambda: answers.append(cache.get("a", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert (answers, len(made)) == ([b"counted"] * 8, 1)


def test_while_it_is_counted_anew_everybody_gets_what_is_there_and_nobody_waits() -> None:
    clock = Clock()
    cache, gate = SummaryCache(monotonic=clock), threading.Event()
    assert cache.get("a", lambda: b"old") == b"old"
    clock.now_s += 0.96

    def slow() -> bytes:
        assert gate.wait(60)
        return b"new"

    assert [cache.get("a", slow) for _ in range(3)] == [b"old"] * 3
    gate.set()
    deadline_s = time.monotonic() + 60
    while cache.get("a", slow) != b"new" and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert cache.get("a", slow) == b"new"


def test_a_renewal_that_fails_leaves_what_is_there_until_it_is_too_old() -> None:
    clock = Clock()
    cache, make = caching(clock), Counting(clock)

    def fail() -> bytes:
        raise Unavailable("The database cannot be reached.")

    assert cache.get("a", make) == b"1"
    clock.now_s += 0.96
    assert [cache.get("a", fail) for _ in range(2)] == [b"1", b"1"]
    clock.now_s += STALE_S
    with pytest.raises(Unavailable):
        cache.get("a", fail)
    assert cache.get("a", make) == b"2"


def test_a_count_that_fails_is_the_next_ones_to_make() -> None:
    clock = Clock()
    cache, make = caching(clock), Counting(clock)

    def fail() -> bytes:
        raise Unavailable("The database cannot be reached.")

    with pytest.raises(Unavailable):
        cache.get("a", fail)
    assert cache.get("a", make) == b"1"


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_cache, "_PATIENCE_S", 0.05)
    cache, gate, inside = SummaryCache(), threading.Event(), threading.Event()

    def stuck() -> bytes:
        inside.set()
        gate.wait(60)
        return b""

    thread = threading.Thread(target=lambda: cache.get("a", stuck))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(Full) as refused:
        cache.get("a", lambda: b"")
    assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "SUMMARY_BUSY", 1)
    gate.set()
    thread.join(60)


def test_few_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_cache, "_MOST", 2)
    clock = Clock()
    cache, make = caching(clock), Counting(clock)
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, make)
    # b was asked for longest ago when c came.
    assert make.made == 4
