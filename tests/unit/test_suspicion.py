"""Whether a worker doubts its own network, and how it asks its canaries."""

from __future__ import annotations

import asyncio
import time
from itertools import cycle, islice

import pytest
import structlog

from common.domain.checks import NETWORK_CLASS, Reason
from tests.targets import free_port
from worker.canary import Canary
from worker.suspicion import LEAST_ADDRESSES, WINDOW_S, Suspicion


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def suspicion(clock: Clock) -> Suspicion:
    return Suspicion(clock)


def note(suspicion: Suspicion, failing: int, answering: int = 0, reason: Reason = Reason.NONE) -> None:
    kinds = cycle(sorted(NETWORK_CLASS))
    for number, kind in enumerate(islice(kinds, failing)):
        suspicion.note(f"10.0.0.{number}", kind)
    for number in range(answering):
        suspicion.note(f"10.1.0.{number}", reason)


#: (failing addresses, answering addresses, whether it is us)
SHARES = [
    (0, 0, False),
    (LEAST_ADDRESSES - 1, 0, False),  # too few: one that is down is down
    (LEAST_ADDRESSES, 0, True),
    (16, 4, True),  # exactly 80 %
    (15, 5, False),
    (300, 80, False),  # much fails, but enough answers
]


@pytest.mark.parametrize(("failing", "answering", "ours"), SHARES)
def test_it_is_us_when_nearly_all_of_many_addresses_fail(
    suspicion: Suspicion, failing: int, answering: int, ours: bool
) -> None:
    note(suspicion, failing, answering)
    assert suspicion.suspects_us() is ours


@pytest.mark.parametrize("reason", sorted(set(Reason) - NETWORK_CLASS))
def test_other_failures_never_make_us_doubt(suspicion: Suspicion, reason: Reason) -> None:
    note(suspicion, 0, 100, reason)
    assert not suspicion.suspects_us()


@pytest.mark.parametrize("reason", [Reason.CONNECT_REFUSED, Reason.STATUS_MISMATCH, Reason.TLS_HANDSHAKE])
def test_an_answer_that_failed_proves_the_network(suspicion: Suspicion, reason: Reason) -> None:
    note(suspicion, 20, 20, reason)
    assert not suspicion.suspects_us()


@pytest.mark.parametrize("reason", [Reason.INTERNAL, Reason.EGRESS_DENIED, Reason.INVALID_TARGET])
def test_a_check_that_sent_nothing_proves_nothing(suspicion: Suspicion, reason: Reason) -> None:
    note(suspicion, 20, 20, reason)
    assert suspicion.suspects_us()


def test_the_same_address_many_times_is_one_address(suspicion: Suspicion) -> None:
    for _ in range(100):
        suspicion.note("10.0.0.1", Reason.UNREACHABLE)
    assert not suspicion.suspects_us()


def test_one_answer_from_an_address_outweighs_its_failures(suspicion: Suspicion) -> None:
    note(suspicion, 20)
    for number in range(5):
        suspicion.note(f"10.0.0.{number}", Reason.NONE)
    assert not suspicion.suspects_us()


def test_what_is_older_than_the_window_is_forgotten(suspicion: Suspicion, clock: Clock) -> None:
    note(suspicion, 20)
    clock.now += WINDOW_S
    assert suspicion.suspects_us()
    clock.now += 0.001
    assert not suspicion.suspects_us()


def test_an_old_answer_of_a_host_is_forgotten_while_its_newer_failure_stays(suspicion: Suspicion, clock: Clock) -> None:
    note(suspicion, 0, 20)
    clock.now += 1.5
    for number in range(20):
        suspicion.note(f"10.1.0.{number}", Reason.UNREACHABLE)
    assert not suspicion.suspects_us()
    clock.now += 1.0
    assert suspicion.suspects_us()


def test_memory_is_bounded_while_all_is_well(suspicion: Suspicion, clock: Clock) -> None:
    for number in range(50_000):
        clock.now += 0.01
        suspicion.note(f"host-{number}", Reason.NONE)
    assert len(suspicion._seen) <= WINDOW_S / 0.01 + 1
    assert len(suspicion._notes) == len(suspicion._answers) == len(suspicion._seen)


def test_doubting_is_cheap_when_everything_fails_at_once(suspicion: Suspicion) -> None:
    started = time.perf_counter()
    for number in range(10_000):
        suspicion.note(f"host-{number}", Reason.CONNECT_TIMEOUT)
        suspicion.suspects_us()
    assert time.perf_counter() - started < 1.0  # it was minutes when each asked about all


def test_without_canaries_a_failure_counts() -> None:
    assert asyncio.run(Canary(()).alive())


def test_one_canary_that_answers_is_enough() -> None:
    async def ask() -> bool:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await Canary((f"127.0.0.1:{free_port()}", f"127.0.0.1:{port}")).alive()

    assert asyncio.run(ask())


def test_canaries_that_refuse_are_dead() -> None:
    assert not asyncio.run(Canary((f"127.0.0.1:{free_port()}",)).alive())


def test_a_canary_that_falls_silent_is_named_once_and_so_is_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    mute = {"refuses:1", "hangs:1"}

    async def reach(target: str) -> bool:
        if target in mute and target.startswith("hangs"):
            await asyncio.sleep(60)
        return target not in mute

    monkeypatch.setattr("worker.canary._reach", reach)
    monkeypatch.setattr("worker.canary.PATIENCE_S", 0.05)

    async def ask() -> None:
        canary = Canary(("refuses:1", "hangs:1"))
        for alive in (False, False, True, True):
            if alive:
                mute.clear()
            await asyncio.sleep(0.11)
            assert await canary.alive() is alive

    with structlog.testing.capture_logs() as lines:
        asyncio.run(ask())
    said = [(line["event"], line["canary"]) for line in lines]
    assert said[:2] == [("canary_silent", "refuses:1"), ("canary_silent", "hangs:1")]
    assert ("canary_answers_again", "refuses:1") in said[2:]
    assert len(said) == len(set(said)) <= 4


def test_failures_of_one_moment_share_an_attempt_and_later_ones_ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def reach(target: str) -> bool:
        asked.append(target)
        await asyncio.sleep(0.3)
        return True

    monkeypatch.setattr("worker.canary._reach", reach)

    async def ask() -> None:
        canary = Canary(("a:1",))
        first = [asyncio.create_task(canary.alive()) for _ in range(50)]
        await asyncio.sleep(0.15)
        later = asyncio.create_task(canary.alive())  # the attempt under way began before this failure
        assert all(await asyncio.gather(*first, later))

    asyncio.run(ask())
    assert len(asked) == 2


def test_a_silent_canary_is_given_up_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_target: str) -> bool:
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr("worker.canary._reach", never)
    started = time.monotonic()
    assert not asyncio.run(Canary(("a:1",)).alive())
    assert 0.9 < time.monotonic() - started < 2.0
