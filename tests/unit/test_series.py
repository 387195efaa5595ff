"""Steps of a window, and what is known in each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.series import RAW_S, Grid, Step, Watched, columns, grid
from common.domain.slots import phase_ms

MONITOR = "01928e5c-7f3a-7cc1-9d5e-3b1f5a1c2d3e"
T0 = 1_800_000_000


def watched(*, interval_s: int = 30, locations: int = 1, check_from_s: int = 0, enabled: bool = True) -> Watched:
    return Watched(MONITOR, interval_s, 10, locations, check_from_s * 1000, enabled)


@given(st.integers(0, 2**33), st.integers(60, 400 * 86_400), st.integers(1, 60))
def test_the_steps_cover_the_window_and_hold_the_present(now_s: int, window_s: int, points: int) -> None:
    steps = grid(now_s + 0.5, window_s, points)
    assert steps.points <= points
    assert steps.end_s - steps.step_s <= now_s < steps.end_s
    assert steps.t0_s % steps.step_s == 0
    # All of the window but for the part of a step that the present has not reached.
    assert now_s - steps.t0_s >= window_s - steps.step_s
    if window_s <= RAW_S:
        assert steps.points == points
        assert steps.step_s < window_s / points + 1
    else:
        assert steps.step_s % 300 == 0
        assert steps.step_s < max(2 * window_s / points, window_s / points + 300)


def test_asking_again_a_moment_later_hits_the_same_steps() -> None:
    assert grid(T0 + 1.0, 86_400, 60) == grid(T0 + 700.0, 86_400, 60)


#: (what a step holds, its slots due, (up, coverage))
STEPS = [
    (Step(10, 10, 41.2, 80.0), (1.0, 1.0)),
    (Step(10, 9, 41.2, 80.0), (0.9, 1.0)),
    (Step(10, 0, None, None), (0.0, 1.0)),  # down all the time: no latency
    (Step(5, 5, 1.0, 1.0), (1.0, 0.5)),  # half of them missing or unknown
    (Step(0, 0, None, None), (None, 0.0)),  # all unknown: nothing about the target, and no coverage
    (None, (None, 0.0)),  # nothing was checked
    (Step(11, 11, 1.0, 1.0), (1.0, 1.0)),  # one more than due: never beyond 1
]


@pytest.mark.parametrize(("step", "wanted"), STEPS)
def test_uptime_is_of_what_was_seen_and_coverage_of_what_was_due(
    step: Step | None, wanted: tuple[float | None, float | None]
) -> None:
    steps = Grid(T0, 300, 2)
    found = columns(steps, watched(), {0: step} if step else {}, now_ms=(T0 + 1_000) * 1000)
    assert (found.up[0], found.coverage[0]) == wanted
    assert (found.p50[0], found.p95[0]) == ((step.p50, step.p95) if step else (None, None))
    assert (found.up[1], found.coverage[1]) == (None, 0.0)


def test_slots_count_in_every_location() -> None:
    found = columns(Grid(T0, 300, 1), watched(locations=3), {0: Step(10, 10, 1.0, 1.0)}, now_ms=(T0 + 1_000) * 1000)
    assert found.coverage == [pytest.approx(10 / 30, abs=1e-4)]


def test_what_was_due_is_unknown_before_the_settings_of_now() -> None:
    seen = {number: Step(10, 10, 1.0, 1.0) for number in range(4)}
    found = columns(Grid(T0, 300, 4), watched(check_from_s=T0 + 301), seen, now_ms=(T0 + 2_000) * 1000)
    assert found.coverage == [None, None, 1.0, 1.0]
    assert found.up == [1.0] * 4


def test_of_a_paused_monitor_nothing_is_due() -> None:
    found = columns(Grid(T0, 300, 2), watched(enabled=False), {0: Step(4, 4, 1.0, 1.0)}, now_ms=(T0 + 600) * 1000)
    assert (found.coverage, found.up) == ([None, None], [1.0, None])


def test_a_slot_is_missed_only_once_its_check_must_have_come_to_its_end() -> None:
    begin_ms = T0 * 1000
    phase = phase_ms(MONITOR, 30_000)
    first = begin_ms + (phase - begin_ms) % 30_000
    steps = Grid(T0, 300, 1)
    for after_ms, coverage in ((11_000, None), (13_000, 0.0)):
        assert columns(steps, watched(), {}, now_ms=first + after_ms).coverage == [coverage]
