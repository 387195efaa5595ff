"""A1: alerts from outside. Acknowledged ones are kept, repeats change nothing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest

from tests.chaos.events import Signal
from tests.chaos.facts import FOREVER, Facts, Row
from tests.chaos.finding import Finding
from tests.chaos.invariants_blindness import is_of_a_location

_TAKEN = 202
#: How an alert may be answered: taken, or not now.
_ANSWERS = (None, _TAKEN, 429, 503)
#: The harness's clock and the database's lie so far apart.
_BLUR_S = 0.5
#: After the faults an alert that is sent again is acknowledged within so long.
_ANSWERED_WITHIN_S = 30.0


@dataclass(slots=True)
class _Said:
    """One alert over all its sendings: when it was sent first and last, and when its first acknowledgement came."""

    sent_at: float
    taken_at: float = FOREVER
    last_sent_at: float = 0.0


def alerts_are_incidents(facts: Facts) -> Finding:
    """A1."""
    finding = Finding()
    said: dict[str, dict[tuple[int, bool], _Said]] = defaultdict(dict)
    for signal in facts.signals:
        if signal.status not in _ANSWERS:
            finding.break_(f"alert {signal.alert_id} at {_at(facts, signal.at)} was answered {signal.status}")
        one = said[signal.key].setdefault((signal.period, signal.firing), _Said(signal.at))
        one.last_sent_at = max(one.last_sent_at, signal.at)
        if signal.status == _TAKEN:
            one.taken_at = min(one.taken_at, signal.answered_at)
    found: dict[str, list[Row]] = defaultdict(list)
    for incident in sorted(facts.tables["incidents"], key=lambda incident: incident["opened_at"]):
        if incident["monitor"] is None and not is_of_a_location(incident):
            found[incident["dedup_key"]].append(incident)
    for key in found.keys() - said.keys():
        finding.break_(f"there is an incident of {key}, and nobody said anything of it")
    for key, by_period in said.items():
        _periods(facts, key, by_period, found.get(key, []), finding)
    _identities(facts, said, found, finding)
    repeats = len(facts.signals) - sum(map(len, said.values()))
    if repeats:
        finding.explained.append(f"{repeats} repeats of {sum(map(len, said.values()))} alerts changed nothing")
    return finding


def _periods(
    facts: Facts, key: str, said: dict[tuple[int, bool], _Said], incidents: list[Row], finding: Finding
) -> None:
    """One incident for each period, opened and resolved while its alerts were sent."""
    periods = max(period for period, _ in said)
    for period, incident in zip_longest(range(1, periods + 1), incidents):
        if period is None:
            finding.break_(f"incident {incident['id']} of {key} is one too many: it fired {periods} times")
            continue
        begin, end = said.get((period, True)), said.get((period, False))
        what = f"{key}, period {period}"
        for one in filter(None, (begin, end)):
            finding.applicable += 1
            if one.taken_at == FOREVER and one.last_sent_at > facts.heal_at + _ANSWERED_WITHIN_S:
                finding.break_(f"{what}: an alert was sent until {_at(facts, one.last_sent_at)} and never acknowledged")
        if incident is None:
            if begin is not None and begin.taken_at != FOREVER:
                finding.break_(
                    f"{what} was acknowledged at {_at(facts, begin.taken_at)} and has no incident", lost=True
                )
            continue
        if begin is None or not begin.sent_at - _BLUR_S <= incident["opened_at"] <= begin.taken_at + _BLUR_S:
            finding.break_(f"{what}: incident {incident['id']} was opened at {_at(facts, incident['opened_at'])}, and "
                           "that is not when it was said")  # fmt: skip
        _end(facts, what, end, incident, finding)


def _end(facts: Facts, what: str, end: _Said | None, incident: Row, finding: Finding) -> None:
    resolved_at = incident["resolved_at"]
    if resolved_at is None:
        if end is not None and end.taken_at != FOREVER:
            finding.break_(f"{what}: its end was acknowledged, and incident {incident['id']} is open", lost=True)
    elif end is None or not end.sent_at - _BLUR_S <= resolved_at <= end.taken_at + _BLUR_S:
        finding.break_(f"{what}: incident {incident['id']} was resolved at {_at(facts, resolved_at)}, and that is not "
                       "when it was said")  # fmt: skip


def _identities(
    facts: Facts, said: dict[str, dict[tuple[int, bool], _Said]], found: dict[str, list[Row]], finding: Finding
) -> None:
    """Each acknowledged alert is known, once, and leads to the incident of its period (AR3)."""
    stored: dict[str, list[str]] = defaultdict(list)
    for row in facts.tables.get("alerts", []):
        stored[row["alert_id"]].append(row["incident"])
    sent: dict[str, Signal] = {signal.alert_id: signal for signal in facts.signals}
    for alert_id in stored.keys() - sent.keys():
        finding.break_(f"alert {alert_id} is known, and nobody sent it")
    for alert_id, signal in sent.items():
        taken = said[signal.key][signal.period, signal.firing].taken_at != FOREVER
        incidents = found.get(signal.key, [])
        expected = incidents[signal.period - 1]["id"] if len(incidents) >= signal.period else None
        if stored.get(alert_id, [expected] if not taken else []) != [expected]:
            finding.break_(f"alert {alert_id} is known as of incidents {stored.get(alert_id, [])}, and it is of "
                           f"{expected}", lost=alert_id not in stored)  # fmt: skip


def _at(facts: Facts, moment: float) -> str:
    return f"{moment - facts.run.at:.1f} s"
