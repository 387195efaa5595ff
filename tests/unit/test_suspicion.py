"""Whether a worker doubts its own network, and how it asks its canaries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import cycle, islice

import pytest
import structlog

from common import telemetry
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
    started = time.process_time()
    for number in range(10_000):
        suspicion.note(f"host-{number}", Reason.CONNECT_TIMEOUT)
        suspicion.suspects_us()
    assert time.process_time() - started < 10  # it was minutes when each asked about all


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

    async def reach(target: str, _names: object) -> bool:
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
                monkeypatch.setattr("worker.canary.PATIENCE_S", 60.0)
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

    async def reach(target: str, _names: object) -> bool:
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
    async def never(_target: str, _names: object) -> bool:
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr("worker.canary._reach", never)
    started = time.monotonic()
    assert not asyncio.run(Canary(("a:1",)).alive())
    assert 0.9 < time.monotonic() - started < 40


def canary_that(
    monkeypatch: pytest.MonkeyPatch, answers: Callable[[int], bool], takes_s: Callable[[int], float]
) -> Canary:
    """A canary whose nth attempt answers or not, after so long; a moment is short and it is asked again soon."""
    asked = 0

    async def reach(_target: str, _names: object) -> bool:
        nonlocal asked
        turn, asked = asked, asked + 1
        await asyncio.sleep(takes_s(turn))
        return answers(turn)

    monkeypatch.setattr("worker.canary._reach", reach)
    monkeypatch.setattr("worker.canary._SAME_MOMENT_S", 0.0)
    monkeypatch.setattr("worker.canary._ASK_AGAIN_S", 0.05)
    return Canary(("a:1",))


def test_the_first_failure_after_our_network_is_back_is_believed_though_nothing_failed_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask() -> bool:
        canary = canary_that(monkeypatch, lambda turn: turn >= 3, lambda _turn: 0.0)
        assert not await canary.alive()
        assert telemetry.CANARIES_SILENT._value.get() == 1
        await asyncio.sleep(0.5)  # nobody asks: a monitor of once a day, say
        assert telemetry.CANARIES_SILENT._value.get() == 0
        began_s = time.monotonic()
        return await canary.alive(began_s)

    assert asyncio.run(ask())


def test_an_attempt_that_was_lost_does_not_outweigh_a_later_one_that_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask() -> tuple[bool, bool]:
        canary = canary_that(monkeypatch, lambda turn: turn != 1, lambda turn: 0.3 if turn == 1 else 0.0)
        assert await canary.alive()
        before_s = time.monotonic()
        lost = asyncio.create_task(canary.alive())
        await asyncio.sleep(0.1)
        assert await canary.alive()
        after_s = time.monotonic()
        assert not await lost
        return await canary.alive(before_s), await canary.alive(after_s)

    assert asyncio.run(ask()) == (False, True)


def test_while_it_is_silent_it_is_asked_by_one_and_not_by_all_who_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = 0

    def silent(turn: int) -> bool:
        nonlocal newest
        newest = turn
        return False

    async def ask() -> None:
        canary = canary_that(monkeypatch, silent, lambda _turn: 0.0)
        for _ in range(20):
            assert not await canary.alive()
        before = newest
        await asyncio.sleep(0.5)
        assert 2 <= newest - before <= 11  # every 0.05 s

    asyncio.run(ask())


def test_look_ups_that_hang_do_not_stand_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's cannot be given up: after an outage of minutes thousands would be before the one that matters."""
    asked: list[str] = []
    back = asyncio.Event()

    async def look_up(host: str) -> list[str]:
        asked.append(host)
        await back.wait()
        return ["127.0.0.1"]

    monkeypatch.setattr("worker.canary._look_up", look_up)
    monkeypatch.setattr("worker.canary.PATIENCE_S", 0.02)
    monkeypatch.setattr("worker.canary._SAME_MOMENT_S", 0.0)

    async def ask() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            canary = Canary((f"canary.test:{server.sockets[0].getsockname()[1]}",))
            for _ in range(20):
                assert not await canary.alive()
            assert asked == ["canary.test"]
            back.set()
            await asyncio.sleep(0)
            monkeypatch.setattr("worker.canary.PATIENCE_S", 5.0)
            assert await canary.alive()

    asyncio.run(ask())
    assert 1 <= len(asked) <= 3


def test_a_canary_may_be_named() -> None:
    async def ask() -> bool:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            return await Canary((f"localhost:{server.sockets[0].getsockname()[1]}",)).alive()

    assert asyncio.run(ask())
