"""A process that stood still must not blame its targets."""

from __future__ import annotations

import pytest

from worker.stall import TICK_S, LoopLag


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def ticking() -> tuple[LoopLag, Clock]:
    clock = Clock()
    lag = LoopLag(clock)
    lag.tick()
    return lag, clock


def test_ticks_in_time_add_up_to_nothing() -> None:
    lag, clock = ticking()
    for _ in range(1000):
        clock.now += TICK_S
        lag.tick()
    assert lag.total_s() == pytest.approx(0)
    assert not lag.blames_us(0.0, 1.0)


def test_a_long_stop_is_to_blame_for_every_probe_that_had_begun() -> None:
    lag, clock = ticking()
    before = lag.total_s()
    clock.now += 8.0  # stopped, or the machine was frozen
    lag.tick()
    assert lag.blames_us(before, 10.0)
    assert not lag.blames_us(lag.total_s(), 1.0), "a probe that begins after it"


def test_a_stop_shows_before_its_tick_comes() -> None:
    lag, clock = ticking()
    before = lag.total_s()
    clock.now += 0.5
    assert lag.blames_us(before, 1.0)


def test_many_small_delays_count_together() -> None:
    lag, clock = ticking()
    before = lag.total_s()
    for _ in range(5):
        clock.now += TICK_S + 0.06
        lag.tick()
    assert lag.blames_us(before, 1.0), "0.3 s of a 1 s timeout were ours"
    assert not lag.blames_us(before, 10.0), "of ten seconds they are little"


def test_before_the_first_tick_nothing_is_late() -> None:
    assert LoopLag(Clock()).total_s() == 0
