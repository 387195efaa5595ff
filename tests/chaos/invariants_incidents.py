"""I2 to I4: outages and incidents."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise, zip_longest

from common.domain.health import Health
from common.domain.incident import EventType
from tests.chaos.accounting import asked
from tests.chaos.events import MonitorSpec
from tests.chaos.facts import FOREVER, RECOVERY_S, Facts, Row, Span
from tests.chaos.finding import Finding
from tests.chaos.invariants_blindness import nobody_saw
from tests.chaos.reasons import delays_checks
from tests.chaos.stillness import endpoints_stood_still, looked_down, noted_late_s, still_s

#: From the moment of decision to the committed incident, on a busy machine.
_LATE_S = 5.0
#: A check's times and the endpoint's lie so far apart, beyond the timeout.
_BLUR_S = 2.0
#: In fair weather a check begins so soon after its slot; beside a fault until its slot's deadline.
_STARTS_WITHIN_S, _DEADLINE_S = 3.0, 10.0
#: Results beyond the threshold from which on an outage was surely seen: one may have been overtaken by a later slot's,
#: which makes it count for nothing, and beside a fault a few more.
_OVERTAKEN, _OVERTAKEN_BESIDE_A_FAULT = 1, 3
#: A change of the truth is written down this much after it took effect, at the most.
_TICK_S = 0.25


def outages_are_told(facts: Facts) -> Finding:
    """I2."""
    finding = Finding()
    failures = _slots(facts, "down")
    for monitor, spec in facts.monitors.items():
        incidents = facts.incidents_of(monitor)
        outages = facts.outages[monitor]
        for outage, following in zip_longest(outages, outages[1:]):
            next_begins = following.begin if following else FOREVER
            own = [i for i in incidents if outage.begin - _TICK_S <= i["opened_at"] < next_begins - _TICK_S]
            _one_incident(facts, spec, outage, own, finding)
            in_time = _told_in_time(facts, spec, outage, incidents, finding)
            seen = _told_if_seen(facts, spec, outage, incidents, failures[spec.no], finding)
            finding.applicable += in_time or seen
        for incident in incidents:
            _resolved(facts, spec, incident, outages, finding)
    free = sum(map(len, facts.outages.values())) - finding.applicable
    if free:
        finding.explained.append(
            f"{free} outages were too short, or too much of them beside a fault, to have to be told"
        )
    return finding


def _slots(facts: Facts, verdict: str) -> dict[int, list[float]]:
    """When each monitor's checks of this verdict were due."""
    slots: dict[int, list[float]] = defaultdict(list)
    for result in facts.tables["results"]:
        if result["verdict"] == verdict:
            slots[result["monitor_no"]].append(result["slot_ms"] / 1000)
    return slots


def _seen_by_another(facts: Facts) -> dict[int, list[float]]:
    """When checks of each monitor were due that one worker could not judge, and that reached the endpoint all the same.

    Another worker made them again; its verdict counts, and stored is the first one's.
    """
    specs = {spec.no: spec for spec in facts.run.monitors}
    slots: dict[int, list[float]] = defaultdict(list)
    for result in facts.tables["results"]:
        spec = specs.get(result["monitor_no"])
        if result["verdict"] == "unknown" and spec and asked(facts, spec, result["location"], result["slot_ms"]):
            slots[spec.no].append(result["slot_ms"] / 1000)
    return slots


def _one_incident(facts: Facts, spec: MonitorSpec, outage: Span, own: list[Row], finding: Finding) -> None:
    if len(own) > 1:  # what was opened while the endpoints stood still may be of that
        reach_s = spec.timeout_s + _BLUR_S
        own = [i for i in own if not endpoints_stood_still(facts, i["opened_at"] - reach_s, i["opened_at"])]
    if len(own) > 1:
        moments = ", ".join(_at(facts, incident["opened_at"]) for incident in own)
        finding.break_(f"{spec.path} was down once from {_at(facts, outage.begin)}, and incidents opened at {moments}")


def _told_in_time(facts: Facts, spec: MonitorSpec, outage: Span, incidents: list[Row], finding: Finding) -> bool:
    """Whether that could be asked for: only of a stretch without a fault that is long enough."""
    patience_s = spec.failure_threshold * spec.interval_s + spec.timeout_s + _LATE_S
    calm = facts.calm(outage.begin, min(outage.end, facts.ended), patience_s, delays_checks)
    if calm is None:
        return False
    if not _is_told(spec, incidents, outage, calm + patience_s):
        finding.break_(f"{spec.path} was down from {_at(facts, outage.begin)}, and nothing was opened by "
                       f"{_at(facts, calm + patience_s)}", lost=True)  # fmt: skip
    return True


def _told_if_seen(
    facts: Facts, spec: MonitorSpec, outage: Span, incidents: list[Row], failures: list[float], finding: Finding
) -> bool:
    """Whether the outage was seen so often that, faults or not, an incident has to be there."""
    seen = sum(outage.begin <= slot <= outage.end for slot in failures)
    disturbed = facts.disturbed(outage.begin - RECOVERY_S, outage.end, delays_checks)
    # Who stood still brings all that he had found meanwhile when it is overtaken; there are two of a check at the most.
    still = 2 * math.ceil(still_s(facts, outage.begin - RECOVERY_S, outage.end) / spec.interval_s)
    if seen < spec.failure_threshold + (_OVERTAKEN_BESIDE_A_FAULT + still if disturbed else _OVERTAKEN):
        return False
    if not _is_told(spec, incidents, outage, FOREVER):
        finding.break_(f"{spec.path} was seen down {seen} times from {_at(facts, outage.begin)} on, and nothing was "
                       "opened", lost=True)  # fmt: skip
    return True


def _is_told(spec: MonitorSpec, incidents: list[Row], outage: Span, due: float) -> bool:
    """Whether an incident was opened for the outage by then, or one of before went on.

    One that ends just as the outage begins is of the outage before.
    """
    latest = min(due, outage.end + RECOVERY_S)
    went_on = min(outage.begin + spec.timeout_s + _BLUR_S, outage.end)
    return any(
        outage.begin - _TICK_S <= i["opened_at"] <= latest
        or (i["opened_at"] < outage.begin and (i["resolved_at"] or FOREVER) > went_on)
        for i in incidents
    )


def _resolved(facts: Facts, spec: MonitorSpec, incident: Row, outages: list[Span], finding: Finding) -> None:
    """An incident ends while the endpoint is up, and in time."""
    ended_at, opened = incident["resolved_at"] or FOREVER, _at(facts, incident["opened_at"])
    saw_at = ended_at - spec.timeout_s - _BLUR_S - noted_late_s(facts, ended_at)
    if any(o.begin < saw_at and o.end > ended_at + _TICK_S for o in outages):
        if ended_at != FOREVER:
            at = _at(facts, ended_at)
            finding.break_(f"{spec.path}: the incident of {opened} was resolved at {at}, while it was down")
        return
    up_since = max((o.end for o in outages if o.end <= ended_at + _TICK_S), default=incident["opened_at"])
    patience_s = spec.recovery_threshold * spec.interval_s + spec.timeout_s + _LATE_S
    if facts.calm(up_since, min(ended_at, facts.ended), patience_s, delays_checks) is not None:
        how = "is open" if ended_at == FOREVER else f"was resolved at {_at(facts, ended_at)} only"
        finding.break_(f"{spec.path}: the incident of {opened} {how}, though all is well since {_at(facts, up_since)}",
                       lost=ended_at == FOREVER)  # fmt: skip


def no_false_alarm(facts: Facts) -> Finding:
    """I3."""
    finding = Finding()
    failures, ups, again = _slots(facts, "down"), _slots(facts, "up"), _seen_by_another(facts)
    for monitor, spec in facts.monitors.items():
        for incident in facts.incidents_of(monitor):
            finding.applicable += 1
            blur_s = spec.timeout_s + _BLUR_S + noted_late_s(facts, incident["opened_at"])
            if not _was_down(looked_down(facts, monitor), incident["opened_at"], blur_s):
                finding.break_(f"{spec.path}: an incident was opened at {_at(facts, incident['opened_at'])} for "
                               f"{incident['reason']}, and it was up")  # fmt: skip
            elif said := _too_early(facts, spec, incident, failures[spec.no] + again[spec.no], ups[spec.no]):
                finding.break_(said)
    specs = {spec.no: spec for spec in facts.run.monitors}
    for result in facts.tables["results"]:
        spec_ = specs.get(result["monitor_no"])
        if spec_ is None or result["verdict"] not in ("down", "degraded"):
            continue
        finding.applicable += 1
        slot = result["slot_ms"] / 1000
        beside_a_fault = facts.disturbed(slot - RECOVERY_S, slot + _DEADLINE_S, delays_checks)
        starts_within_s = max(spec_.interval_s, _DEADLINE_S) if beside_a_fault else _STARTS_WITHIN_S
        # When it began is known of all that came to the endpoint.
        began = max([slot + starts_within_s, *asked(facts, spec_, result["location"], result["slot_ms"])])
        latest = began + spec_.timeout_s
        if not any(outage.overlaps(slot - _BLUR_S, latest) for outage in looked_down(facts, spec_.id)):
            finding.break_(f"{spec_.path}: the check of {_at(facts, slot)} was judged {result['verdict']} "
                           f"({result['reason']}), and it was up")  # fmt: skip
    nobody_saw(facts, finding)
    return finding


def _too_early(facts: Facts, spec: MonitorSpec, incident: Row, failures: list[float], ups: list[float]) -> str:
    """What is wrong with an incident's beginning, "" for nothing: a blip shorter than the threshold is none.

    All results that count for it are in its transaction or before it, so not even a crash of the database hides one.
    Of two outages of which nobody saw what was between them, the failures are in a row.
    """
    opened_at = incident["opened_at"]
    began = max(
        (o.begin for o in facts.outages[incident["monitor"]] if o.begin <= opened_at + _TICK_S), default=opened_at
    )
    well = max((slot for slot in ups if slot <= opened_at), default=opened_at)
    since = min(well, began - spec.interval_s - _DEADLINE_S)
    seen = sum(since <= slot <= opened_at + _TICK_S for slot in failures)
    if seen >= spec.failure_threshold:
        return ""
    return (f"{spec.path}: an incident was opened at {_at(facts, opened_at)} after {seen} failures, and it takes "
            f"{spec.failure_threshold}")  # fmt: skip


def _was_down(outages: list[Span], at: float, blur_s: float) -> bool:
    return any(outage.overlaps(at - blur_s, at) for outage in outages)


def timelines_are_whole(facts: Facts) -> Finding:
    """I4."""
    finding = Finding()
    for spec in facts.run.monitors:
        _one_at_a_time(facts, spec, finding)
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


def _one_at_a_time(facts: Facts, spec: MonitorSpec, finding: Finding) -> None:
    """No incident begins before the last has ended, and the monitor's state knows the one that is open."""
    incidents = facts.incidents_of(spec.id)
    for before, after in pairwise(incidents):
        ended_at = before["resolved_at"] or FOREVER
        if ended_at - noted_late_s(facts, ended_at) > after["opened_at"] + spec.timeout_s + _BLUR_S:
            at = _at(facts, after["opened_at"])
            finding.break_(f"{spec.path}: incident {after['id']} was opened at {at}, while {before['id']} was open")
    open_ = [i["id"] for i in incidents if i["status"] != "resolved"] or [None]
    for state in facts.tables["monitor_states"]:
        if state["monitor_no"] != spec.no:
            continue
        if state["open_incident"] not in open_:
            finding.break_(f"{spec.path}: its state names incident {state['open_incident']}, and open is {open_[-1]}")
        elif state["health"] == Health.DOWN and open_ == [None]:
            finding.break_(f"{spec.path}: its state is down, and no incident is open")


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
    after_the_end = types[types.index("resolved") + 1 :] if "resolved" in types else []
    # That it was held back is noted by a loop of its own, perhaps when it is over.
    if any(type_ not in (EventType.COMMENTED, EventType.HELD_BACK) for type_ in after_the_end):
        return f"its events are {types}"
    return ""


def _at(facts: Facts, moment: float) -> str:
    return f"{moment - facts.run.at:.1f} s"
