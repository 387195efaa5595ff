"""The relay's statements: hold organizations, take and number events, find who is concerned."""

from __future__ import annotations

from typing import Any

from common.domain.matching import ANNOUNCING
from common.store import holds, outbox, route_books
from tests.simulation.database import Guard, Rows, Statement, Transaction
from tests.simulation.statements.literals import items

_ANNOUNCING = {event.value for event in ANNOUNCING}


def _hold(tx: Transaction, p: Any) -> Rows:
    waiting: dict[str, int] = {}
    excluded = items(p["excluded"])
    for no, row in tx.rows("outbox").items():
        if row["incident_id"] not in excluded:
            waiting[row["org_id"]] = min(no, waiting.get(row["org_id"], no))
    held = Rows()
    for org in sorted(waiting, key=waiting.__getitem__):
        if tx.lacks(Guard.ORGANIZATION_HOLD) or tx.try_lock("organizations", org):
            held.append((org, tx.get("organizations", org).get("routing_version", 0)))
    return held


def _take(tx: Transaction, p: Any) -> Rows:
    orgs, excluded = items(p["orgs"]), items(p["excluded"])
    taken = Rows()
    for no, row in sorted(tx.rows("outbox").items()):
        if row["org_id"] in orgs and row["incident_id"] not in excluded:
            incident = tx.get("incidents", row["incident_id"])
            taken.append((
                no, row["org_id"], row["incident_id"], row["event_id"], row["type"], incident["dedup_key"], {},
                incident["severity"], "monitor", incident["title"], None,
                incident["monitor_id"],
            ))  # fmt: skip
    return Rows(taken[: p["limit"]])


def _routes(tx: Transaction, p: Any) -> Rows:
    """Those of the schedule: none, or one for what is grouped and one for the rest."""
    return Rows(row for row in tx.rows("routes").values() if row[0] in items(p["orgs"]))


def _no_silences(_tx: Transaction, _p: Any) -> Rows:
    """Nobody made one."""
    return Rows()


def _no_holds(_tx: Transaction, _p: Any) -> Rows:
    """No monitor has a maintenance window or a parent."""
    return Rows()


def _number(tx: Transaction, p: Any) -> Rows:
    wanted = set(items(p["incidents"]))
    latest: dict[str, Any] = {}
    fresh = []
    events = [event for event in tx.rows("events").values() if event["incident_id"] in wanted and event["seq"] is None]
    for event in sorted(events, key=lambda event: (event["incident_id"], event["version"])):
        incident = event["incident_id"]
        latest[incident] = max(event["at"], latest.get(incident, event["at"]))
        fresh.append((event["org_id"], latest[incident], incident, event["version"], event))
    for org, _, _, _, event in sorted(fresh, key=lambda item: item[:4]):
        row = tx.get("organizations", org)
        seq = row["last_seq"] + 1
        tx.put("organizations", org, row | {"last_seq": seq})
        tx.put("events", event["id"], event | {"seq": seq})
    return Rows((event[4]["id"],) for event in fresh)


def _unnumbered(tx: Transaction, p: Any) -> Rows:
    # All that has no number: `since` compares ids, which are of real time here.
    stray = [event for event in tx.rows("events").values() if event["seq"] is None][: p["limit"]]
    found: dict[str, bool] = {}
    for event in stray:
        held = tx.lacks(Guard.ORGANIZATION_HOLD) or tx.try_lock("organizations", event["org_id"])
        found[event["incident_id"]] = held
    return Rows((incident, held, len(stray)) for incident, held in found.items())


def _announcements(tx: Transaction, p: Any) -> Any:
    orgs, incidents = items(p["orgs"]), items(p["incidents"])
    return (
        row
        for row in tx.rows("notifications").values()
        if row["org_id"] in orgs and row["incident_id"] in incidents and row["event_type"] in _ANNOUNCING
    )


def _pin(tx: Transaction, p: Any) -> Rows:
    for row in _announcements(tx, p):
        if row["status"] == "pending":
            tx.lock("notifications", row["id"])
    return Rows()


def _heard(tx: Transaction, p: Any) -> Rows:
    rows = sorted(_announcements(tx, p), key=lambda row: row["no"])
    columns = ("incident_id", "channel_id", "status", "unknown", "route_id", "group_key")
    return Rows(tuple(row[column] for column in columns) for row in rows)


def _channels(tx: Transaction, p: Any) -> Rows:
    orgs = items(p["orgs"])
    return Rows(
        (channel["org_id"], id_, channel["enabled"], True)
        for id_, channel in sorted(tx.rows("channels").items())
        if channel["org_id"] in orgs
    )


def _delete(tx: Transaction, p: Any) -> Rows:
    for no in items(p["ids"]):
        tx.put("outbox", int(no), None)
    return Rows()


STATEMENTS: dict[str, Statement] = {
    outbox._HOLD: _hold,
    outbox._TAKE: _take,
    outbox._NUMBER: _number,
    outbox._UNNUMBERED: _unnumbered,
    outbox._PIN_ANNOUNCEMENTS: _pin,
    outbox._ANNOUNCEMENTS: _heard,
    route_books._ROUTES: _routes,
    route_books._SILENCES: _no_silences,
    holds._OF: _no_holds,
    route_books._CHANNELS: _channels,
    outbox._DELETE: _delete,
}
