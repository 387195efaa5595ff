"""The ledger: writing rows, claiming what leaves alone, suppressing what waits for a disabled channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from common.store import fallbacks, ledger, notifications
from tests.simulation.database import Guard, Rows, Statement, Transaction
from tests.simulation.statements.literals import items, texts

_NEW = ("ids", "orgs", "events", "incidents", "channels", "types", "reasons", "dues", "routes", "groups")


def _write(tx: Transaction, p: Any) -> Rows:
    known = {(row["event_id"], row["channel_id"]) for row in tx.rows("notifications").values()}
    columns = [items(p[name]) for name in _NEW]
    for id_, org, event, incident, channel, type_, reason, due, route, group in zip(*columns, strict=True):
        if not tx.lacks(Guard.LEDGER_KEY):
            if (event, channel) in known:
                continue
            tx.lock("notifications_once", (event, channel))
            known.add((event, channel))
        tx.put("notifications", id_, {
            "id": id_, "no": tx.server.next_no(), "org_id": org, "event_id": event, "incident_id": incident,
            "channel_id": channel, "event_type": type_, "status": "pending" if reason is None else "suppressed",
            "reason": reason, "attempts": 0, "unknown": False, "next_attempt_at": datetime.fromisoformat(due),
            "first_attempt_at": None, "token": None, "leased_until": None, "route_id": route, "group_key": group,
            "message_id": None, "sent_at": None,
        })  # fmt: skip
    return Rows()


def _group_states(tx: Transaction, p: Any) -> Rows:
    found = Rows()
    for channel, group in zip(items(p["channels"]), texts(p["groups"]), strict=True):
        rows = [r for r in tx.rows("notifications").values() if (r["channel_id"], r["group_key"]) == (channel, group)]
        waiting = max((r for r in rows if r["status"] == "pending"), key=lambda r: r["no"], default=None)
        told_at = max((r["sent_at"] for r in rows if r["sent_at"] is not None), default=None)
        if waiting is not None or told_at is not None:
            names = ("next_attempt_at", "attempts", "id")
            next_at, attempts, id_ = (waiting[name] for name in names) if waiting else (None, None, None)
            found.append((channel, group, next_at, attempts, told_at, id_))
    return found


def _pin(tx: Transaction, p: Any) -> Rows:
    pinned = Rows()
    for id_ in items(p["ids"]):
        row = tx.get("notifications", id_)
        if row["status"] == "pending" and row["attempts"] == 0 and tx.try_lock("notifications", id_):
            pinned.append((id_,))
    return pinned


def claimable(tx: Transaction, now: Any) -> list[dict[str, Any]]:
    """In order of `no`: pending, due, not leased, and the oldest pending one of its (incident, channel)."""
    oldest: dict[tuple[str, str], int] = {}
    pending = [row for row in tx.rows("notifications").values() if row["status"] == "pending"]
    pending.sort(key=lambda row: row["no"])
    for row in pending:
        oldest.setdefault((row["incident_id"], row["channel_id"]), row["no"])
    return [
        row
        for row in pending
        if row["next_attempt_at"] <= now
        and (row["leased_until"] is None or row["leased_until"] <= now or tx.lacks(Guard.CLAIM_LEASE))
        and (row["no"] == oldest[row["incident_id"], row["channel_id"]] or tx.lacks(Guard.CLAIM_ORDER))
    ]


def lease(tx: Transaction, chosen: Iterable[tuple[dict[str, Any], str, str | None]], p: Any) -> Rows:
    """`chosen` are rows with their tokens and messages."""
    claimed = Rows()
    for row, token, message_id in chosen:
        first_attempt_at = row["first_attempt_at"] or p["now"]
        tx.put("notifications", row["id"], row | {
            "token": token, "leased_until": p["leased_until"], "attempts": row["attempts"] + 1,
            "first_attempt_at": first_attempt_at, "unknown": row["unknown"] or row["token"] is not None,
            "message_id": message_id,
        })  # fmt: skip
        channel, event = tx.get("channels", row["channel_id"]), tx.get("events", row["event_id"])
        claimed.append((
            row["id"], row["org_id"], row["incident_id"], row["channel_id"], row["event_type"], row["attempts"] + 1,
            first_attempt_at, token, "webhook", channel["config"], channel["secrets"], channel["failures"],
            channel["failing_since"], event["id"], event["at"], event["snapshot"], event["correlation_id"],
            message_id, row["route_id"],
        ))  # fmt: skip
    return claimed


def _claim_healthy(tx: Transaction, p: Any, wanted: Callable[[dict[str, Any]], bool]) -> Rows:
    busy = dict(zip(p["busy"], p["busy_counts"], strict=True))
    chosen = []
    for row in claimable(tx, p["now"]):
        channel = tx.get("channels", row["channel_id"])
        alone = row["group_key"] is None and row["message_id"] is None
        if not alone or not wanted(row) or not channel["enabled"] or channel["failures"]:
            continue
        taken = busy.get(row["channel_id"], 0)
        if taken < p["per_channel"] and len(chosen) < p["limit"] and tx.try_lock("notifications", row["id"]):
            busy[row["channel_id"]] = taken + 1
            chosen.append((row, f"token-{tx.server.next_no()}", None))
    return lease(tx, chosen, p)


def _claim_due(tx: Transaction, p: Any) -> Rows:
    return _claim_healthy(tx, p, lambda _row: True)


def _claim_named(tx: Transaction, p: Any) -> Rows:
    return _claim_healthy(tx, p, lambda row: row["id"] in p["ids"])


def _suppress_disabled(tx: Transaction, p: Any) -> Rows:
    done = Rows()
    for id_, row in tx.rows("notifications").items():
        leased = row["leased_until"] is not None and row["leased_until"] > p["now"]
        if row["status"] != "pending" or leased or tx.get("channels", row["channel_id"])["enabled"]:
            continue
        if tx.try_lock("notifications", id_):
            unknown = row["unknown"] or row["token"] is not None
            tx.put("notifications", id_, row | {"status": "suppressed", "reason": p["reason"], "unknown": unknown,
                                                "token": None, "leased_until": None})  # fmt: skip
            done.append((id_,))
    return done


def _waiting(tx: Transaction, p: Any) -> Rows:
    """All of them fit into one look."""
    pending = {row["channel_id"] for row in tx.rows("notifications").values() if row["status"] == "pending"}
    return Rows((channel,) for channel in sorted(pending) if channel > p["after"])


def _no_fallbacks(_tx: Transaction, _p: Any) -> Rows:
    """No channel here has a fallback."""
    return Rows()


STATEMENTS: dict[str, Statement] = {
    ledger._WRITE: _write,
    ledger._GROUPS: _group_states,
    ledger._PIN: _pin,
    notifications._CLAIM_DUE: _claim_due,
    notifications._CLAIM_NAMED: _claim_named,
    notifications._WAITING: _waiting,
    notifications._SUPPRESS_DISABLED: _suppress_disabled,
    fallbacks._TARGETS: _no_fallbacks,
}
