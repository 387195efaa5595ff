"""From results to votes, states and incidents, without a database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.domain.checks import Check, FailedAssertion, Kind, Observation, Phases, Reason, Result, Verdict
from common.domain.health import Change, Health, Policy, State, Vote
from common.domain.incident import EventType, Severity, Status
from common.domain.monitors import MonitorConfig
from common.domain.slots import next_slot, phase_ms
from common.store.votes import MonitorFacts, StoredVote
from worker.judge import Judged, correlation_id, fold, rule

NOW_MS = 1_800_000_000_000
KEY = (7, 1)
CONFIG = MonitorConfig(
    monitor_no=7, monitor_id="m-7", org_id="o-1", config_version=3, type="http", name="Shop", target="http://shop",
    interval_s=30, timeout_s=10, policy=Policy(failure_threshold=2), locations=(1,),
)  # fmt: skip
FACTS = MonitorFacts(
    7, "m-7", "o-1", "Shop", severity="critical", state=State(Health.UP), open_incident=None, last_resolved=None
)
U, G, D, N = Verdict.UP, Verdict.DEGRADED, Verdict.DOWN, Verdict.UNKNOWN


def judged(
    slot: int, verdict: Verdict, *, kind: Kind = Kind.SCHEDULED, config: MonitorConfig = CONFIG, location: int = 1,
    late_ms: int = 0,
) -> Judged:  # fmt: skip
    at_ms = NOW_MS + slot * 30_000
    reason = Reason.NONE if verdict is U else Reason.TIMEOUT
    observation = Observation(verdict, reason, "" if verdict is U else "no answer", phases=Phases(total_ms=12.5))
    check = Check(7, config.config_version, at_ms, kind)
    result = Result(check, location, observation, at_ms + late_ms + 40)
    return Judged(result, config, started_ms=at_ms + late_ms)


def stored(vote: Vote | None = None, *, floor: int = 0, state: Health = Health.UP) -> StoredVote:
    return StoredVote(vote or Vote(Health.UP, NOW_MS), version=5, config_floor=floor, slow=False, state=state)


def slots(items: list[Judged]) -> list[int]:
    return [(item.result.check.scheduled_at_ms - NOW_MS) // 30_000 for item in items]


def test_results_are_folded_in_slot_order_whatever_the_order_of_arrival() -> None:
    outcome = fold(KEY, stored(), [judged(3, D), judged(1, U), judged(2, D)])
    assert slots(outcome.counted) == [1, 2, 3]
    assert outcome.update is not None
    assert (outcome.update.version, outcome.update.vote.health) == (5, Health.DOWN)
    assert outcome.update.vote.last_slot_ms == NOW_MS + 90_000


def test_folding_stops_at_a_change_so_that_a_short_outage_in_a_long_backlog_is_still_one() -> None:
    backlog = [judged(n, v) for n, v in enumerate([U, D, D, U, U], start=1)]
    outcome = fold(KEY, stored(), backlog)
    assert (slots(outcome.counted), slots(outcome.later)) == ([1, 2, 3], [4, 5])
    assert outcome.changed and outcome.decides

    assert outcome.update is not None
    after = fold(KEY, stored(outcome.update.vote, state=Health.DOWN), outcome.later)
    assert (slots(after.counted), slots(after.later)) == ([4], [5])
    assert after.update is not None and after.update.vote.health is Health.UP


def test_a_late_check_that_saw_the_newer_moment_is_not_overruled_by_the_next_slot() -> None:
    late, before = judged(1, D, late_ms=40_000), judged(2, U)
    outcome = fold(KEY, stored(), [late, before])
    assert outcome.update is not None
    assert (outcome.update.vote.down, outcome.update.vote.up) == (1, 0)
    assert (outcome.update.vote.last_slot_ms, outcome.update.last_verdict) == (NOW_MS + 60_000, D)
    alone = fold(KEY, stored(replace(outcome.update.vote, last_slot_ms=NOW_MS + 30_000)), [before])
    assert alone.update is not None
    assert (alone.update.vote, alone.update.last_verdict) == (outcome.update.vote, None)
    after = fold(KEY, stored(outcome.update.vote), [before, judged(3, U)])
    assert (slots(after.counted), slots(after.stored)) == ([3], [2])


#: (result, vote, config floor): what is stored and moves nothing.
STORED_ONLY = [
    (judged(0, D), Vote(Health.UP, NOW_MS), 0),  # a duplicate
    (judged(-1, D), Vote(Health.UP, NOW_MS), 0),  # out of order
    (judged(1, D, kind=Kind.MANUAL), Vote(Health.UP, NOW_MS), 0),  # asked for by hand
    (judged(1, D, kind=Kind.CONFIRM), Vote(Health.RELEASED, NOW_MS), 0),  # resolved by hand meanwhile
    (judged(1, D), Vote(Health.UP, NOW_MS), 4),  # probed with an older configuration
]


@pytest.mark.parametrize(("item", "vote", "floor"), STORED_ONLY)
def test_what_may_not_vote_is_only_stored(item: Judged, vote: Vote, floor: int) -> None:
    outcome = fold(KEY, stored(vote, floor=floor), [item])
    assert outcome.stored == [item]
    assert (outcome.update, outcome.counted, outcome.decides) == (None, [], False)


def test_a_result_of_a_removed_location_is_only_stored() -> None:
    outcome = fold(KEY, None, [judged(1, D), judged(2, D), judged(3, D)])
    assert (slots(outcome.stored), outcome.update, outcome.later) == ([1, 2, 3], None, [])


def test_a_configuration_as_new_as_the_floor_votes() -> None:
    assert fold(KEY, stored(floor=3), [judged(1, D)]).update is not None


def test_the_update_tells_lane_and_verdict_of_the_newest_that_counted() -> None:
    slow, quick = judged(1, U), judged(2, N)
    slow.result.slow = True
    outcome = fold(KEY, stored(), [quick, slow])
    assert outcome.update is not None
    assert (outcome.update.slow, outcome.update.last_verdict) == (False, N)


def test_a_failure_is_confirmed_before_the_locations_own_next_slot() -> None:
    config = replace(CONFIG, locations=(4, 1), policy=Policy(failure_threshold=2, retry_interval_s=1))
    item = judged(1, D, config=config)
    outcome = fold(KEY, stored(), [item])
    following = next_slot(item.result.finished_at_ms, 30_000, phase_ms("m-7", 30_000, 1, 2))
    expected = item.result.finished_at_ms + 1000
    assert outcome.update is not None
    assert outcome.update.vote.confirm_at_ms == (expected if expected < following else None)


#: (locations, vote before, state, verdict): whether the monitor's state is concluded although no vote changed.
DISAGREEING = [
    ((1, 2), Health.DOWN, Health.UP, D, True),  # outvoted, and the other may have gone stale
    ((1, 2), Health.UP, Health.DOWN, U, True),  # the one that kept it down may have gone stale
    ((1, 2), Health.DOWN, Health.DOWN, D, False),  # agreed: the common case costs nothing
    ((1, 2), Health.UP, Health.UP, U, False),
    ((1,), Health.UP, Health.DOWN, U, True),  # the location that kept it down was removed
    ((1,), Health.DOWN, Health.DOWN, D, False),
    ((1, 2), Health.RELEASED, Health.DOWN, D, False),
]


@pytest.mark.parametrize(("locations", "health", "state", "verdict", "decides"), DISAGREEING)
def test_a_location_that_was_outvoted_asks_again_with_every_result(
    locations: tuple[int, ...], health: Health, state: Health, verdict: Verdict, decides: bool
) -> None:
    config = replace(CONFIG, locations=locations)
    outcome = fold(KEY, stored(Vote(health, NOW_MS), state=state), [judged(1, verdict, config=config)])
    assert (outcome.changed, outcome.decides) == (False, decides)


def test_a_change_opens_with_everything_people_need() -> None:
    cause = judged(2, D)
    cause.result.observation.failed_assertion = FailedAssertion("body", "contains", "ok", "b\x00d")
    cause.result.observation.message = "the body holds b\x00d"
    ruling = rule(FACTS, [Vote(Health.DOWN, NOW_MS + 60_000)], cause)
    assert ruling is not None and ruling.opening is not None
    opening = ruling.opening
    assert (opening.org_id, opening.monitor_id, opening.dedup_key) == ("o-1", "m-7", "monitor:m-7")
    assert (opening.title, opening.severity) == ("Shop is down", Severity.CRITICAL)
    assert opening.cause == {
        "reason": "timeout", "message": "the body holds b�d", "expected": "ok", "seen": "b�d",
    }  # fmt: skip  # what PostgreSQL cannot hold would keep the incident from opening
    assert opening.correlation_id == correlation_id(cause)


def test_degraded_opens_milder_and_escalates_to_the_monitors_own_severity() -> None:
    opened = rule(FACTS, [Vote(Health.DEGRADED, NOW_MS)], judged(1, G))
    assert opened is not None and opened.opening is not None
    assert opened.opening.severity is Severity.WARNING

    facts = replace(FACTS, state=State(Health.DEGRADED, Health.DEGRADED), open_incident="i-1")
    escalated = rule(facts, [Vote(Health.DOWN, NOW_MS)], judged(2, D))
    assert escalated is not None and escalated.alteration is not None
    alteration = escalated.alteration
    assert (alteration.type, alteration.severity, alteration.status) == (EventType.ESCALATED, Severity.CRITICAL, None)
    assert alteration.title == "Shop is down"


def test_recovery_resolves_and_easing_only_takes_a_note() -> None:
    facts = replace(FACTS, state=State(Health.DOWN, Health.DOWN), open_incident="i-1")
    resolved = rule(facts, [Vote(Health.UP, NOW_MS)], judged(1, U))
    assert resolved is not None and resolved.alteration is not None
    assert (resolved.alteration.type, resolved.alteration.status) == (EventType.RESOLVED, Status.RESOLVED)

    eased = rule(facts, [Vote(Health.DEGRADED, NOW_MS)], judged(1, G))
    assert eased is not None and eased.alteration is not None
    assert (eased.conclusion.change, eased.alteration.status) == (Change.EASED, None)


def test_an_incident_after_a_resolve_by_hand_names_the_one_before() -> None:
    facts = replace(FACTS, state=State(Health.DOWN), last_resolved="i-0")
    ruling = rule(facts, [Vote(Health.DOWN, NOW_MS)], judged(1, D))
    assert ruling is not None and ruling.opening is not None
    assert ruling.opening.reopened_from == "i-0"


@pytest.mark.parametrize(
    ("state", "votes"),
    [
        (State(Health.UP), [Vote(Health.UP, NOW_MS)]),  # as before
        (State(Health.UP), [Vote(Health.DOWN, NOW_MS), Vote(Health.UP, NOW_MS)]),  # outvoted
        (State(Health.DOWN), [Vote(Health.RELEASED, NOW_MS)]),  # resolved by hand
    ],
)
def test_nothing_is_ruled_when_nothing_changes(state: State, votes: list[Vote]) -> None:
    assert rule(replace(FACTS, state=state), votes, judged(1, D)) is None


TWO = replace(CONFIG, locations=(1, 2))
FRESH = NOW_MS + 10 * 30_000


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        # Location 2 was silent while the target went down; its first failed check makes its old "up" fresh again.
        (State(Health.DOWN, Health.DOWN), D),
        # An unknown result must not do it either.
        (State(Health.DOWN, Health.DOWN), N),
    ],
)
def test_nobody_hears_of_an_end_because_of_a_check_that_was_not_up(state: State, verdict: Verdict) -> None:
    facts = replace(FACTS, state=state, open_incident="i-1")
    votes = [Vote(Health.DOWN, FRESH, not_up=9, down=9), Vote(Health.UP, FRESH, not_up=1, down=1)]
    assert rule(facts, votes, judged(10, verdict, config=TWO, location=2)) is None


@pytest.mark.parametrize("verdict", [U, N])
def test_nothing_opens_because_of_a_check_that_did_not_fail(verdict: Verdict) -> None:
    # Location 1 went stale, so that the old opinion of location 2 is the only one left.
    votes = [Vote(Health.UP, NOW_MS), Vote(Health.DOWN, FRESH, up=1)]
    assert rule(FACTS, votes, judged(10, verdict, config=TWO, location=2)) is None


def test_what_a_location_held_back_does_not_overrule_what_others_found_since() -> None:
    facts = replace(FACTS, state=State(Health.DOWN, Health.DOWN), open_incident="i-1", since_ms=FRESH)
    votes = [Vote(Health.DOWN, FRESH, not_up=1, down=1), Vote(Health.UP, NOW_MS + 9 * 30_000, up=1)]
    assert rule(facts, votes, judged(9, U, config=TWO, location=2)) is None
    assert rule(facts, votes, judged(10, U, config=TWO, location=2)) is not None


#: (verdicts of one flush, the vote before): the slot of the failure that has a line of its own.
FIRST_FAILURES: list[tuple[list[Verdict], Vote, int | None]] = [
    ([U, U], Vote(Health.UP, NOW_MS), None),
    ([D], Vote(Health.UP, NOW_MS), 1),
    ([U, G], Vote(Health.UP, NOW_MS), 2),
    ([D, U], Vote(Health.UP, NOW_MS), 1),  # over within one flush
    ([D], Vote(Health.UP, NOW_MS, not_up=1, down=1), None),  # not the first
    ([D], Vote(Health.DOWN, NOW_MS, not_up=9, down=9), None),  # goes on
    ([N], Vote(Health.UP, NOW_MS), None),  # our own fault
]


@pytest.mark.parametrize(("verdicts", "vote", "expected"), FIRST_FAILURES)
def test_the_first_failure_after_a_success_is_found(verdicts: list[Verdict], vote: Vote, expected: int | None) -> None:
    outcome = fold(KEY, stored(vote), [judged(n, verdict) for n, verdict in enumerate(verdicts, start=1)])
    found = outcome.first_failure
    assert (slots([found])[0] if found else None) == expected
