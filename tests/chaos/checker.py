"""Judges a history against the invariants I1 to I11, L1, A1 to A9, H1 and H2; pure: events in, report out.

It reads `Final.tables`, rows as tests/chaos/final.py writes them: monitors, incidents, incident_events, notifications,
outbox, monitor_states, results, lease_writes, queues, acks. Moments are Unix seconds, slots milliseconds. Every
violation is a sentence that names ids and seconds since the run's beginning, so that it can be found in the history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos import (
    accounting,
    invariants_alerts,
    invariants_delivery,
    invariants_heartbeats,
    invariants_incidents,
    invariants_limits,
    invariants_platform,
    invariants_routing,
    recovery,
)
from tests.chaos.events import Event
from tests.chaos.facts import Facts, gather
from tests.chaos.finding import Finding

#: {invariant: (what it says, how it is checked)}; I for the monitor's path, A for alerting, H for heartbeats.
INVARIANTS: dict[str, tuple[str, Callable[[Facts], Finding]]] = {
    "I1": ("acknowledged writes survive", invariants_platform.writes_survive),
    "I2": ("every outage is one incident, opened and resolved in time", invariants_incidents.outages_are_told),
    "I3": ("what stayed up has no incident and was never judged down", invariants_incidents.no_false_alarm),
    "I4": ("one open incident per monitor, gapless timelines", invariants_incidents.timelines_are_whole),
    "I5": ("every event reaches every channel", invariants_delivery.everything_arrives),
    "I6": ("duplicates only where something died or broke, under the same id", invariants_delivery.duplicates),
    "I7": ("what was told last is how it is", invariants_delivery.last_told_is_true),
    "I8": ("one result per monitor and slot", invariants_platform.one_result_per_slot),
    "I9": ("every slot is accounted for, missing only for a reason", accounting.slots_are_accounted_for),
    "I10": ("nobody writes under an old epoch", invariants_platform.epochs),
    "I11": ("afterwards everything is empty and flat", invariants_platform.convergence),
    "L1": ("checks are made again in time after what was lost", recovery.checks_go_on),
    "A1": ("an acknowledged alert is one incident, a repeat none", invariants_alerts.alerts_are_incidents),
    "A2": ("the ledger holds what the routes say, and no more", invariants_routing.routes_are_kept),
    "A3": ("what is silenced is not told before its silence ends", invariants_routing.silences_are_kept),
    "A4": ("a message is of one group and always the same", invariants_routing.groups_are_whole),
    "A5": ("a fallback hears what died, and nothing else", invariants_routing.fallbacks_hear),
    "A6": ("a cooldown holds, and what is wrong at its end is told", invariants_limits.cooldowns_hold),
    "A7": ("a channel gets no more messages than its cap allows", invariants_limits.caps_are_kept),
    "A8": ("an acknowledgement survives, and ends in time", invariants_limits.acknowledgements_hold),
    "A9": ("what is maintained is not told before its window ends", invariants_heartbeats.windows_are_kept),
    "H1": ("every silence of a heartbeat is one incident, in time", invariants_heartbeats.silences_are_told),
    "H2": ("a heartbeat that is pinged is not down", invariants_heartbeats.no_false_alarm),
}


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run: a finding per invariant, and what there was."""

    findings: dict[str, Finding]
    totals: dict[str, int]
    faults: dict[str, int] = field(default_factory=dict)
    #: Seconds until checks were made again, by what was promised (tests/chaos/recovery.py).
    recoveries: dict[str, list[float]] = field(default_factory=dict)

    @property
    def violations(self) -> list[str]:
        """All of them, each with its invariant in front."""
        return [f"{name}: {said}" for name, finding in self.findings.items() for said in finding.violations]


def check(events: Sequence[Event]) -> Report:
    """Judge a whole history."""
    facts = gather(events)
    findings = {name: judge(facts) for name, (_, judge) in INVARIANTS.items()}
    totals = {
        "seconds": round(facts.ended - facts.began),
        "monitors": len(facts.monitors),
        "outages": sum(map(len, facts.outages.values())),
        "incidents": len(facts.tables["incidents"]),
        "checks stored": len(facts.tables["results"]),
        "webhooks accepted": sum(hook.accepted for hook in facts.webhooks),
        "API writes acknowledged": sum(write.status in (200, 201) for write in facts.writes),
        "kills": sum(death.how == "kill" or death.how.startswith("failpoint") for death in facts.deaths),
        "alerts acknowledged": sum(signal.status == 202 for signal in facts.signals),
        "lost": sum(len(finding.lost) for name, finding in findings.items() if name != "I9"),
        "false incidents": len(findings["I3"].violations) + len(findings["H2"].violations),
        "duplicates": findings["I6"].applicable,
    }
    return Report(findings, totals, facts.faults, recovery.by_promise(facts))
