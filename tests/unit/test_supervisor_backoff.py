"""When a role is started again: RestartPlan, with the time written by hand."""

from __future__ import annotations

import pytest

from common.supervisor import FIRST_DELAY_S, GOOD_RUN_S, LONGEST_DELAY_S, Decision, RestartPlan


def delays_after(runs_s: list[float]) -> list[float]:
    """The delays that follow runs of these lengths, each started as soon as it is due."""
    plan, now, delays = RestartPlan(), 0.0, []
    for run_s in runs_s:
        plan.started(now)
        delays.append(plan.ended(now + run_s))
        now += run_s + delays[-1]
    return delays


@pytest.mark.parametrize(
    ("runs_s", "expected"),
    [
        # The first death is forgiven at once, or nearly.
        ([5], [0.2]),
        # Each further short run doubles the delay, up to the longest.
        ([0, 0, 0, 0, 0, 0, 0, 0], [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]),
        # A run just short of a good one does not count as good.
        ([0, 0, GOOD_RUN_S - 1], [0.2, 0.4, 0.8]),
        # A good run forgets what was before; what comes after it is counted anew.
        ([0, 0, 0, GOOD_RUN_S, 0], [0.2, 0.4, 0.8, 0.2, 0.4]),
        # A good run that began after the longest delay counts from its start, not from the death before.
        ([0] * 7 + [GOOD_RUN_S - LONGEST_DELAY_S], [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]),
    ],
)
def test_the_delay_doubles_with_each_short_run_until_a_good_one(runs_s: list[float], expected: list[float]) -> None:
    assert delays_after(runs_s) == pytest.approx(expected)


def test_a_new_plan_starts_at_once() -> None:
    assert RestartPlan().decide(now=0.0) is Decision.START


def test_a_running_process_is_kept() -> None:
    plan = RestartPlan()
    plan.started(now=0.0)
    assert plan.decide(now=10_000.0) is Decision.KEEP


def test_a_dead_process_is_started_when_its_delay_is_over_and_not_before() -> None:
    plan = RestartPlan()
    plan.started(now=0.0)
    plan.ended(now=100.0)
    assert plan.decide(now=100.0) is Decision.WAIT
    assert plan.decide(now=100.0 + FIRST_DELAY_S / 2) is Decision.WAIT
    assert plan.decide(now=100.0 + FIRST_DELAY_S) is Decision.START


def test_an_attempt_that_never_ran_counts_as_a_short_run() -> None:
    plan = RestartPlan()
    assert [plan.ended(now=0.0), plan.ended(now=1.0), plan.ended(now=2.0)] == pytest.approx([0.2, 0.4, 0.8])
