"""Batches wait for room, in order, and never for ever."""

from __future__ import annotations

import asyncio

from worker.admission import Admission


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_batches_enter_while_there_is_room_and_then_in_order() -> None:
    async def run() -> list[str]:
        gate, entered = Admission(100), []

        async def batch(name: str, probes: int) -> None:
            await gate.enter(probes)
            entered.append(name)

        tasks = [asyncio.create_task(batch(name, 60)) for name in "abcd"]
        await _settle()
        assert entered == ["a", "b"], "the second stands over the limit, the third waits"
        for _ in range(20):
            gate.leave()
        await _settle()
        assert entered == ["a", "b"], "120 - 20 leaves no room"
        gate.leave()
        await _settle()
        assert entered == ["a", "b", "c"], "room for one: the fourth goes on waiting"
        for _ in range(160):
            gate.leave()
        await asyncio.gather(*tasks)
        return entered

    assert asyncio.run(run()) == ["a", "b", "c", "d"]


def test_a_batch_with_nothing_to_probe_does_not_keep_the_next_one_out() -> None:
    async def run() -> None:
        gate = Admission(1)
        await gate.enter(1)
        empty, full = asyncio.create_task(gate.enter(0)), asyncio.create_task(gate.enter(1))
        await _settle()
        gate.leave()
        await asyncio.wait_for(asyncio.gather(empty, full), 1)

    asyncio.run(run())


def test_a_cancelled_batch_gives_its_turn_on() -> None:
    async def run() -> None:
        gate = Admission(1)
        await gate.enter(1)
        first, second = asyncio.create_task(gate.enter(1)), asyncio.create_task(gate.enter(1))
        await _settle()
        gate.leave()
        first.cancel()  # its turn is set, but it has not run yet
        await asyncio.wait_for(second, 1)
        assert first.cancelled()

    asyncio.run(run())
