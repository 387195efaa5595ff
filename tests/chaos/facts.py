"""A history put in order for the checker: outages, disturbances, deliveries, rows by what they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.events import Death, Event, Fault, Final, MonitorSpec, Phase, Run, Sample, Truth, Webhook, Write

Row = dict[str, Any]
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin` to `end` (Unix seconds); `what` is for people."""

    begin: float
    end: float
    what: str = ""

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether the two have a moment in common."""
        return self.begin <= end and begin <= self.end


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the invariants ask for. `disturbances` are faults and deaths, in order of their beginning."""

    run: Run
    began: float
    heal_at: float
    ended: float
    monitors: dict[str, MonitorSpec]
    outages: dict[str, list[Span]]
    disturbances: list[Span]
    deaths: list[Death]
    writes: list[Write]
    webhooks: list[Webhook]
    samples: list[Sample]
    tables: dict[str, list[Row]]
    faults: dict[str, int] = field(default_factory=dict)

    def incidents_of(self, monitor: str) -> list[Row]:
        """The incidents of a monitor, the oldest first."""
        return sorted((i for i in self.tables["incidents"] if i["monitor"] == monitor), key=lambda i: i["opened_at"])

    def disturbed(self, begin: float, end: float) -> list[Span]:
        """The faults and deaths that touch a span."""
        return [span for span in self.disturbances if span.overlaps(begin, end)]

    def calm(self, begin: float, end: float, recovery_s: float) -> Span | None:
        """The first stretch of [begin, end] from which on, `recovery_s` after the last one, nothing disturbs."""
        for span in reversed(self.disturbances):
            if span.overlaps(begin - recovery_s, end):
                begin = max(begin, span.end + recovery_s)
        return Span(begin, end) if begin < end else None


def gather(events: Sequence[Event]) -> Facts:
    """The facts of a whole history."""
    run = _only(events, Run)
    final = _only(events, Final)
    phases = {event.name: event.at for event in events if isinstance(event, Phase)}
    deaths = [event for event in events if isinstance(event, Death)]
    faults = [event for event in events if isinstance(event, Fault)]
    counts: dict[str, int] = defaultdict(int)
    for fault in faults:
        counts[fault.name] += fault.begins
    spans = [*_fault_spans(faults, final.at), *(Span(d.at, d.at, f"{d.process} {d.how}") for d in deaths)]
    return Facts(
        run=run,
        began=phases["warm"],
        heal_at=phases["heal"],
        ended=final.at,
        monitors={spec.id: spec for spec in run.monitors},
        outages=_outages((event for event in events if isinstance(event, Truth)), run),
        disturbances=sorted(spans, key=lambda span: span.begin),
        deaths=deaths,
        writes=[event for event in events if isinstance(event, Write)],
        webhooks=sorted((event for event in events if isinstance(event, Webhook)), key=lambda hook: hook.at),
        samples=[event for event in events if isinstance(event, Sample)],
        tables=final.tables,
        faults=dict(counts),
    )


def _only(events: Sequence[Event], kind: type[Any]) -> Any:
    found = [event for event in events if isinstance(event, kind)]
    if len(found) != 1:
        raise ValueError(f"a history has one event of kind {kind.kind}, this one has {len(found)}")
    return found[0]


def _fault_spans(faults: Iterable[Fault], ended: float) -> list[Span]:
    """A fault that never ended lasts to the end of the run."""
    spans: list[Span] = []
    open_: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in sorted(faults, key=lambda fault: (fault.at, not fault.begins)):
        key = (fault.name, fault.target)
        if fault.begins:
            open_[key].append(fault)
        elif open_[key]:
            begun = open_[key].pop(0)
            spans.append(Span(begun.at, fault.at, f"{fault.name} {fault.target}".strip()))
    spans += [Span(f.at, ended, f"{f.name} {f.target}".strip()) for left in open_.values() for f in left]
    return spans


def _outages(truths: Iterable[Truth], run: Run) -> dict[str, list[Span]]:
    outages: dict[str, list[Span]] = {spec.id: [] for spec in run.monitors}
    failing: dict[str, float] = {}
    for truth in sorted(truths, key=lambda truth: truth.at):
        if not truth.up:
            failing.setdefault(truth.monitor, truth.at)
        elif truth.monitor in failing:
            outages[truth.monitor].append(Span(failing.pop(truth.monitor), truth.at))
    for monitor, since in failing.items():
        outages[monitor].append(Span(since, FOREVER))
    return outages
