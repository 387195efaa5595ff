"""L1: how long it takes until checks are made again after what was lost, held against what is promised.

Measured for each single trouble: from its beginning (a process that dies) or its end (a server that comes back) to the
moment at which every monitor has been asked for a slot that was due after it, and that slot's result is stored. When
another trouble comes first the trial says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.accounting import asked, due_slots
from tests.chaos.events import MonitorSpec
from tests.chaos.facts import RECOVERY_S, Facts, Span
from tests.chaos.finding import Finding
from tests.chaos.reasons import delays_checks, party

#: A death and the fault that brought it about lie so close together.
_SAME_S = 1.5


@dataclass(frozen=True, slots=True)
class Promise:
    """`bound_s` from the beginning of a trouble that `matters`, or from its end."""

    name: str
    bound_s: float
    matters: Callable[[Span], bool]
    from_its_end: bool = False


def _of(*wanted: str) -> Callable[[Span], bool]:
    return lambda span: party(span) in wanted and not span.name.startswith("queue-")


def _died(role: str) -> Callable[[Span], bool]:
    return lambda span: party(span) == role and (span.name == "kill" or span.name.startswith("failpoint:"))


#: DESIGN's targets and RELIABILITY's: a worker's checks are made up, or its monitors' next slots are.
PROMISES = (
    Promise("leader lost", 7.0, lambda span: span.name in ("kill-leader", "freeze-leader")),
    Promise("worker killed", 20.0, _died("worker")),
    Promise("Redis back", 15.0, _of("redis"), from_its_end=True),
    Promise("PostgreSQL back", 60.0, _of("postgres"), from_its_end=True),
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """One trial: which promise, after what, and how many seconds it took; None when it did not end in time."""

    promise: Promise
    span: Span
    seconds: float | None


def checks_go_on(facts: Facts) -> Finding:
    """L1."""
    finding = Finding()
    found = list(recoveries(facts))
    for recovery in found:
        finding.applicable += 1
        bound_s = recovery.promise.bound_s
        if recovery.seconds is None or recovery.seconds > bound_s:
            at = recovery.span.begin - facts.run.at
            took = "not" if recovery.seconds is None else f"after {recovery.seconds:.1f} s only"
            finding.break_(
                f"{recovery.promise.name} ({recovery.span.what} at {at:.1f} s): checks are made again {took}, and "
                f"{bound_s:.0f} s are promised"
            )
    return finding


def recoveries(facts: Facts) -> Iterator[Recovery]:
    """All trials that say something."""
    if not facts.probed:
        return
    asked_for = _asked_for(facts)
    for promise in PROMISES:
        before: Span | None = None
        for span in filter(promise.matters, facts.disturbances):
            if before is not None and _same(before, span):
                continue  # a fault, and the death that it brought about
            before = span
            since = span.end if promise.from_its_end else span.begin
            limit = _undisturbed_until(facts, span, since)
            if limit is None:
                continue
            seconds = _recovered_after(facts, asked_for, since)
            if seconds is not None and since + seconds <= limit:
                yield Recovery(promise, span, seconds)
            elif limit - since >= promise.bound_s:
                yield Recovery(promise, span, None)


def by_promise(facts: Facts) -> dict[str, list[float]]:
    """Seconds of all that ended, by promise."""
    found: dict[str, list[float]] = defaultdict(list)
    for recovery in recoveries(facts):
        if recovery.seconds is not None:
            found[recovery.promise.name].append(round(recovery.seconds, 2))
    return dict(found)


def _same(one: Span, other: Span) -> bool:
    return one.target == other.target and abs(one.begin - other.begin) < _SAME_S


def _undisturbed_until(facts: Facts, span: Span, since: float) -> float | None:
    """When the next other trouble begins; None when one is still felt."""
    limit = facts.ended
    for other in facts.disturbed(since - RECOVERY_S, facts.ended, delays_checks):
        if other is span or _same(other, span):
            continue
        if other.begin > since:
            return min(limit, other.begin)
        if not _is_over(facts, other, since):
            return None
    return limit


def _is_over(facts: Facts, other: Span, since: float) -> bool:
    """Whether a trouble of shortly before has been got over: nothing was missing for it any more."""
    return other.end < since - RECOVERY_S / 2


def _asked_for(facts: Facts) -> dict[str, list[tuple[float, float]]]:
    """For each monitor (slot, when it was asked for) of what is stored, in order."""
    stored = {(row["monitor_no"], row["slot_ms"]) for row in facts.tables["results"]}
    location = next((row["location"] for row in facts.tables["results"]), 1)
    return {spec.id: list(_of_monitor(facts, spec, location, stored)) for spec in facts.run.monitors}


def _of_monitor(
    facts: Facts, spec: MonitorSpec, location: int, stored: set[tuple[int, int]]
) -> Iterator[tuple[float, float]]:
    for slot in due_slots(facts, spec):
        if (spec.no, slot) in stored and (moments := asked(facts, spec, location, slot)):
            yield slot / 1000, moments[0]


def _recovered_after(facts: Facts, asked_for: dict[str, list[tuple[float, float]]], since: float) -> float | None:
    """Seconds until every monitor was asked for a slot that was due later than this."""
    latest = 0.0
    for spec in facts.run.monitors:
        moment = next((at for due_at, at in asked_for[spec.id] if due_at > since), None)
        if moment is None:
            return None
        latest = max(latest, moment - since)
    return latest
