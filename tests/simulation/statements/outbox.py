"""The relay's statements: hold organizations, take and number events, find who is concerned."""

from __future__ import annotations

from typing import Any

from common.domain.matching import ANNOUNCING
from common.store import outbox
from tests.simulation.database import Guard, Rows, Statement, Transaction

_ANNOUNCING = {event.value for event in ANNOUNCING}


def _hold(tx: Transaction, p: Any) -> Rows:
    waiting: dict[str, int] = {}
    for no, row in tx.rows("outbox").items():
        if row["incident_id"] not in p["excluded"]:
            waiting[row["org_id"]] = min(no, waiting.get(row["org_id"], no))
    held = Rows()
    for org in sorted(waiting, key=waiting.__getitem__):
        if tx.lacks(Guard.ORGANIZATION_HOLD) or tx.try_lock("organizations", org):
            held.append((org,))
    return held


def _take(tx: Transaction, p: Any) -> Rows:
    rows = tx.rows("outbox")
    taken = [
        (no, row["org_id"], row["incident_id"], row["event_id"], row["type"])
        for no, row in sorted(rows.items())
        if row["org_id"] in p["orgs"] and row["incident_id"] not in p["excluded"]
    ]
    return Rows(taken[: p["limit"]])


def _number(tx: Transaction, p: Any) -> Rows:
    wanted = set(p["incidents"])
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
    found = Rows()
    for event in tx.rows("events").values():
        if event["seq"] is None:
            held = tx.lacks(Guard.ORGANIZATION_HOLD) or tx.try_lock("organizations", event["org_id"])
            if (event["incident_id"], held) not in found:
                found.append((event["incident_id"], held))
    return Rows(found[: p["limit"]])


def _announcements(tx: Transaction, p: Any) -> Any:
    return (
        row
        for row in tx.rows("notifications").values()
        if row["org_id"] in p["orgs"] and row["incident_id"] in p["incidents"] and row["event_type"] in _ANNOUNCING
    )


def _pin(tx: Transaction, p: Any) -> Rows:
    for row in _announcements(tx, p):
        if row["status"] == "pending":
            tx.lock("notifications", row["id"])
    return Rows()


def _heard(tx: Transaction, p: Any) -> Rows:
    return Rows((row["incident_id"], row["channel_id"], row["status"], row["unknown"]) for row in _announcements(tx, p))


def _candidates(tx: Transaction, p: Any) -> Rows:
    return Rows(
        (channel["org_id"], id_, channel["enabled"], True)
        for id_, channel in sorted(tx.rows("channels").items())
        if channel["org_id"] in p["orgs"]
    )


def _delete(tx: Transaction, p: Any) -> Rows:
    for no in p["ids"]:
        tx.put("outbox", no, None)
    return Rows()


STATEMENTS: dict[str, Statement] = {
    outbox._HOLD: _hold,
    outbox._TAKE: _take,
    outbox._NUMBER: _number,
    outbox._UNNUMBERED: _unnumbered,
    outbox._PIN_ANNOUNCEMENTS: _pin,
    outbox._ANNOUNCEMENTS: _heard,
    outbox._CANDIDATES: _candidates,
    outbox._DELETE: _delete,
}
