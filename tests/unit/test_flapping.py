"""A monitor that turns too often: one notice, silence, and what is the case when it has calmed down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.flapping import CALM_CHECKS, OFTEN_CHECKS, TURNS, flap_of
from common.domain.health import FLAPPING_TABLE, Change, Conclusion, Health, Policy, State, Vote, conclude

INTERVAL_S = 30
STEP_MS = INTERVAL_S * 1000
NOW_MS = 1_700_000_000_000
POLICY = Policy(1, 1, flap=flap_of(TURNS, INTERVAL_S))
UP, DEGRADED, DOWN = Health.UP, Health.DEGRADED, Health.DOWN


def step(state: State, health: Health, check: int, policy: Policy = POLICY) -> Conclusion:
    """What check number `check` makes of a monitor at one location."""
    now_ms = NOW_MS + check * STEP_MS
    return conclude(state, [Vote(health, last_slot_ms=now_ms)], policy, now_ms=now_ms, fresh_ms=3 * STEP_MS)


def walk(healths: Iterable[Health], policy: Policy = POLICY) -> tuple[State, list[Change | None]]:
    """The state after one check each, and what each did to the incident."""
    state, changes = State(), []
    for check, health in enumerate(healths):
        concluded = step(state, health, check, policy)
        state, _ = concluded.state, changes.append(concluded.change)
    return state, changes


def told(changes: Sequence[Change | None]) -> list[Change]:
    return [change for change in changes if change is not None]


O, R, F, S, E = Change.OPENED, Change.RESOLVED, Change.FLAPPING, Change.SETTLED, Change.ESCALATED  # noqa: E741
#: Three outages: the third one's end is the sixth turn.
THREE = [UP, DOWN, UP, DOWN, UP, DOWN, UP]

#: (healths of one check each, what is told)
CASES = [
    ([UP, DOWN, UP, DOWN, UP], [O, R, O, R]),  # two outages are two outages
    (THREE, [O, R, O, R, O, F]),  # of the third nobody hears the end: it is the notice
    (THREE + [DOWN, UP] * 5, [O, R, O, R, O, F]),  # and then nothing, however it goes on
    (THREE + [UP] * 9, [O, R, O, R, O, F]),
    (THREE + [UP] * 10, [O, R, O, R, O, F, R]),  # calm: the end that was held back
    (THREE + [DOWN] + [UP] * 10, [O, R, O, R, O, F]),  # turned once more: calm counts from there
    (THREE + [DOWN] + [UP] * 11, [O, R, O, R, O, F, R]),
    (THREE + [DOWN] * 10, [O, R, O, R, O, F]),
    (THREE + [DOWN] * 11, [O, R, O, R, O, F, S]),  # calm and still wrong: said once
    (THREE + [DOWN] * 30, [O, R, O, R, O, F, S]),
    (THREE + [DOWN] * 11 + [UP], [O, R, O, R, O, F, S, R]),  # and its end as that of any other
    (THREE + [UP] * 10 + [DOWN, UP], [O, R, O, R, O, F, R, O, R]),  # afterwards all begins anew
    ([UP, *[DEGRADED, UP] * 3], [O, R, O, R, O, F]),  # degraded is not up either
    ([UP, DEGRADED, UP, DEGRADED, UP, DEGRADED, UP, DOWN], [O, R, O, R, O, F, E]),  # something worse is never held back
    ([UP, *[DEGRADED, DOWN] * 10], [O, E]),  # nobody is told of that anyway, so it does not flap
]


@pytest.mark.parametrize(("healths", "expected"), CASES)
def test_what_is_told_of_a_monitor_that_turns_too_often(healths: list[Health], expected: list[Change]) -> None:
    assert [c for c in told(walk(healths)[1]) if c is not Change.EASED] == expected


def test_six_turns_that_take_longer_than_twenty_checks_are_no_flapping() -> None:
    slowly = [UP, *[DOWN] * 8]
    assert told(walk([*slowly * 6, UP])[1]) == [O, R] * 6


def test_the_window_is_that_of_twenty_checks_to_the_check() -> None:
    state = walk(THREE[:-1])[0]
    assert len(state.turns) == TURNS - 1
    first = state.turns[0]
    last_check = (first - NOW_MS) // STEP_MS + OFTEN_CHECKS
    assert step(state, UP, last_check - 1).change is F
    assert step(state, UP, last_check).change is R


def test_the_first_verdict_is_no_turn() -> None:
    assert walk([DOWN])[0].turns == ()
    assert told(walk([DOWN, *THREE])[1]) == [O, R, O, R, O, R, O, F]


def test_without_a_limit_nothing_ever_flaps_and_nothing_is_kept() -> None:
    state, changes = walk(THREE * 5, Policy(1, 1))
    assert F not in changes
    assert state == State(UP)
    assert flap_of(0, INTERVAL_S) is None


def test_who_flapped_when_the_limit_was_taken_away_is_told_of_at_once() -> None:
    state = walk(THREE)[0]
    assert state.flapping
    after = step(state, UP, 20, Policy(1, 1))
    assert (after.change, after.state) == (R, State(UP))


def test_an_incident_that_somebody_else_ended_does_not_flap_on() -> None:
    # By hand, or by a version that knows nothing of flapping: no incident is open, whatever the row says.
    state = replace(walk(THREE)[0], incident_worst=None)
    assert step(state, DOWN, 30).change is O


def test_the_table_holds_every_case_that_is_held_back() -> None:
    assert set(FLAPPING_TABLE) == {(R, False), (R, True)}


@given(st.lists(st.sampled_from([UP, UP, DEGRADED, DOWN]), max_size=120), st.integers(1, 8))
def test_however_it_turns_what_is_told_is_a_story_that_holds(healths: list[Health], turns: int) -> None:
    """Nothing is resolved that was not opened, at most one notice an incident, and calm tells what is the case."""
    policy = Policy(1, 1, flap=flap_of(turns, INTERVAL_S))
    state, changes = walk(healths, policy)
    is_open, notices = False, 0
    for change in told(changes):
        if change is O:
            assert not is_open
            is_open, notices = True, 0
        elif change is R:
            assert is_open
            is_open = False
        else:
            assert is_open
            notices += change is F
            assert notices <= 1 or change is not F
        assert notices >= (change is S)
        notices -= change is S
    assert (state.incident_worst is not None) is is_open
    assert not state.flapping or is_open

    # What is wrong in the end, and goes on, is told; what is well is resolved. No later than calm takes.
    last = healths[-1] if healths else UP
    for extra in range(CALM_CHECKS + 1):
        concluded = step(state, last, len(healths) + extra, policy)
        state = concluded.state
    assert not state.flapping
    assert (state.incident_worst is not None) is (last is not UP)


@given(st.lists(st.sampled_from([UP, DOWN]), min_size=1, max_size=200))
def test_nobody_hears_more_of_a_flapping_monitor_than_of_one_that_does_not(healths: list[Health]) -> None:
    plain = Counter(told(walk(healths, Policy(1, 1))[1]))
    flapping = Counter(told(walk(healths)[1]))
    assert flapping.total() <= plain.total() + 1  # the settled one
    assert flapping[O] <= plain[O]
    # One round of it: three openings, two ends, one notice, at the most one more end or word that it goes on.
    assert flapping[F] <= len(healths) // CALM_CHECKS + 1
