"""A history put in order for the checker: outages, disturbances, deliveries, rows by what they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.events import (
    BROKEN_OFF,
    IN_VAIN,
    Acknowledged,
    Death,
    Event,
    Fault,
    Final,
    Heartbeats,
    HeartbeatSpec,
    MonitorSpec,
    Phase,
    Ping,
    Probed,
    Pulse,
    Run,
    Sample,
    Signal,
    Silenced,
    Truth,
    Webhook,
    Window,
    Write,
)

Row = dict[str, Any]
FOREVER = float("inf")
#: After a fault is over or a process is dead, all is as before within so long (RELIABILITY I9: 10 s).
RECOVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin` to `end` (Unix seconds); of a disturbance also the fault, or how a process died, and the victim."""

    begin: float
    end: float
    name: str = ""
    target: str = ""

    @property
    def what(self) -> str:
        """For people."""
        return f"{self.name} {self.target}".strip()

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether the two have a moment in common."""
        return self.begin <= end and begin <= self.end


Matters = Callable[[Span], bool]
"""Whether a disturbance can be the reason for something (tests/chaos/reasons.py)."""


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
    signals: list[Signal] = field(default_factory=list)
    silences: list[Silenced] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    #: When each check reached its endpoint, {first half of its trace id: moments}; empty in a history without them.
    probed: dict[str, list[float]] = field(default_factory=dict)
    heartbeats: dict[str, HeartbeatSpec] = field(default_factory=dict)
    #: Of each heartbeat: when it was not pinged, from its last ping on, and its pings.
    silent: dict[str, list[Span]] = field(default_factory=dict)
    pings: dict[str, list[Ping]] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)

    def incidents_of(self, monitor: str) -> list[Row]:
        """The incidents of a monitor, the oldest first: of those of one moment the ids are in their order."""
        own = (incident for incident in self.tables["incidents"] if incident["monitor"] == monitor)
        return sorted(own, key=lambda incident: (incident["opened_at"], incident["id"]))

    def disturbed(self, begin: float, end: float, matters: Matters) -> list[Span]:
        """The disturbances that matter and touch a span."""
        return [span for span in self.disturbances if span.overlaps(begin, end) and matters(span)]

    def calm(self, begin: float, end: float, least_s: float, matters: Matters) -> float | None:
        """When the first `least_s` within [begin, end] begin that nothing disturbs; None when there are none.

        A disturbance lasts RECOVERY_S longer than its fault.
        """
        for span in self.disturbed(begin - RECOVERY_S, end, matters):
            if span.begin - begin >= least_s:
                break
            begin = max(begin, span.end + RECOVERY_S)
        return begin if end - begin >= least_s else None


def gather(events: Sequence[Event]) -> Facts:
    """The facts of a whole history."""
    run = _only(events, Run)
    final = _only(events, Final)
    phases = {event.name: event.at for event in events if isinstance(event, Phase)}
    deaths = [event for event in events if isinstance(event, Death)]
    faults = [event for event in events if isinstance(event, Fault)]
    counts: dict[str, int] = defaultdict(int)
    for fault in faults:
        counts[fault.name] += fault.begins - (fault.outcome in (IN_VAIN, BROKEN_OFF))
    spans = [*_fault_spans(faults, final.at), *(Span(d.at, d.at, d.how, d.process) for d in deaths)]
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
        # What came after the last look, a reminder say, is not in the tables.
        webhooks=sorted(
            (event for event in events if isinstance(event, Webhook) and event.at <= final.at), key=lambda hook: hook.at
        ),
        samples=[event for event in events if isinstance(event, Sample)],
        tables=final.tables,
        faults=dict(counts),
        signals=sorted((event for event in events if isinstance(event, Signal)), key=lambda signal: signal.at),
        silences=[event for event in events if isinstance(event, Silenced)],
        acknowledged=[event for event in events if isinstance(event, Acknowledged)],
        probed=_probed(event for event in events if isinstance(event, Probed)),
        heartbeats={spec.id: spec for event in events if isinstance(event, Heartbeats) for spec in event.heartbeats},
        silent=_failing((pulse.at, pulse.monitor, pulse.beats) for pulse in events if isinstance(pulse, Pulse)),
        pings=_pings(event for event in events if isinstance(event, Ping)),
        windows=sorted((event for event in events if isinstance(event, Window)), key=lambda window: window.at),
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
            if fault.outcome != IN_VAIN:  # what never took hold is no excuse
                spans.append(Span(begun.at, fault.at, fault.name, fault.target))
    spans += [Span(f.at, ended, f.name, f.target) for left in open_.values() for f in left]
    return spans


def _probed(records: Iterable[Probed]) -> dict[str, list[float]]:
    moments: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for trace, before_ms in zip(record.traces, record.before_ms, strict=True):
            moments[trace].append(record.at - before_ms / 1000)
    return dict(moments)


def _pings(pings: Iterable[Ping]) -> dict[str, list[Ping]]:
    found: dict[str, list[Ping]] = defaultdict(list)
    for ping in sorted(pings, key=lambda ping: ping.at):
        found[ping.monitor].append(ping)
    return dict(found)


def _outages(truths: Iterable[Truth], run: Run) -> dict[str, list[Span]]:
    return {spec.id: [] for spec in run.monitors} | _failing((truth.at, truth.monitor, truth.up) for truth in truths)


def _failing(changes: Iterable[tuple[float, str, bool]]) -> dict[str, list[Span]]:
    """When each failed, of (moment, monitor, whether all is well from then on)."""
    spans: dict[str, list[Span]] = defaultdict(list)
    failing: dict[str, float] = {}
    for at, monitor, well in sorted(changes):
        if not well:
            failing.setdefault(monitor, at)
        elif monitor in failing:
            spans[monitor].append(Span(failing.pop(monitor), at))
    for monitor, since in failing.items():
        spans[monitor].append(Span(since, FOREVER))
    return spans
