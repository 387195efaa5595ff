"""I2 to I4: outages and incidents."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest

from tests.chaos.events import MonitorSpec
from tests.chaos.facts import FOREVER, Facts, Row, Span
from tests.chaos.finding import Finding

#: After a fault is over or a process is dead, checks run again within so long (RELIABILITY I9: 10 s).
RECOVERY_S = 10.0
#: From the moment of decision to the committed incident, on a busy machine.
_LATE_S = 5.0
#: A check's times and the endpoint's lie so far apart, beyond the timeout.
_BLUR_S = 2.0
#: A change of the truth is written down this much after it took effect, at the most.
_TICK_S = 0.25


def outages_are_told(facts: Facts) -> Finding:
    """I2."""
    finding = Finding()
    for monitor, spec in facts.monitors.items():
        incidents = facts.incidents_of(monitor)
        outages = facts.outages[monitor]
        for outage, following in zip_longest(outages, outages[1:]):
            next_begins = following.begin if following else FOREVER
            own = [i for i in incidents if outage.begin - _TICK_S <= i["opened_at"] < next_begins - _TICK_S]
            _one_incident(facts, spec, outage, own, finding)
            _told_in_time(facts, spec, outage, incidents, finding)
        for incident in incidents:
            _resolved(facts, spec, incident, outages, finding)
    return finding


def _one_incident(facts: Facts, spec: MonitorSpec, outage: Span, own: list[Row], finding: Finding) -> None:
    if len(own) > 1:
        moments = ", ".join(_at(facts, incident["opened_at"]) for incident in own)
        finding.break_(f"{spec.path} was down once from {_at(facts, outage.begin)}, and incidents opened at {moments}")


def _told_in_time(facts: Facts, spec: MonitorSpec, outage: Span, incidents: list[Row], finding: Finding) -> None:
    patience_s = spec.failure_threshold * spec.interval_s + spec.timeout_s + _LATE_S
    end = min(outage.end, facts.ended)
    calm = facts.calm(outage.begin, end, RECOVERY_S)
    if calm is None or calm.end - calm.begin < patience_s:
        return
    finding.applicable += 1
    due = calm.begin + patience_s
    if not any(i["opened_at"] <= due and (i["resolved_at"] or FOREVER) > outage.begin for i in incidents):
        finding.break_(f"{spec.path} was down from {_at(facts, outage.begin)}, and nothing was opened by "
                       f"{_at(facts, due)}", lost=True)  # fmt: skip


def _resolved(facts: Facts, spec: MonitorSpec, incident: Row, outages: list[Span], finding: Finding) -> None:
    """An incident ends while the endpoint is up, and in time."""
    ended_at = incident["resolved_at"]
    if ended_at is not None:
        down = [o for o in outages if o.begin < ended_at - spec.timeout_s - _BLUR_S and o.end > ended_at + _TICK_S]
        if down:
            finding.break_(f"{spec.path}: the incident of {_at(facts, incident['opened_at'])} was resolved at "
                           f"{_at(facts, ended_at)}, while it was down")  # fmt: skip
        return
    up_since = max([o.end for o in outages], default=incident["opened_at"])
    patience_s = spec.recovery_threshold * spec.interval_s + spec.timeout_s + _LATE_S
    calm = facts.calm(up_since, facts.ended, RECOVERY_S) if up_since < facts.ended else None
    if calm is not None and calm.end - calm.begin >= patience_s:
        finding.break_(f"{spec.path}: the incident of {_at(facts, incident['opened_at'])} is open, though all is well "
                       f"since {_at(facts, up_since)}", lost=True)  # fmt: skip


def no_false_alarm(facts: Facts) -> Finding:
    """I3."""
    finding = Finding()
    for monitor, spec in facts.monitors.items():
        for incident in facts.incidents_of(monitor):
            finding.applicable += 1
            if not _was_down(facts.outages[monitor], incident["opened_at"], spec.timeout_s + _BLUR_S):
                finding.break_(f"{spec.path}: an incident was opened at {_at(facts, incident['opened_at'])} for "
                               f"{incident['reason']}, and it was up")  # fmt: skip
    specs = {spec.no: spec for spec in facts.run.monitors}
    for result in facts.tables["results"]:
        spec_ = specs.get(result["monitor_no"])
        if spec_ is None or result["verdict"] not in ("down", "degraded"):
            continue
        finding.applicable += 1
        slot = result["slot_ms"] / 1000
        # A check may start until its slot's deadline: at least ten seconds after the slot.
        latest = slot + max(spec_.interval_s, 10) + spec_.timeout_s + _BLUR_S
        if not any(outage.overlaps(slot - _BLUR_S, latest) for outage in facts.outages[spec_.id]):
            finding.break_(f"{spec_.path}: the check of {_at(facts, slot)} was judged {result['verdict']} "
                           f"({result['reason']}), and it was up")  # fmt: skip
    return finding


def _was_down(outages: list[Span], at: float, blur_s: float) -> bool:
    return any(outage.overlaps(at - blur_s, at) for outage in outages)


def timelines_are_whole(facts: Facts) -> Finding:
    """I4."""
    finding = Finding()
    events: dict[str, list[Row]] = defaultdict(list)
    for event in facts.tables["incident_events"]:
        events[event["incident"]].append(event)
    open_: dict[str, int] = defaultdict(int)
    for incident in facts.tables["incidents"]:
        finding.applicable += 1
        open_[incident["dedup_key"]] += incident["status"] != "resolved"
        said = _timeline(incident, sorted(events.pop(incident["id"], []), key=lambda event: event["version"]))
        if said:
            finding.break_(f"incident {incident['id']}: {said}")
    for key, count in open_.items():
        if count > 1:
            finding.break_(f"{count} incidents of {key} are open at once")
    for incident_id in events:
        finding.break_(f"incident {incident_id} has a timeline and does not exist")
    return finding


def _timeline(incident: Row, events: list[Row]) -> str:
    """What is wrong with a timeline, "" for nothing."""
    versions = [event["version"] for event in events]
    types = [event["type"] for event in events]
    if versions != list(range(1, len(events) + 1)):
        return f"its versions are {versions}"
    if incident["version"] != len(events):
        return f"it has version {incident['version']} and {len(events)} events"
    if types[:1] != ["opened"] or types.count("opened") > 1 or types.count("resolved") > 1:
        return f"its events are {types}"
    if (incident["status"] == "resolved") != ("resolved" in types):
        return f"it is {incident['status']} and its events are {types}"
    return ""


def _at(facts: Facts, moment: float) -> str:
    return f"{moment - facts.run.at:.1f} s"
