"""How long a quick batch waits: a target that hangs is moved over, what is late because of us is not begun anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from common.domain.checks import Check, Kind, Lane
from worker import checks
from worker.checks import CheckRunner

CHECK = Check(1, 1, 1_800_000_000_000, Kind.SCHEDULED)
ROUND_S = 0.05


class Lag:
    """A loop that is late in the first of its rounds."""

    def __init__(self, late: Iterable[bool]) -> None:
        self._late = iter(late)

    def total_s(self) -> float:
        return 0.0

    def blames_us(self, _before_s: float, _timeout_s: float) -> bool:
        return next(self._late, False)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What was given to the slow lane."""
    found: list[Check] = []

    def enqueue(_broker: object, lane: Lane, _location: str, given: Iterable[Check], **_: Any) -> None:
        assert lane is Lane.SLOW
        found.extend(given)

    monkeypatch.setattr(checks, "enqueue_checks", enqueue)
    monkeypatch.setattr(checks, "SPILL_AFTER_S", ROUND_S)
    return found


def finish(late: Iterable[bool], takes_s: float, *, drain: bool = False) -> tuple[bool, float]:
    """Whether the batch's one probe came to its end, and after how long the batch ended (seconds)."""

    async def main() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as blocking:
            clock = SimpleNamespace(now_ms=lambda: CHECK.scheduled_at_ms)
            parts = SimpleNamespace(lag=Lag(late), clock=clock, broker=None, blocking=blocking)
            runner = CheckRunner(parts, location=1, location_name="local")  # type: ignore[arg-type]
            probe = loop.create_task(asyncio.sleep(takes_s))
            if drain:
                loop.call_later(ROUND_S / 2, runner.drain)
            began = loop.time()
            await runner._finish({probe: (CHECK, None)}, Lane.FAST, "batch")  # type: ignore[dict-item]
            return not probe.cancelled(), loop.time() - began

    return asyncio.run(main())


def test_a_target_that_hangs_is_moved_to_the_slow_lane(moved: list[Check]) -> None:
    ended, after_s = finish([], 60)
    assert not ended
    assert after_s < 40
    assert moved == [CHECK]


def test_what_is_late_because_of_us_is_finished_and_not_begun_anew(moved: list[Check]) -> None:
    ended, _ = finish([True] * 6, 3 * ROUND_S)
    assert ended
    assert moved == []


def test_once_we_are_in_time_again_a_target_that_hangs_is_moved(moved: list[Check]) -> None:
    ended, after_s = finish([True, True], 60)
    assert not ended
    assert 3 * ROUND_S <= after_s < 40
    assert moved == [CHECK]


def test_a_lag_that_does_not_end_holds_no_batch_for_ever(moved: list[Check]) -> None:
    ended, after_s = finish([True] * 1_000, 60)
    assert not ended
    assert 5 * ROUND_S <= after_s < 40
    assert moved == [CHECK]


def test_who_ends_does_not_wait_however_late_it_is(moved: list[Check]) -> None:
    ended, after_s = finish([True] * 1_000, 60, drain=True)
    assert not ended
    assert after_s < 40
    assert moved == [CHECK]
