"""A process that stood still must not blame its targets."""

from __future__ import annotations

from worker.stall import StallWatch


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watched() -> tuple[StallWatch, Clock]:
    clock = Clock()
    watch = StallWatch(clock)
    watch.tick()
    return watch, clock


def test_ticks_in_time_are_no_stall() -> None:
    watch, clock = watched()
    for _ in range(50):
        clock.now += 0.3
        watch.tick()
    assert not watch.stalled_since(0.0)


def test_a_late_tick_is_a_stall_for_every_probe_that_had_begun() -> None:
    watch, clock = watched()
    clock.now += 8.0  # stopped, or the machine was frozen
    watch.tick()
    assert watch.stalled_since(99.0), "begun before the stall"
    assert watch.stalled_since(107.9), "begun while we stood still"
    clock.now += 0.1
    watch.tick()
    assert not watch.stalled_since(108.05), "begun after it"


def test_a_stall_shows_before_its_tick_comes() -> None:
    watch, clock = watched()
    clock.now += 0.61
    assert watch.stalled_since(100.5)


def test_before_the_first_tick_nothing_is_a_stall() -> None:
    assert not StallWatch(Clock()).stalled_since(0.0)
