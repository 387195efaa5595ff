"""From verdicts to a monitor's health: debounce each location's vote, then take the quorum of the fresh ones.

Everything that moves a vote or a state is in the two tables below. `advance` counts one result into one location's
vote; `conclude` reads all votes of a monitor and says what its state becomes and what happens to its incident.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from common.domain.checks import Kind, Reason, Verdict, _Labelled
from common.domain.errors import DomainError
from common.domain.flapping import Flap, Turns, has_calmed, too_often, with_turn


class Health(_Labelled):
    """A debounced opinion, of one location (vote) or of the monitor (state).

    `RELEASED` is a vote whose incident was resolved by hand: it must fail again for the whole threshold, in
    scheduled checks, before it counts as down once more.
    """

    PENDING = 0
    UP = 1
    DEGRADED = 2
    DOWN = 3
    RELEASED = 4


class Streak(StrEnum):
    """The four counters of consecutive results that a vote keeps; each value is the name of its field in `Vote`."""

    NOT_UP = "not_up"
    DOWN = "down"
    UP = "up"
    NOT_DOWN = "not_down"


class Threshold(StrEnum):
    """Which of the monitor's thresholds a streak has to reach."""

    FAILURE = "failure"
    RECOVERY = "recovery"


#: {health: ((streak, threshold, next health), …)}, tried in order; the first streak that is long enough wins.
VOTE_TABLE: MappingProxyType[Health, tuple[tuple[Streak, Threshold, Health], ...]] = MappingProxyType(
    {
        Health.PENDING: (
            (Streak.UP, Threshold.RECOVERY, Health.UP),
            (Streak.DOWN, Threshold.FAILURE, Health.DOWN),
            (Streak.NOT_UP, Threshold.FAILURE, Health.DEGRADED),
        ),
        Health.UP: (
            (Streak.DOWN, Threshold.FAILURE, Health.DOWN),
            (Streak.NOT_UP, Threshold.FAILURE, Health.DEGRADED),
        ),
        Health.DEGRADED: (
            (Streak.DOWN, Threshold.FAILURE, Health.DOWN),
            (Streak.UP, Threshold.RECOVERY, Health.UP),
        ),
        Health.DOWN: (
            (Streak.UP, Threshold.RECOVERY, Health.UP),
            (Streak.NOT_DOWN, Threshold.RECOVERY, Health.DEGRADED),
        ),
        Health.RELEASED: (
            (Streak.UP, Threshold.RECOVERY, Health.UP),
            (Streak.DOWN, Threshold.FAILURE, Health.DOWN),
            (Streak.NOT_UP, Threshold.FAILURE, Health.DEGRADED),
        ),
    },
)

#: Counters stop here: thresholds are at most 100, and a row that does not change is cheaper to store.
STREAK_CAP = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """How a monitor's results are judged over time. `quorum` None means a strict majority of the fresh votes.

    `flap` None: however often it changes, each outage has an incident of its own.
    """

    failure_threshold: int = 2
    recovery_threshold: int = 1
    retry_interval_s: int = 5
    quorum: int | None = None
    flap: Flap | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """One location's opinion of one monitor.

    `last_slot_ms` is the newest slot that counted, 0 for none; `observed_ms` when the newest probe behind it began.
    """

    health: Health = Health.PENDING
    last_slot_ms: int = 0
    not_up: int = 0
    down: int = 0
    up: int = 0
    not_down: int = 0
    confirm_at_ms: int | None = None
    reason: Reason = Reason.NONE
    latency_ms: float = -1.0
    observed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """What `advance` needs of a result. Times are Unix milliseconds; `next_slot_ms` is the slot after this one."""

    slot_ms: int
    verdict: Verdict
    kind: Kind
    observed_ms: int
    finished_at_ms: int
    next_slot_ms: int
    reason: Reason = Reason.NONE
    latency_ms: float = -1.0


def counts(vote: Vote, result: Counted) -> bool:
    """Whether a result may move the vote: newer than all before it, never by hand, only scheduled if released."""
    if result.kind is Kind.MANUAL or (result.kind is Kind.CONFIRM and vote.health is Health.RELEASED):
        return False
    return result.slot_ms > vote.last_slot_ms


def advance(vote: Vote, result: Counted, policy: Policy) -> Vote:
    """The vote after one result. A result that does not count leaves it as it is.

    `unknown` ends a confirmation and nothing else: a location that cannot see goes stale, as if it were silent. And a
    slot is done with nothing else when the vote knows something newer: a late check may have begun after the next one.
    """
    if not counts(vote, result):
        return vote
    if result.verdict is Verdict.UNKNOWN:
        return replace(vote, confirm_at_ms=None)
    if result.observed_ms < vote.observed_ms:
        return replace(vote, last_slot_ms=result.slot_ms)
    counted = _count(vote, result)
    health = _next_health(counted, policy)
    pending_failure = result.verdict is not Verdict.UP and _is_worse(result.verdict, health)
    confirm_at_ms = _confirm_at(result, policy) if pending_failure and health is not Health.RELEASED else None
    if health is counted.health and confirm_at_ms is None:
        return counted  # nearly always: one value built, not two
    return replace(counted, health=health, confirm_at_ms=confirm_at_ms)


def _count(vote: Vote, result: Counted) -> Vote:
    up, down = result.verdict is Verdict.UP, result.verdict is Verdict.DOWN
    return Vote(
        health=vote.health,
        last_slot_ms=result.slot_ms,
        up=min(vote.up + 1, STREAK_CAP) if up else 0,
        not_up=0 if up else min(vote.not_up + 1, STREAK_CAP),
        down=min(vote.down + 1, STREAK_CAP) if down else 0,
        not_down=0 if down else min(vote.not_down + 1, STREAK_CAP),
        reason=result.reason,
        latency_ms=result.latency_ms,
        observed_ms=result.observed_ms,
    )


def _next_health(vote: Vote, policy: Policy) -> Health:
    try:
        rows = VOTE_TABLE[vote.health]
    except KeyError:
        raise DomainError(f"No row for health {vote.health!r} in VOTE_TABLE.") from None
    for streak, threshold, health in rows:
        needed = policy.failure_threshold if threshold is Threshold.FAILURE else policy.recovery_threshold
        if getattr(vote, streak) >= needed:
            return health
    return vote.health


def _is_worse(verdict: Verdict, health: Health) -> bool:
    """Whether this verdict is a failure that the vote does not hold yet, so that a confirmation is worth its cost."""
    if health in (Health.PENDING, Health.UP):
        return True
    return health is Health.DEGRADED and verdict is Verdict.DOWN


def _confirm_at(result: Counted, policy: Policy) -> int | None:
    """When to look again: after the retry interval, unless the next slot comes first anyway."""
    confirm_at_ms = result.finished_at_ms + policy.retry_interval_s * 1000
    return confirm_at_ms if confirm_at_ms < result.next_slot_ms else None


class Change(StrEnum):
    """What a conclusion does to the monitor's incident; the same value is the timeline event's type."""

    OPENED = "opened"
    ESCALATED = "escalated"
    EASED = "eased"
    RESOLVED = "resolved"
    FLAPPING = "flapping"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class State:
    """A monitor's health. `incident_worst` is the worst health its open incident has seen, None without an incident.

    `flapping`: that incident stays open, whatever the health, until the monitor has calmed down.
    """

    health: Health = Health.PENDING
    incident_worst: Health | None = None
    flapping: bool = False
    turns: Turns = ()


#: {(state wanted, worst the open incident has seen): what happens}; absent means nothing.
INCIDENT_TABLE: MappingProxyType[tuple[Health, Health | None], Change] = MappingProxyType(
    {
        (Health.DOWN, None): Change.OPENED,
        (Health.DEGRADED, None): Change.OPENED,
        (Health.DOWN, Health.DEGRADED): Change.ESCALATED,
        (Health.UP, Health.DEGRADED): Change.RESOLVED,
        (Health.UP, Health.DOWN): Change.RESOLVED,
    },
)

#: {(what would happen, whether the monitor flaps already): what happens instead} of one that turns too often (not
#: flapping yet) or has not calmed down. So the end of the outage that is one too many is the one notice of it, and its
#: incident goes on.
FLAPPING_TABLE: MappingProxyType[tuple[Change | None, bool], Change | None] = MappingProxyType(
    {
        (Change.RESOLVED, False): Change.FLAPPING,
        (Change.RESOLVED, True): None,
    },
)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The state that the votes give, and what happens to the incident (None: nothing)."""

    state: State
    change: Change | None


def freshness_ms(interval_s: int, timeout_s: float) -> int:
    """How old a location's last slot may be for its vote to count: two intervals, a timeout and five seconds."""
    return int((2 * interval_s + timeout_s + 5) * 1000)


def conclude(state: State, votes: Iterable[Vote], policy: Policy, *, now_ms: int, fresh_ms: int) -> Conclusion:
    """The monitor's next state from all its votes; stale and pending ones do not vote.

    A released vote is there but says nothing: it counts for the majority, and neither as failing nor as recovered.
    """
    healths = [
        vote.health for vote in votes if vote.last_slot_ms > now_ms - fresh_ms and vote.health is not Health.PENDING
    ]
    if all(health is Health.RELEASED for health in healths):
        return Conclusion(state, None)
    wanted = _quorum(healths, policy.quorum)
    if wanted is Health.UP and Health.RELEASED in healths and state.incident_worst is None:
        return Conclusion(state, None)
    change = INCIDENT_TABLE.get((wanted, state.incident_worst))
    if change is None and wanted is Health.DEGRADED and state.health is Health.DOWN:
        change = Change.EASED
    if policy.flap is None:
        return Conclusion(State(wanted, _worst(state.incident_worst, wanted, change)), change)
    return _flapping(state, wanted, change, policy.flap, now_ms)


def _flapping(state: State, wanted: Health, change: Change | None, flap: Flap, now_ms: int) -> Conclusion:
    """The same for a monitor that may flap."""
    turned = state.health is not Health.PENDING and (wanted is Health.UP) is not (state.health is Health.UP)
    turns = with_turn(state.turns, now_ms, flap) if turned else state.turns
    # A version that knows nothing of it may have resolved the incident meanwhile.
    flaps = state.flapping and state.incident_worst is not None
    if flaps and has_calmed(turns, flap, now_ms=now_ms):
        # Still wrong: said once more, unless something worse is said anyway.
        change = Change.SETTLED if change in (None, Change.EASED) and wanted is not Health.UP else change
        return Conclusion(State(wanted, _worst(state.incident_worst, wanted, change)), change)
    if flaps or too_often(turns, flap, now_ms=now_ms):
        change = FLAPPING_TABLE.get((change, flaps), change)
        flaps = flaps or change is Change.FLAPPING
    return Conclusion(State(wanted, _worst(state.incident_worst, wanted, change), flaps, turns), change)


def _quorum(healths: Sequence[Health], quorum: int | None) -> Health:
    needed = quorum if quorum is not None else len(healths) // 2 + 1
    if sum(health is Health.DOWN for health in healths) >= needed:
        return Health.DOWN
    if sum(health in (Health.DOWN, Health.DEGRADED) for health in healths) >= needed:
        return Health.DEGRADED
    return Health.UP


def _worst(before: Health | None, wanted: Health, change: Change | None) -> Health | None:
    if change in (Change.OPENED, Change.ESCALATED):
        return wanted
    return None if change is Change.RESOLVED else before
