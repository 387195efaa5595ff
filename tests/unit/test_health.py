"""The two tables of common.domain.health, row by row, and against a model that remembers every result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.checks import Kind, Reason, Verdict
from common.domain.health import (
    INCIDENT_TABLE,
    STREAK_CAP,
    VOTE_TABLE,
    Change,
    Counted,
    Health,
    Policy,
    State,
    Vote,
    advance,
    conclude,
    counts,
    freshness_ms,
)

INTERVAL_MS = 30_000
FRESH_MS = freshness_ms(30, 10)
NOW_MS = 1_000_000_000
UP, DEGRADED, DOWN, UNKNOWN = Verdict.UP, Verdict.DEGRADED, Verdict.DOWN, Verdict.UNKNOWN


def result(
    slot: int,
    verdict: Verdict,
    kind: Kind = Kind.SCHEDULED,
    *,
    began_ms: int | None = None,
    finished_ms: int | None = None,
    next_ms: int | None = None,
) -> Counted:
    """The result of slot number `slot`, begun when it was due and finished 100 ms later."""
    slot_ms = NOW_MS + slot * INTERVAL_MS
    return Counted(
        slot_ms,
        verdict,
        kind,
        observed_ms=slot_ms if began_ms is None else began_ms,
        finished_at_ms=slot_ms + 100 if finished_ms is None else finished_ms,
        next_slot_ms=slot_ms + INTERVAL_MS if next_ms is None else next_ms,
        reason=Reason.NONE if verdict is UP else Reason.TIMEOUT,
    )


def run(vote: Vote, verdicts: Sequence[Verdict], policy: Policy) -> Vote:
    for slot, verdict in enumerate(verdicts, start=1):
        vote = advance(vote, result(slot, verdict), policy)
    return vote


def test_the_vote_table_has_a_row_for_every_health() -> None:
    assert set(VOTE_TABLE) == set(Health)


#: Every health with every verdict and thresholds of 1: one result is enough to see where each leads.
ONE_RESULT = [
    (Health.PENDING, UP, Health.UP),
    (Health.PENDING, DEGRADED, Health.DEGRADED),
    (Health.PENDING, DOWN, Health.DOWN),
    (Health.UP, UP, Health.UP),
    (Health.UP, DEGRADED, Health.DEGRADED),
    (Health.UP, DOWN, Health.DOWN),
    (Health.DEGRADED, UP, Health.UP),
    (Health.DEGRADED, DEGRADED, Health.DEGRADED),
    (Health.DEGRADED, DOWN, Health.DOWN),
    (Health.DOWN, UP, Health.UP),
    (Health.DOWN, DEGRADED, Health.DEGRADED),  # eased
    (Health.DOWN, DOWN, Health.DOWN),
    (Health.RELEASED, UP, Health.UP),
    (Health.RELEASED, DEGRADED, Health.DEGRADED),
    (Health.RELEASED, DOWN, Health.DOWN),
    *((health, UNKNOWN, health) for health in Health),  # unknown leads nowhere
]


def test_the_cases_below_are_all_there_are() -> None:
    assert {row[:2] for row in ONE_RESULT} == set(product(Health, Verdict))


@pytest.mark.parametrize(("health", "verdict", "after"), ONE_RESULT)
def test_with_thresholds_of_one_a_single_result_decides(health: Health, verdict: Verdict, after: Health) -> None:
    assert advance(Vote(health), result(1, verdict), Policy(1, 1)).health is after


#: (before, verdict, after as many as the threshold that counts); a healthy vote never needs the failure threshold.
THRESHOLDS = [
    (Health.PENDING, UP, Health.UP, "recovery"),
    (Health.PENDING, DOWN, Health.DOWN, "failure"),
    (Health.PENDING, DEGRADED, Health.DEGRADED, "failure"),
    (Health.UP, DOWN, Health.DOWN, "failure"),
    (Health.UP, DEGRADED, Health.DEGRADED, "failure"),
    (Health.DEGRADED, DOWN, Health.DOWN, "failure"),
    (Health.DEGRADED, UP, Health.UP, "recovery"),
    (Health.DOWN, UP, Health.UP, "recovery"),
    (Health.DOWN, DEGRADED, Health.DEGRADED, "recovery"),
    (Health.RELEASED, UP, Health.UP, "recovery"),
    (Health.RELEASED, DOWN, Health.DOWN, "failure"),
    (Health.RELEASED, DEGRADED, Health.DEGRADED, "failure"),
]


@pytest.mark.parametrize(("before", "verdict", "after", "which"), THRESHOLDS)
@pytest.mark.parametrize(("failure", "recovery"), [(1, 1), (2, 1), (1, 3), (3, 2), (100, 100)])
def test_a_vote_changes_with_the_last_of_its_threshold_and_not_one_sooner(
    before: Health, verdict: Verdict, after: Health, which: str, failure: int, recovery: int
) -> None:
    needed = failure if which == "failure" else recovery
    policy = Policy(failure, recovery)
    assert run(Vote(before), [verdict] * (needed - 1), policy).health is before
    assert run(Vote(before), [verdict] * needed, policy).health is after


#: (before, verdicts, failure threshold, recovery threshold, after)
MIXED = [
    (Health.UP, [DEGRADED, DOWN], 2, 1, Health.DEGRADED),  # two failures, but not two that are down
    (Health.UP, [DOWN, DEGRADED], 2, 1, Health.DEGRADED),
    (Health.UP, [DEGRADED, DOWN, DOWN], 2, 1, Health.DOWN),  # degraded at the second, down at the third
    (Health.UP, [DOWN, UP, DOWN], 2, 1, Health.UP),  # flapping never reaches the threshold
    (Health.UP, [DOWN, UNKNOWN, DOWN], 2, 1, Health.DOWN),  # unknown does not break the row
    (Health.DOWN, [UP, DEGRADED], 2, 2, Health.DEGRADED),  # two that are not down, but not two that are up
    (Health.DOWN, [UP, DOWN, UP], 2, 2, Health.DOWN),
    (Health.DOWN, [UP, UNKNOWN, UP], 2, 2, Health.UP),
    (Health.DEGRADED, [UP, DEGRADED, UP], 2, 2, Health.DEGRADED),
    (Health.DEGRADED, [DOWN, DEGRADED, DOWN], 2, 1, Health.DEGRADED),
    (Health.PENDING, [UP, DOWN], 2, 2, Health.PENDING),
    (Health.RELEASED, [DOWN, UP], 2, 1, Health.UP),
    (Health.RELEASED, [DOWN, DEGRADED], 2, 1, Health.DEGRADED),
]


@pytest.mark.parametrize(("before", "verdicts", "failure", "recovery", "after"), MIXED)
def test_degraded_and_down_mix_as_the_table_says(
    before: Health, verdicts: list[Verdict], failure: int, recovery: int, after: Health
) -> None:
    assert run(Vote(before), verdicts, Policy(failure, recovery)).health is after


@pytest.mark.parametrize("health", Health)
def test_unknown_touches_no_counter_and_does_not_keep_a_blind_location_fresh(health: Health) -> None:
    vote = Vote(health, last_slot_ms=NOW_MS, not_up=3, down=2, up=0, not_down=0, confirm_at_ms=NOW_MS + 5000)

    after = advance(vote, result(1, UNKNOWN), Policy(1, 1))

    assert after == replace(vote, confirm_at_ms=None)


#: (kind, slots after the last one, health, whether it counts)
COUNTING = [
    (Kind.SCHEDULED, 1, Health.UP, True),
    (Kind.SCHEDULED, 0, Health.UP, False),  # a duplicate
    (Kind.SCHEDULED, -1, Health.UP, False),  # out of order
    (Kind.CONFIRM, 1, Health.UP, True),
    (Kind.CONFIRM, 0, Health.UP, False),
    (Kind.MANUAL, 1, Health.UP, False),  # "check now" never votes
    (Kind.SCHEDULED, 1, Health.RELEASED, True),
    (Kind.CONFIRM, 1, Health.RELEASED, False),  # after a resolve by hand only scheduled checks count
]


@pytest.mark.parametrize(("kind", "slots", "health", "counted"), COUNTING)
def test_only_newer_results_that_may_vote_count(kind: Kind, slots: int, health: Health, counted: bool) -> None:
    vote = Vote(health, last_slot_ms=NOW_MS)
    item = result(slots, DOWN, kind)
    assert counts(vote, item) is counted
    assert (advance(vote, item, Policy(2, 1)) == vote) is not counted


def test_what_was_seen_before_does_not_overrule_what_was_seen_since() -> None:
    late = advance(Vote(Health.UP, NOW_MS), result(1, DOWN, began_ms=NOW_MS + 45_000), Policy(1, 1))
    assert (late.health, late.observed_ms) == (Health.DOWN, NOW_MS + 45_000)

    before = advance(late, result(2, UP, began_ms=late.observed_ms - 1), Policy(1, 1))
    assert before == replace(late, last_slot_ms=NOW_MS + 2 * INTERVAL_MS)  # nor may that slot vote again
    for began_ms in (late.observed_ms, late.observed_ms + 1):
        assert advance(late, result(2, UP, began_ms=began_ms), Policy(1, 1)).health is Health.UP


def test_a_location_that_cannot_see_does_not_keep_fresh_what_it_saw_since() -> None:
    late = advance(Vote(Health.UP, NOW_MS), result(1, DOWN, began_ms=NOW_MS + 45_000), Policy(1, 1))
    assert advance(late, result(2, UNKNOWN, began_ms=NOW_MS), Policy(1, 1)).last_slot_ms == late.last_slot_ms


def test_counters_stop_at_the_largest_threshold_there_can_be() -> None:
    vote = run(Vote(), [DOWN] * (STREAK_CAP + 5), Policy(100, 1))
    assert (vote.down, vote.not_up, vote.health) == (STREAK_CAP, STREAK_CAP, Health.DOWN)


#: (health, verdict, failure threshold, retry interval, next slot after finishing, whether it asks for a confirmation)
CONFIRMING = [
    (Health.UP, DOWN, 2, 5, 20_000, True),  # the first failure of two
    (Health.UP, DEGRADED, 2, 5, 20_000, True),
    (Health.PENDING, DOWN, 2, 5, 20_000, True),
    (Health.DEGRADED, DOWN, 2, 5, 20_000, True),  # worse than what is known
    (Health.UP, DOWN, 2, 5, 5_000, False),  # the next slot is no later
    (Health.UP, DOWN, 2, 5, 5_001, True),
    (Health.UP, DOWN, 2, 30, 20_000, False),  # the next slot is sooner
    (Health.UP, DOWN, 1, 5, 20_000, False),  # decided already
    (Health.UP, UP, 2, 5, 20_000, False),
    (Health.UP, UNKNOWN, 2, 5, 20_000, False),
    (Health.DOWN, DOWN, 2, 5, 20_000, False),  # known already
    (Health.DOWN, DEGRADED, 2, 5, 20_000, False),  # eases
    (Health.DEGRADED, DEGRADED, 2, 5, 20_000, False),
    (Health.RELEASED, DOWN, 2, 5, 20_000, False),  # only scheduled checks count
]


@pytest.mark.parametrize(("health", "verdict", "failure", "retry_s", "next_in_ms", "asks"), CONFIRMING)
def test_a_failure_that_is_not_decided_asks_for_a_confirmation_before_the_next_slot(
    health: Health, verdict: Verdict, failure: int, retry_s: int, next_in_ms: int, asks: bool
) -> None:
    finished = NOW_MS + INTERVAL_MS + 700
    item = result(1, verdict, finished_ms=finished, next_ms=finished + next_in_ms)
    after = advance(Vote(health, confirm_at_ms=1), item, Policy(failure, 1, retry_s))
    assert after.confirm_at_ms == (finished + retry_s * 1000 if asks else None)


# -- quorum ---------------------------------------------------------------------------------------------------------


def votes(*healths: Health | tuple[Health, int]) -> list[Vote]:
    """Votes of that health; a pair has the age of its last slot in milliseconds."""
    pairs = [item if isinstance(item, tuple) else (item, 0) for item in healths]
    return [Vote(health, last_slot_ms=NOW_MS - age) for health, age in pairs]


H = Health
#: (votes, quorum, what the monitor is)
QUORUM = [
    (votes(H.DOWN), None, H.DOWN),
    (votes(H.DEGRADED), None, H.DEGRADED),
    (votes(H.DOWN, H.UP), None, H.UP),  # one of two is no majority
    (votes(H.DOWN, H.DOWN, H.UP), None, H.DOWN),
    (votes(H.DOWN, H.DEGRADED, H.UP), None, H.DEGRADED),  # two are not up, one is down
    (votes(H.DOWN, H.UP, H.UP), None, H.UP),
    (votes(H.DOWN, H.UP, H.UP), 1, H.DOWN),  # an explicit quorum
    (votes(H.DOWN, H.DOWN, H.UP), 3, H.UP),
    (votes(H.DOWN, (H.UP, FRESH_MS)), None, H.DOWN),  # a stale location does not vote
    (votes(H.DOWN, (H.UP, FRESH_MS - 1)), None, H.UP),  # just fresh enough
    (votes(H.DOWN, (H.UP, -60_000)), None, H.UP),  # a location that is ahead of the cause is fresh
    (votes(H.DOWN, H.PENDING), None, H.DOWN),  # neither does a new one
    (votes(H.DOWN, H.RELEASED, H.UP), None, None),  # a released one is there, and nothing has recovered yet
    (votes(H.DOWN, H.DOWN, H.RELEASED), None, H.DOWN),
    (votes(H.DEGRADED, H.RELEASED, H.RELEASED), None, None),  # one of three is no majority
    (votes(H.RELEASED), None, None),
    (votes(H.PENDING), None, None),
    (votes((H.DOWN, FRESH_MS)), None, None),
    ([], None, None),
]


@pytest.mark.parametrize(("given_votes", "quorum", "wanted"), QUORUM)
def test_the_quorum_is_taken_of_the_fresh_votes(
    given_votes: list[Vote], quorum: int | None, wanted: Health | None
) -> None:
    before = State(H.DOWN)
    got = conclude(before, given_votes, Policy(quorum=quorum), now_ms=NOW_MS, fresh_ms=FRESH_MS)
    assert got.state.health is (before.health if wanted is None else wanted)


#: Every state with what the votes say: what happens to the incident, and the worst it has seen afterwards.
INCIDENTS = [
    (State(H.PENDING), H.UP, None, None),
    (State(H.PENDING), H.DEGRADED, Change.OPENED, H.DEGRADED),
    (State(H.PENDING), H.DOWN, Change.OPENED, H.DOWN),
    (State(H.UP), H.UP, None, None),
    (State(H.UP), H.DEGRADED, Change.OPENED, H.DEGRADED),
    (State(H.UP), H.DOWN, Change.OPENED, H.DOWN),
    (State(H.DEGRADED, H.DEGRADED), H.UP, Change.RESOLVED, None),
    (State(H.DEGRADED, H.DEGRADED), H.DEGRADED, None, H.DEGRADED),
    (State(H.DEGRADED, H.DEGRADED), H.DOWN, Change.ESCALATED, H.DOWN),
    (State(H.DOWN, H.DOWN), H.UP, Change.RESOLVED, None),
    (State(H.DOWN, H.DOWN), H.DEGRADED, Change.EASED, H.DOWN),
    (State(H.DOWN, H.DOWN), H.DOWN, None, H.DOWN),
    (State(H.DEGRADED, H.DOWN), H.UP, Change.RESOLVED, None),  # eased before
    (State(H.DEGRADED, H.DOWN), H.DEGRADED, None, H.DOWN),
    (State(H.DEGRADED, H.DOWN), H.DOWN, None, H.DOWN),  # down again: it was announced as such already
    (State(H.DOWN), H.UP, None, None),  # resolved by hand, then recovered
    (State(H.DOWN), H.DEGRADED, Change.OPENED, H.DEGRADED),
    (State(H.DOWN), H.DOWN, Change.OPENED, H.DOWN),  # resolved by hand, and a whole threshold of failures since
]


@pytest.mark.parametrize(("state", "wanted", "change", "worst"), INCIDENTS)
def test_a_state_and_what_is_wanted_give_one_change_of_the_incident(
    state: State, wanted: Health, change: Change | None, worst: Health | None
) -> None:
    got = conclude(state, votes(wanted), Policy(), now_ms=NOW_MS, fresh_ms=FRESH_MS)
    assert (got.change, got.state) == (change, State(wanted, worst))


def test_every_row_of_the_incident_table_is_a_case_above() -> None:
    seen = {(wanted, state.incident_worst) for state, wanted, *_ in INCIDENTS}
    assert set(INCIDENT_TABLE) <= seen


def test_a_released_location_keeps_a_resolved_by_hand_outage_from_looking_recovered() -> None:
    # Two of three failed, somebody resolved by hand; the first one has failed for its whole threshold again.
    got = conclude(State(H.DOWN), votes(H.DOWN, H.RELEASED, H.UP), Policy(), now_ms=NOW_MS, fresh_ms=FRESH_MS)
    assert (got.change, got.state) == (None, State(H.DOWN))


def test_freshness_is_two_intervals_a_timeout_and_five_seconds() -> None:
    assert freshness_ms(30, 10) == 75_000


# -- against a model that remembers everything ------------------------------------------------------------------------


@dataclass
class Model:
    """One location, naively: the list of all results that counted, judged from its end each time."""

    policy: Policy
    health: Health = Health.PENDING
    last_slot: int = 0

    def __post_init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.open = False
        self.events: list[str] = []

    def tail(self, matching: set[Verdict]) -> int:
        length = 0
        for verdict in reversed(self.verdicts):
            if verdict not in matching:
                break
            length += 1
        return length

    def see(self, item: Counted) -> None:
        if item.kind is Kind.MANUAL or item.slot_ms <= self.last_slot or item.verdict is UNKNOWN:
            return
        self.last_slot = item.slot_ms
        self.verdicts.append(item.verdict)
        failed, recovered = self.policy.failure_threshold, self.policy.recovery_threshold
        if self.health is not Health.UP and self.tail({UP}) >= recovered:
            self.health = Health.UP
        elif self.health is not Health.DOWN and self.tail({DOWN}) >= failed:
            self.health = Health.DOWN
        elif self.health is Health.DOWN:
            self.health = Health.DEGRADED if self.tail({UP, DEGRADED}) >= recovered else Health.DOWN
        elif self.health is not Health.DEGRADED and self.tail({DOWN, DEGRADED}) >= failed:
            self.health = Health.DEGRADED
        failing = self.health in (Health.DOWN, Health.DEGRADED)
        if failing != self.open and self.health is not Health.PENDING:
            self.open = failing
            self.events.append("open" if failing else "resolve")


policies = st.builds(Policy, st.integers(1, 4), st.integers(1, 3), st.integers(1, 60))
results = st.builds(result, st.integers(1, 40), st.sampled_from(Verdict), st.sampled_from(Kind))
in_order = st.lists(st.tuples(st.sampled_from(Verdict), st.sampled_from(Kind)), max_size=60).map(
    lambda items: [result(slot, verdict, kind) for slot, (verdict, kind) in enumerate(items, start=1)]
)


def play(items: Sequence[Counted], policy: Policy) -> tuple[Vote, State, list[Change]]:
    """Results into one vote and its monitor's state, as the writer does it: a conclusion at each change of health."""
    vote, state, changes = Vote(), State(), []
    for item in items:
        before, vote = vote, advance(vote, item, policy)
        if before.health is not vote.health:
            conclusion = conclude(state, [vote], policy, now_ms=item.slot_ms, fresh_ms=FRESH_MS)
            state = conclusion.state
            if conclusion.change:
                changes.append(conclusion.change)
    return vote, state, changes


@given(in_order, policies)
def test_a_vote_is_what_a_model_that_remembers_every_result_says(items: list[Counted], policy: Policy) -> None:
    model = Model(policy)
    for item in items:
        model.see(item)
    vote, state, changes = play(items, policy)
    assert (vote.health, vote.last_slot_ms) == (model.health, model.last_slot)
    assert state.health is model.health
    openings = {Change.OPENED: "open", Change.RESOLVED: "resolve"}
    assert [openings[change] for change in changes if change in openings] == model.events


@given(st.lists(results, max_size=60), policies)
def test_events_alternate_and_whatever_else_happens_lies_between_open_and_resolve(
    items: list[Counted], policy: Policy
) -> None:
    is_open = False
    _, state, changes = play(items, policy)
    for change in changes:
        assert is_open is (change is not Change.OPENED)
        is_open = change is not Change.RESOLVED
    assert is_open is (state.incident_worst is not None)


@given(st.lists(results, max_size=30), policies, st.data())
def test_nothing_at_or_before_the_last_slot_changes_a_vote(
    items: list[Counted], policy: Policy, data: st.DataObject
) -> None:
    vote, _, _ = play(items, policy)
    if vote.last_slot_ms:
        late = data.draw(results).__class__(
            data.draw(st.integers(0, vote.last_slot_ms)), data.draw(st.sampled_from(Verdict)),
            data.draw(st.sampled_from(Kind)), NOW_MS, NOW_MS, NOW_MS,
        )  # fmt: skip
        assert advance(vote, late, policy) == vote


@given(st.lists(results, max_size=40), policies)
def test_every_result_twice_is_the_same_as_once(items: list[Counted], policy: Policy) -> None:
    doubled = [item for item in items for _ in range(2)]
    assert play(doubled, policy) == play(items, policy)


@given(st.lists(results, max_size=40), policies)
def test_the_whole_history_replayed_on_top_changes_no_health_and_no_incident(
    items: list[Counted], policy: Policy
) -> None:
    vote, state, changes = play(items, policy)
    # Older unknowns may end a confirmation; the next slot confirms then.
    again, state_again, changes_again = play([*items, *items], policy)
    assert (replace(again, confirm_at_ms=None), state_again) == (replace(vote, confirm_at_ms=None), state)
    assert changes_again == changes


@given(st.lists(results, max_size=40), policies)
def test_without_the_unknowns_and_manual_checks_the_same_happens(items: list[Counted], policy: Policy) -> None:
    heard = [item for item in items if item.verdict is not UNKNOWN and item.kind is not Kind.MANUAL]
    vote, state, changes = play(items, policy)
    again, state_again, changes_again = play(heard, policy)
    assert (replace(vote, confirm_at_ms=None), state, changes) == (
        replace(again, confirm_at_ms=None), state_again, changes_again,
    )  # fmt: skip
