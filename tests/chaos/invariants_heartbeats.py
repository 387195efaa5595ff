"""H1, H2 and A9: heartbeats that fall silent, heartbeats that beat, and maintenance windows.

What is told of them, to whom, how often and in which order, is judged with everything else by I4 to I8 and A2 to A4.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.events import HeartbeatSpec, Ping
from tests.chaos.expectations import Expectations, Standing, standing
from tests.chaos.facts import FOREVER, RECOVERY_S, Facts, Row, Span
from tests.chaos.finding import Finding
from tests.chaos.reasons import delays_checks, party
from tests.chaos.routing import UPKEEP

#: A deadline is judged so long after it passed, by the next step of some worker, and committed, on a busy machine.
_JUDGED_AFTER_S, _LATE_S = 1.0, 5.0
#: Clocks and requests under way.
_BLUR_S, _OVERLAP_S = 0.3, 2.0
#: Results from which on a silence was surely seen; of one or two the slot may have been overtaken by a later one.
_SEEN = 4
_TAKEN = 200
#: How a ping may be answered: taken, or not now.
_ANSWERS = (None, _TAKEN, 429, 503)
_HELD_FOR = "maintenance"


def delays_pulses(span: Span) -> bool:
    """Whether it can keep a ping from being heard, or a silence from being judged."""
    return delays_checks(span) or party(span) == "api"


def loses_pings(span: Span) -> bool:
    """Whether a ping can be lost while an API of ours hears: on its way, or to the disk. A dead or frozen one is deaf,
    and has to know that."""
    return party(span) in ("postgres", "machine") or (party(span) == "api" and span.name.startswith("net-"))


def silences_are_told(facts: Facts) -> Finding:
    """H1."""
    finding = Finding()
    silences, failures = 0, _failures(facts)
    for id_, spec in facts.heartbeats.items():
        incidents, silent = facts.incidents_of(id_), facts.silent.get(id_, [])
        silences += len(silent)
        for silence in silent:
            in_time = _told_in_time(facts, spec, silence, incidents, finding)
            seen = _told_if_seen(facts, spec, silence, incidents, [f["slot_ms"] / 1000 for f in failures[id_]], finding)
            finding.applicable += in_time or seen
        for incident in incidents:
            _resolved(facts, spec, incident, silent, finding)
        for before, after in pairwise(incidents):
            if (before["resolved_at"] or FOREVER) > after["opened_at"] + _OVERLAP_S:
                finding.break_(f"{spec.path}: incident {after['id']} was opened at {_at(facts, after['opened_at'])}, "
                               f"while {before['id']} was open")  # fmt: skip
    if silences > finding.applicable:
        finding.explained.append(
            f"{silences - finding.applicable} silences were too short, or too much of them beside a fault, to have to "
            "be told"
        )
    return finding


def _told_in_time(facts: Facts, spec: HeartbeatSpec, silence: Span, incidents: list[Row], finding: Finding) -> bool:
    """Whether that could be asked for: after a fault that nobody may have heard, a silence counts from its end on."""
    patience_s = spec.period_s + spec.grace_s + _JUDGED_AFTER_S + spec.interval_s + _LATE_S
    calm = facts.calm(silence.begin, min(silence.end, facts.ended), patience_s, delays_pulses)
    if calm is None:
        return False
    due = calm + patience_s
    if not any(i["opened_at"] <= due <= (i["resolved_at"] or FOREVER) for i in incidents):
        finding.break_(f"{spec.path} was silent from {_at(facts, silence.begin)}, and no incident was open at "
                       f"{_at(facts, due)}", lost=True)  # fmt: skip
    return True


def _told_if_seen(
    facts: Facts, spec: HeartbeatSpec, silence: Span, incidents: list[Row], failures: list[float], finding: Finding
) -> bool:
    """Whether it was judged down so often that, faults or not, an incident has to be there."""
    seen = sum(silence.begin <= at <= silence.end for at in failures)
    if seen < _SEEN:
        return False
    until = silence.end + RECOVERY_S
    if not any(i["opened_at"] <= until and (i["resolved_at"] or FOREVER) >= silence.begin for i in incidents):
        finding.break_(f"{spec.path} was judged down {seen} times in its silence from {_at(facts, silence.begin)} on, "
                       "and nothing was opened", lost=True)  # fmt: skip
    return True


def _failures(facts: Facts) -> dict[str, list[Row]]:
    """The results that say that a heartbeat is down."""
    numbers = {row["monitor_no"]: row["id"] for row in facts.tables["monitors"] if row.get("id") in facts.heartbeats}
    found: dict[str, list[Row]] = {id_: [] for id_ in facts.heartbeats}
    for result in facts.tables["results"]:
        if result["verdict"] == "down" and result["monitor_no"] in numbers:
            found[numbers[result["monitor_no"]]].append(result)
    return found


def _resolved(facts: Facts, spec: HeartbeatSpec, incident: Row, silent: list[Span], finding: Finding) -> None:
    """An incident ends when pings come again, and in time. One that ends while none come would be told twice."""
    ended_at, opened = incident["resolved_at"] or FOREVER, _at(facts, incident["opened_at"])
    for silence in silent:
        late = silence.begin + _LATE_S < ended_at < silence.end - _BLUR_S
        if late and not facts.disturbed(silence.begin - RECOVERY_S, ended_at, delays_pulses):
            finding.break_(f"{spec.path}: the incident of {opened} was resolved at {_at(facts, ended_at)}, and it was "
                           f"silent since {_at(facts, silence.begin)}")  # fmt: skip
    over = [s.end for s in silent if s.end <= ended_at + _BLUR_S]
    beats_since = max([incident["opened_at"], *over])
    following = min((s.begin for s in silent if s.begin > beats_since), default=FOREVER)
    patience_s = _JUDGED_AFTER_S + spec.interval_s + _LATE_S
    silent_then = any(s.begin <= beats_since < s.end for s in silent)
    until = min(ended_at, facts.ended, following)
    if not silent_then and facts.calm(beats_since, until, patience_s, delays_pulses) is not None:
        how = "is open" if ended_at == FOREVER else f"was resolved at {_at(facts, ended_at)} only"
        finding.break_(f"{spec.path}: the incident of {opened} {how}, though it is pinged since "
                       f"{_at(facts, beats_since)}", lost=ended_at == FOREVER)  # fmt: skip


def no_false_alarm(facts: Facts) -> Finding:
    """H2."""
    finding = Finding()
    for id_, results in _failures(facts).items():
        spec = facts.heartbeats[id_]
        for result in results:
            finding.applicable += 1
            at = result["slot_ms"] / 1000
            if said := _pinged(facts, spec, at):
                finding.break_(f"{spec.path} was judged down ({result['reason']}) at {_at(facts, at)}, and it was "
                               f"pinged {said}")  # fmt: skip
    for pings in facts.pings.values():
        for ping in pings:
            if ping.status not in _ANSWERS:
                finding.break_(f"a ping at {_at(facts, ping.at)} was answered {ping.status}")
    return finding


def _pinged(facts: Facts, spec: HeartbeatSpec, at: float) -> str:
    """Why it cannot be down at this moment, "" when it can: nobody pinged in time, or it was lost on the way.

    What was answered was committed, whatever happened; what was not may be excused by us, never held against it.
    """
    patience_s = spec.period_s + spec.grace_s
    tried = [
        p for p in facts.pings.get(spec.id, []) if at - patience_s + _BLUR_S < p.at and p.answered_at < at - _BLUR_S
    ]
    for ping in tried:
        if ping.status == _TAKEN:
            return f"at {_at(facts, ping.at)}: it was answered {_TAKEN}"
    if not tried or facts.disturbed(at - patience_s - RECOVERY_S, at, loses_pings):
        return ""
    return f"at {', '.join(_answer(facts, ping) for ping in tried)}: nobody of ours heard it"


def _answer(facts: Facts, ping: Ping) -> str:
    return f"{_at(facts, ping.at)} ({ping.status or 'no answer'})"


def windows_are_kept(facts: Facts) -> Finding:
    """A9. That what is still wrong is announced at the end, and in time, is I5's."""
    finding = Finding()
    expected = Expectations(facts)
    first: dict[str, tuple[float, str]] = {}
    for hook in facts.webhooks:
        for incident, _ in hook.told:
            first.setdefault(incident, (hook.at, hook.path))
    teams = {incident["id"]: expected.team(incident) for incident in facts.tables["incidents"]}
    for incident in facts.tables["incidents"]:
        if teams[incident["id"]] != UPKEEP:
            continue
        fate = expected.fate(incident)
        finding.applicable += not fate.told or fate.until is not None
        at, path = first.get(incident["id"], (FOREVER, ""))
        if at < FOREVER and not fate.told:
            finding.break_(f"incident {incident['id']} began and ended in a maintenance window, and {path} was told "
                           f"at {_at(facts, at)}")  # fmt: skip
        elif fate.until is not None and at < fate.until - 1.0:
            finding.break_(f"{path} was told of incident {incident['id']} at {_at(facts, at)}, within a window that "
                           f"lasted until {_at(facts, fate.until)}")  # fmt: skip
    for said in (*_wrongly_held(facts, teams), *_refused(facts)):
        finding.break_(said)
    return finding


def _wrongly_held(facts: Facts, teams: dict[str, str]) -> Iterator[str]:
    """A window holds back what is maintained, and nothing else does."""
    for row in facts.tables["notifications"]:
        is_maintained = teams.get(row.get("incident", "")) == UPKEEP
        is_held = row["reason"] == _HELD_FOR
        if is_held != is_maintained and (is_held or standing(row) is Standing.SILENCED):
            yield f"ledger row {row['id']} of {row['event_type']} is held back ({row['reason']}), and why?"


def _refused(facts: Facts) -> Iterator[str]:
    for window in facts.windows:
        if window.refused is not None:
            yield f"a maintenance window of {_at(facts, window.at)} was answered {window.refused}"


def _at(facts: Facts, moment: float) -> str:
    return f"{moment - facts.run.at:.1f} s"
