"""I9: every slot of every monitor is accounted for: stored once, or missing for a reason that covers this very slot.

A check says who it is (its trace id names monitor and slot), so the endpoints know which slots were asked for. A slot
that was asked for and is not stored was lost on the way back: only the trouble of a worker or of PostgreSQL meanwhile
explains that. One that nobody asked for was never dispatched, or lost in the queue.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from common.domain.slots import next_slot, phase_ms
from common.domain.traces import check_id
from tests.chaos.events import MonitorSpec
from tests.chaos.facts import Facts
from tests.chaos.finding import Finding
from tests.chaos.reasons import costs_result, costs_slot, party

#: The youngest slots may still be on their way when we look.
_STILL_COMING_S = 5.0
_HEARD_WITHIN_S = 2.0
#: How far a disturbance may lie from a slot that it costs.
_REACH_S = 30.0
#: From the beginning of a check to its commit, beyond its timeout; a process that stood still has that time as well.
_COMMITTED_WITHIN_S = 3.0
_TRACE_CHARS = 16
_SCHEDULED = "scheduled"


@dataclass(slots=True)
class Book:
    """What became of the slots: how many of each kind, and whose trouble explains the missing ones."""

    stored: int = 0
    unknown: int = 0
    never_made: int = 0
    made_not_stored: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def lines(self, due: int) -> Iterator[str]:
        """For people."""
        missing = self.never_made + self.made_not_stored
        if self.unknown:
            yield f"{self.unknown} of {self.stored} stored slots are unknown: not judged, and not covered"
        if missing:
            parties = ", ".join(f"{name} {count}" for name, count in self.reasons.most_common())
            yield (
                f"{missing} of {due} slots are missing ({self.never_made} were not asked for, {self.made_not_stored} "
                f"asked for and not stored), for the trouble of: {parties}"
            )


def slots_are_accounted_for(facts: Facts) -> Finding:
    """I9."""
    finding = Finding()
    book = Book()
    results: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for row in facts.tables["results"]:
        if row["kind"] == _SCHEDULED:
            results[row["monitor_no"]].append((row["slot_ms"], row["verdict"]))
    location = next((row["location"] for row in facts.tables["results"]), 1)
    for spec in facts.run.monitors:
        _monitor(facts, spec, results[spec.no], location, book, finding)
    finding.explained += book.lines(finding.applicable)
    return finding


def _monitor(
    facts: Facts, spec: MonitorSpec, results: list[tuple[int, str]], location: int, book: Book, finding: Finding
) -> None:
    due = list(due_slots(facts, spec))
    stored = Counter(slot for slot, _ in results)
    verdicts = dict(results)
    finding.applicable += len(due)
    for slot in due:
        if stored[slot]:
            book.stored += 1
            book.unknown += verdicts[slot] == "unknown"
            if stored[slot] > 1:
                finding.break_(f"{spec.path}: its slot of {_at(facts, slot)} is stored {stored[slot]} times")
            elif verdicts[slot] == "up" and facts.probed and not asked(facts, spec, location, slot):
                finding.break_(f"{spec.path}: its slot of {_at(facts, slot)} is up, and nobody asked the endpoint")
            continue
        _missing(facts, spec, slot, asked(facts, spec, location, slot), book, finding)
    if due:
        grid = round(spec.interval_s * 1000)
        for slot in stored:
            if slot >= due[0] and (slot - due[0]) % grid:
                finding.break_(f"{spec.path}: a result of {_at(facts, slot)} is stored, and no slot was due then")


def _missing(facts: Facts, spec: MonitorSpec, slot: int, asked_at: list[float], book: Book, finding: Finding) -> None:
    due_at = slot / 1000
    if asked_at:
        end = asked_at[-1] + spec.timeout_s + _COMMITTED_WITHIN_S
        around = facts.disturbed(asked_at[0] - _COMMITTED_WITHIN_S, end, costs_result)
        said = f"{spec.path}: its slot of {_at(facts, slot)} was asked for and is not stored"
        book.made_not_stored += bool(around)
    else:
        around = facts.disturbed(due_at - _REACH_S, due_at + _REACH_S, lambda span: costs_slot(span, due_at))
        said = f"{spec.path} was not checked in its slot of {_at(facts, slot)}"
        book.never_made += bool(around)
    if around:
        book.reasons[party(around[0])] += 1
    else:
        finding.break_(said, lost=True)


def asked(facts: Facts, spec: MonitorSpec, location: int, slot_ms: int) -> list[float]:
    """When the endpoint was asked for this slot."""
    return facts.probed.get(check_id(spec.id, location, slot_ms)[:_TRACE_CHARS], [])


def due_slots(facts: Facts, spec: MonitorSpec) -> range:
    """The slots of a monitor in a run, in milliseconds."""
    interval_ms = round(spec.interval_s * 1000)
    phase = phase_ms(spec.id, interval_ms)
    # The scheduler hears of a new monitor a moment after it was made.
    slot = next_slot(round((facts.began + _HEARD_WITHIN_S) * 1000), interval_ms, phase)
    end = round((facts.ended - spec.timeout_s - _STILL_COMING_S) * 1000)
    return range(slot, end, interval_ms)


def _at(facts: Facts, slot_ms: int) -> str:
    return f"{slot_ms / 1000 - facts.run.at:.1f} s"
