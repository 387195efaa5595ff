"""From results to vote updates and incident changes: pure, so that every race can be tested without a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from common.clock import from_ms
from common.domain.checks import Result, Verdict
from common.domain.health import Change, Conclusion, Counted, Health, Vote, advance, conclude, counts, freshness_ms
from common.domain.incident import EventType, Severity, Status, monitor_key, severity_for
from common.domain.monitors import MonitorConfig
from common.domain.slots import next_slot, phase_ms
from common.domain.traces import check_id
from common.store.incidents import Alteration, Opening
from common.store.result_log import storable
from common.store.votes import MonitorFacts, StoredVote, VoteKey, VoteUpdate


@dataclass(slots=True)
class Judged:
    """A result with the configuration it was probed by, and the batch that it came by.

    `started_ms` is when its probe began (Unix time in milliseconds, database clock), 0 for what was not probed.
    """

    result: Result
    config: MonitorConfig
    batch_id: str = ""
    started_ms: int = 0

    @property
    def key(self) -> VoteKey:
        """The vote it speaks to."""
        return (self.result.check.monitor_no, self.result.location)


@dataclass(slots=True)
class Fold:
    """All results of one flush for one vote, folded in slot order.

    `counted` moved the vote; `stored` are kept without moving it; `later` came after a change of health and have to
    be judged on top of it, so that a short outage inside a long backlog is still an outage. `decides`: the monitor's
    state has to be concluded anew. `first_failure` is the one that ended a streak of `up`.
    """

    update: VoteUpdate | None = None
    counted: list[Judged] = field(default_factory=list)
    stored: list[Judged] = field(default_factory=list)
    later: list[Judged] = field(default_factory=list)
    first_failure: Judged | None = None
    changed: bool = False
    decides: bool = False


def fold(key: VoteKey, stored: StoredVote | None, judged: Iterable[Judged]) -> Fold:
    """Fold results into a vote; without a stored vote (monitor or location removed) they are only kept."""
    outcome = Fold()
    vote, last_verdict = stored.vote if stored else Vote(), None
    for item in sorted(judged, key=lambda j: j.result.check.scheduled_at_ms):
        if outcome.changed:
            outcome.later.append(item)
            continue
        counted = _counted(item)
        if stored is None or item.config.config_version < stored.config_floor or not counts(vote, counted):
            outcome.stored.append(item)
            continue
        before, vote = vote, advance(vote, counted, item.config.policy)
        outcome.counted.append(item)
        if counted.observed_ms >= vote.observed_ms:
            last_verdict = counted.verdict
        if vote.not_up and not before.not_up:
            outcome.first_failure = item
        outcome.changed = before.health is not vote.health
    if stored is not None and outcome.counted:
        outcome.update = VoteUpdate(key, stored.version, vote, outcome.counted[-1].result.slow, last_verdict)
        outcome.decides = outcome.changed or _disagrees(vote, stored.state)
    return outcome


def _disagrees(vote: Vote, state: Health) -> bool:
    """Whether a location that was outvoted may have its way by now: the others may have gone stale or been removed."""
    return vote.health is not state and vote.health not in (Health.PENDING, Health.RELEASED)


def _counted(item: Judged) -> Counted:
    result, config = item.result, item.config
    observation = result.observation
    return Counted(
        slot_ms=result.check.scheduled_at_ms,
        verdict=observation.verdict,
        kind=result.check.kind,
        observed_ms=item.started_ms or result.finished_at_ms,
        finished_at_ms=result.finished_at_ms,
        # Only a failure asks when the next slot is; a hash per healthy check would be wasted.
        next_slot_ms=0 if observation.verdict is Verdict.UP else _next_slot_ms(result, config),
        reason=observation.reason,
        latency_ms=observation.phases.total_ms,
    )


def _next_slot_ms(result: Result, config: MonitorConfig) -> int:
    interval_ms = config.interval_s * 1000
    index = config.locations.index(result.location) if result.location in config.locations else 0
    phase = phase_ms(config.monitor_id, interval_ms, index, max(1, len(config.locations)))
    return next_slot(result.finished_at_ms, interval_ms, phase)


@dataclass(slots=True)
class Ruling:
    """What a monitor's changed votes lead to. `incident` is the one it concerns: with an opening, whichever is open."""

    facts: MonitorFacts
    conclusion: Conclusion
    cause: Judged
    incident: str | None = None
    opening: Opening | None = None
    alteration: Alteration | None = None


#: {what happens to the incident: what the result that causes it must have seen}. Votes that were outvoted, silent or
#: stale for a while may tip the quorum at any result; nobody must hear "resolved" because of a check that failed.
_SEEN: MappingProxyType[Change, frozenset[Verdict]] = MappingProxyType(
    {
        Change.OPENED: frozenset({Verdict.DEGRADED, Verdict.DOWN}),
        Change.ESCALATED: frozenset({Verdict.DOWN}),
        Change.EASED: frozenset({Verdict.UP, Verdict.DEGRADED}),
        Change.RESOLVED: frozenset({Verdict.UP}),
        Change.FLAPPING: frozenset({Verdict.UP}),
        Change.SETTLED: frozenset({Verdict.DEGRADED, Verdict.DOWN}),
    }
)


def rule(facts: MonitorFacts, votes: Sequence[Vote], cause: Judged) -> Ruling | None:
    """Conclude a monitor's state from its votes; `cause` is the result that changed one. None: nothing changes."""
    config, now_ms = cause.config, cause.result.check.scheduled_at_ms
    if len(config.locations) > 1 and facts.state.health is not Health.PENDING and _held_back(cause, facts):
        return None
    fresh_ms = freshness_ms(config.interval_s, config.timeout_s)
    conclusion = conclude(facts.state, votes, config.policy, now_ms=now_ms, fresh_ms=fresh_ms)
    if conclusion.state == facts.state and conclusion.change is None:
        return None
    if conclusion.change is not None and cause.result.observation.verdict not in _SEEN[conclusion.change]:
        return None
    ruling = Ruling(facts, conclusion, cause, facts.open_incident)
    if conclusion.change is Change.OPENED:
        ruling.opening = _opening(facts, conclusion, cause)
    elif conclusion.change is not None and facts.open_incident is not None:
        ruling.alteration = _alteration(facts, conclusion, cause)
    return ruling


def _held_back(cause: Judged, facts: MonitorFacts) -> bool:
    """Whether a location saw this long before others changed the state: its next result says whether it disagrees."""
    return cause.result.check.scheduled_at_ms + cause.config.timeout_s * 1000 < facts.since_ms


def _opening(facts: MonitorFacts, conclusion: Conclusion, cause: Judged) -> Opening:
    result = cause.result
    return Opening(
        org_id=facts.org_id,
        monitor_id=facts.monitor_id,
        source="monitor",
        dedup_key=monitor_key(facts.monitor_id),
        title=_title(facts.name, conclusion.state.health),
        severity=severity_for(Severity(facts.severity), conclusion.state.health),
        cause=_cause(cause),
        at=from_ms(result.finished_at_ms),
        correlation_id=correlation_id(cause),
        reopened_from=facts.last_resolved,
    )


def _alteration(facts: MonitorFacts, conclusion: Conclusion, cause: Judged) -> Alteration:
    change, health = conclusion.change, conclusion.state.health
    assert facts.open_incident is not None
    assert change is not None
    base = Alteration(
        facts.open_incident,
        EventType(change.value),
        from_ms(cause.result.finished_at_ms),
        correlation_id(cause),
        data=_cause(cause),
    )
    if change is Change.RESOLVED:
        return replace(base, status=Status.RESOLVED, data={"reason": "recovered"})
    if change is Change.ESCALATED:
        return replace(
            base, severity=Severity(facts.severity), title=_title(facts.name, Health.DOWN), cause=_cause(cause)
        )
    if change is Change.FLAPPING:
        turns = conclusion.state.turns
        told = {"turns": len(turns), "seconds": (turns[-1] - turns[0]) // 1000}
        return replace(base, title=f"{facts.name} is flapping", data=told)
    if change is Change.SETTLED:
        return replace(base, title=_title(facts.name, health), cause=_cause(cause))
    return base


def correlation_id(judged: Judged) -> str:
    """The id that leads from slot to notification: the check's own."""
    check = judged.result.check
    return check_id(judged.config.monitor_id, judged.result.location, check.scheduled_at_ms)


def _title(name: str, health: Health) -> str:
    return f"{name} is {health.label}"


def _cause(cause: Judged) -> Mapping[str, str]:
    observation = cause.result.observation
    told = {"reason": observation.reason.label, "message": storable(observation.message)}
    if observation.failed_assertion is not None:
        told["expected"] = storable(observation.failed_assertion.expected)
        told["seen"] = storable(observation.failed_assertion.seen)
    return told
