"""Alerts into incidents: identity, incident, timeline and outbox of a whole batch, written together or not at all.

Two constraints stop duplicates, whatever crashed in between: an identity is once in `alerts`, a dedup_key is once among
an organization's open incidents. Everybody writes identities first, then new incidents, then changes, each in one
order, so that batches wait for each other and, but for rare corners that the caller repeats, never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from uuid_utils import uuid7

from common.domain.alerts import (
    ALERT_EXPIRED,
    ALERT_RESOLVED,
    REOPEN_AFTER,
    Alert,
    AlertStatus,
    Outcome,
    badness,
)
from common.domain.errors import Contended
from common.domain.incident import EventType, Severity, Status
from common.store import alert_ends, incidents
from common.store.alert_ends import AlertEnd
from common.store.arrays import integers, texts
from common.store.engine import Connection
from common.store.incidents import Alteration, Deed
from common.store.openings import SAID, Placement, adopted, document, open_everywhere, uuids

#: How long an identity stops repeats.
RETENTION_DAYS = 400

# What is open under these keys in these organizations now. No join: where statistics of a quiet time say that nothing
# is open, the planner would pair everything that is open with every alert.
_OPEN = """
SELECT org_id::text, dedup_key, id::text, severity FROM incidents
 WHERE org_id = ANY(%(orgs)s::uuid[]) AND dedup_key = ANY(%(keys)s::text[]) AND status <> 'resolved'
"""

# Who has something open under these keys: for a platform's alert, whose end no route leads anywhere.
_OPEN_ANYWHERE = """
SELECT dedup_key, org_id::text FROM incidents
 WHERE dedup_key = ANY(%(keys)s) AND status <> 'resolved' ORDER BY dedup_key, org_id
"""

# Offers of which one of these identities is taken, with the newest incident that they led to, and whether a repeat may
# open another: that one was ended by nobody who knew (by hand, and not a moment ago; or its sender had fallen silent).
# IS TRUE: the timeline is read by the index of its incident, never by that of its organization.
_TOLD = """
SELECT DISTINCT ON (u.offer) u.offer, i.id::text,
       COALESCE(i.status = 'resolved' AND ending.reason IS DISTINCT FROM %(alert_resolved)s
                AND (ending.reason = %(alert_expired)s OR i.resolved_at <= %(reopen_before)s), false)
  FROM unnest(%(orgs)s::uuid[], %(ids)s::text[], %(offers)s::int[]) AS u(org_id, alert_id, offer)
  JOIN alerts a ON a.org_id = u.org_id AND a.alert_id = u.alert_id
  LEFT JOIN incidents i ON i.org_id = a.org_id AND i.id = a.incident_id
  LEFT JOIN LATERAL (
    SELECT e.data ->> 'reason' AS reason FROM incident_events e
     WHERE e.incident_id = i.id AND (e.org_id = i.org_id) IS TRUE AND e.type = 'resolved'
     ORDER BY e.incident_id DESC, e.version DESC LIMIT 1
  ) ending ON true
 ORDER BY u.offer, i.resolved_at DESC NULLS FIRST
"""

# Take these identities; one that is taken is absent from the answer. Whoever is about to take it too waits for us.
_CLAIM = f"""
INSERT INTO alerts (org_id, alert_id, status, incident_id)
SELECT u.org_id, a.identity, a.status, u.incident_id
  FROM unnest(%(orgs)s::uuid[], %(places)s::int[], %(incidents)s::uuid[]) AS u(org_id, place, incident_id)
  JOIN {SAID} USING (place)
 WHERE a.identity IS NOT NULL
 ORDER BY u.org_id, a.identity
    ON CONFLICT (org_id, alert_id) DO NOTHING
RETURNING org_id::text, alert_id
"""

# Somebody else's incident turned out to be the one, or it was opened again.
_LEAD_TO = """
UPDATE alerts a SET incident_id = u.adopted
  FROM unnest(%(orgs)s::uuid[], %(ids)s::text[], %(adopted)s::uuid[]) AS u(org_id, alert_id, adopted)
 WHERE a.org_id = u.org_id AND a.alert_id = u.alert_id
"""

# Hold what nobody has acknowledged.
_HOLD_UNACKNOWLEDGED = """
SELECT id::text FROM incidents
 WHERE dedup_key = %(key)s AND status = 'open' AND (%(org_id)s::uuid IS NULL OR org_id = %(org_id)s::uuid)
 ORDER BY id FOR UPDATE
"""

# Hold incidents that are about to change, in one order for everybody; how bad they are once they are ours.
_HOLD = """
SELECT id::text, severity FROM incidents
 WHERE id = ANY(%(ids)s::uuid[]) AND status <> 'resolved' ORDER BY id FOR UPDATE
"""

# Identities past their retention, some at a time.
_FORGET = """
DELETE FROM alerts WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM alerts WHERE received_at < now() - %(days)s * interval '1 day' ORDER BY received_at LIMIT %(limit)s))
"""


@dataclass(frozen=True, slots=True)
class Offer:
    """The alert at this place of a batch, for one organization."""

    org_id: str
    place: int


@dataclass(slots=True)
class _Problem:
    """All offers of one organization and key, by their numbers; in one round they have the same status."""

    org_id: str
    offers: list[int] = field(default_factory=list)
    incident_id: str | None = None  # open now
    severity: Severity = Severity.INFO  # of that one
    planned_id: str = ""  # to be opened
    fresh: list[int] = field(default_factory=list)  # the offers that are no repeats
    reopening: set[int] = field(default_factory=set)  # repeats that may open another incident …
    reopened_from: str | None = None  # … than this one


@dataclass(frozen=True, slots=True)
class _Round:
    """What one call works on."""

    connection: Connection
    alerts: Sequence[Alert]
    offers: Sequence[Offer]
    deed: Deed
    outcomes: list[Outcome]

    def alert(self, number: int) -> Alert:
        """The alert of an offer."""
        return self.alerts[self.offers[number].place]

    def worst(self, numbers: Sequence[int]) -> int:
        """The offer of the worst alert, the first of equals."""
        return max(numbers, key=lambda number: badness(self.alert(number).severity))


def take(connection: Connection, alerts: Sequence[Alert], offers: Sequence[Offer], deed: Deed) -> list[Outcome]:
    """Take in offers of one round (domain.alerts.in_rounds); what became of each, in their order.

    Raises Contended when others got in between; the same again will do.
    """
    if not offers:
        return []
    now = _Round(connection, alerts, offers, deed, [Outcome.DEDUPLICATED] * len(offers))
    said = document(alerts, {offer.place for offer in offers})
    problems = _look_up(now)
    _claim(now, problems, said)
    _alter(now, [*_open(now, problems), *_ending_or_worse(now, problems)])
    _prolong(now, problems)
    return now.outcomes


def open_anywhere(connection: Connection, keys: Sequence[str]) -> dict[str, list[str]]:
    """{dedup_key: organizations that have an open incident of it}; for the worker's role."""
    found: dict[str, list[str]] = {}
    for key, org_id in connection.exec_driver_sql(_OPEN_ANYWHERE, {"keys": list(keys)}):
        found.setdefault(key, []).append(org_id)
    return found


def acknowledge(connection: Connection, *, org_id: str | None, key: str, deed: Deed) -> int:
    """Acknowledge what is open under this key in an organization (None: in all); how many incidents that changed."""
    ids = [row[0] for row in connection.exec_driver_sql(_HOLD_UNACKNOWLEDGED, {"org_id": org_id, "key": key})]
    changes = [
        Alteration(id_, EventType.ACKNOWLEDGED, deed.at, deed.request_id, status=Status.ACKNOWLEDGED, actor=deed.actor)
        for id_ in ids
    ]
    return len(incidents.alter_all(connection, changes))


def forget(connection: Connection, *, days: int = RETENTION_DAYS, limit: int = 50_000) -> int:
    """Delete identities past their retention; how many. Fewer than `limit`: none is left."""
    return connection.exec_driver_sql(_FORGET, {"days": days, "limit": limit}).rowcount


def _look_up(now: _Round) -> list[_Problem]:
    """What the offers are about, and which of it is open."""
    found: dict[tuple[str, str], _Problem] = {}
    for number, offer in enumerate(now.offers):
        key = offer.org_id, now.alerts[offer.place].dedup_key
        problem = found.get(key)
        if problem is None:
            problem = found[key] = _Problem(offer.org_id)
        problem.offers.append(number)
    parameters = {"orgs": uuids({org_id for org_id, _ in found}), "keys": texts({key for _, key in found})}
    for org_id, dedup_key, id_, severity in now.connection.exec_driver_sql(_OPEN, parameters):
        problem = found.get((org_id, dedup_key))
        if problem is not None:
            problem.incident_id, problem.severity = id_, Severity(severity)
    return list(found.values())


def _claim(now: _Round, problems: Sequence[_Problem], said: str) -> None:
    """Plan new incidents, take the identities; what is fresh afterwards is no repeat, as far as identities tell."""
    _weigh_told(now, [problem for problem in problems if problem.incident_id is None])
    numbers, leading_to = [], []
    for problem in problems:
        if not problem.offers:
            continue
        if problem.incident_id is None:
            if now.alert(problem.offers[0]).status is AlertStatus.RESOLVED:
                # An end of nothing is not written down: should its beginning still come, it may be sent again.
                continue
            problem.planned_id = str(uuid7())
        numbers += problem.offers
        leading_to += [problem.incident_id or problem.planned_id] * len(problem.offers)
    if not numbers:
        return
    parameters = {**_columns(now, numbers), "incidents": uuids(leading_to), "alerts": said}
    taken = {(row[0], row[1]) for row in now.connection.exec_driver_sql(_CLAIM, parameters)}
    for problem in problems:
        if problem.incident_id or problem.planned_id:
            problem.fresh += [number for number in problem.offers if _is_fresh(now, problem, number, taken)]


def _is_fresh(now: _Round, problem: _Problem, number: int, taken: set[tuple[str, str]]) -> bool:
    identity = now.alert(number).identity
    if identity is None or number in problem.reopening:
        return True
    if (problem.org_id, identity) in taken:
        taken.discard((problem.org_id, identity))  # the next one in this very batch is a repeat
        return True
    return False


def _weigh_told(now: _Round, closed: Sequence[_Problem]) -> None:
    """What is over stays over until it begins anew: neither a repeat nor another severity of the same start opens it.

    Unless its incident was ended by nobody who knew.
    """
    rows = [
        (problem.org_id, identity, number)
        for problem in closed
        for number in problem.offers
        for identity in now.alert(number).told_as
    ]
    if not rows:
        return
    parameters = {
        "orgs": uuids(row[0] for row in rows),
        "ids": [row[1] for row in rows],
        "offers": integers(row[2] for row in rows),
        "alert_resolved": ALERT_RESOLVED,
        "alert_expired": ALERT_EXPIRED,
        "reopen_before": now.deed.at - REOPEN_AFTER,
    }
    told = {row[0]: (row[1], row[2]) for row in now.connection.exec_driver_sql(_TOLD, parameters)}
    for problem in closed:
        for number in problem.offers:
            incident_id, reopens = told.get(number, (None, False))
            if reopens:
                problem.reopening.add(number)
                problem.reopened_from = incident_id
        problem.offers = [number for number in problem.offers if number not in told or number in problem.reopening]


def _open(now: _Round, problems: Sequence[_Problem]) -> list[tuple[str, int]]:
    """Open what is new, by the worst of each; (incident, offer) where somebody else did at the same moment."""
    new = {problem.planned_id: problem for problem in problems if problem.planned_id and problem.fresh}
    leading = {id_: now.worst(problem.fresh) for id_, problem in new.items()}
    placements = [
        Placement(id_, new[id_].org_id, now.offers[number].place, new[id_].reopened_from)
        for id_, number in leading.items()
    ]
    opened = open_everywhere(now.connection, now.alerts, placements, now.deed)
    for id_ in opened:
        now.outcomes[leading[id_]] = Outcome.OPENED
        new[id_].incident_id = id_
    lost = [placement for placement in placements if placement.id not in opened]
    theirs = adopted(now.connection, now.alerts, lost)
    if len(theirs) < len(lost):
        raise Contended("An incident was resolved at the very moment in which it was to be adopted.")
    for id_, other in theirs.items():
        new[id_].incident_id = other
    reopened = [(new[id_], id_) for id_ in opened if new[id_].reopening]
    _lead_to(now, [*reopened, *((new[id_], other) for id_, other in theirs.items())])
    return [(other, leading[id_]) for id_, other in theirs.items()]


def _lead_to(now: _Round, found: Sequence[tuple[_Problem, str]]) -> None:
    rows = [
        (problem.org_id, identity, incident_id)
        for problem, incident_id in found
        for number in problem.fresh
        if (identity := now.alert(number).identity) is not None
    ]
    if rows:
        parameters = {
            "orgs": uuids(row[0] for row in rows),
            "ids": [row[1] for row in rows],
            "adopted": uuids(row[2] for row in rows),
        }
        now.connection.exec_driver_sql(_LEAD_TO, parameters)


def _ending_or_worse(now: _Round, problems: Sequence[_Problem]) -> list[tuple[str, int]]:
    """(incident, offer) of the open ones that an alert ends or makes worse."""
    found = []
    for problem in problems:
        if problem.planned_id or problem.incident_id is None or not problem.fresh:
            continue
        number = now.worst(problem.fresh)
        alert = now.alert(number)
        if alert.status is AlertStatus.RESOLVED or badness(alert.severity) > badness(problem.severity):
            found.append((problem.incident_id, number))
    return found


def _alter(now: _Round, wanted: Sequence[tuple[str, int]]) -> None:
    if not wanted:
        return
    rows = now.connection.exec_driver_sql(_HOLD, {"ids": uuids(id_ for id_, _ in wanted)})
    held = {row[0]: Severity(row[1]) for row in rows}
    changes = []
    for id_, number in wanted:
        alert = now.alert(number)
        if id_ not in held:
            continue  # resolved meanwhile
        if alert.status is AlertStatus.RESOLVED:
            changes.append(_ending(id_, now.deed))
            now.outcomes[number] = Outcome.RESOLVED
        elif badness(alert.severity) > badness(held[id_]):
            changes.append(_worse(id_, alert, held[id_], now.deed))
    incidents.alter_all(now.connection, changes)


def _prolong(now: _Round, problems: Sequence[_Problem]) -> None:
    """Alerts that fire and have a lifetime last as long as their latest message says, be it a repeat."""
    ends: dict[str, AlertEnd] = {}
    for problem in problems:
        found = [end for number in problem.offers if (end := _end(now.alert(number), now.deed)) is not None]
        if problem.incident_id is not None and found:
            ends[problem.incident_id] = found[-1]
    orgs = {problem.incident_id: problem.org_id for problem in problems if problem.incident_id in ends}
    opened = {problem.planned_id for problem in problems if problem.incident_id == problem.planned_id}
    alert_ends.begin(now.connection, orgs, {id_: end for id_, end in ends.items() if id_ in opened})
    alert_ends.prolong(now.connection, orgs, {id_: end for id_, end in ends.items() if id_ not in opened})


def prolong_anywhere(connection: Connection, alerts: Sequence[Alert], deed: Deed) -> None:
    """A platform's alerts last on wherever they are open, also where no route leads them any more."""
    ends = {alert.dedup_key: end for alert in alerts if (end := _end(alert, deed)) is not None}
    alert_ends.prolong_keys(connection, ends)


def _end(alert: Alert, deed: Deed) -> AlertEnd | None:
    if alert.lifetime is None or alert.status is AlertStatus.RESOLVED:
        return None
    return AlertEnd(alert.lifetime.ends_at(deed.at), stated=alert.lifetime.until is not None)


def _columns(now: _Round, numbers: Sequence[int]) -> dict[str, str]:
    offers = [now.offers[number] for number in numbers]
    return {"orgs": uuids(offer.org_id for offer in offers), "places": integers(offer.place for offer in offers)}


def _ending(incident_id: str, deed: Deed) -> Alteration:
    return Alteration(
        incident_id, EventType.RESOLVED, deed.at, deed.request_id,
        status=Status.RESOLVED, data={"reason": ALERT_RESOLVED}, actor=deed.actor,
    )  # fmt: skip


def _worse(incident_id: str, alert: Alert, before: Severity, deed: Deed) -> Alteration:
    return Alteration(
        incident_id, EventType.ESCALATED, deed.at, deed.request_id,
        severity=alert.severity, title=alert.title, cause=alert.cause, actor=deed.actor,
        data={**alert.cause, "from": before.value, "to": alert.severity.value},
    )  # fmt: skip
