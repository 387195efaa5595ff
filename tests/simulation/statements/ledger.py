"""The ledger: writing rows, claiming them, suppressing what waits for a disabled channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from common.store import bundles, fallbacks, ledger, notifications
from tests.simulation.database import Guard, Rows, Statement, Transaction
from tests.simulation.statements.literals import items

_NEW = ("ids", "orgs", "events", "incidents", "channels", "types", "reasons", "dues")


def _write(tx: Transaction, p: Any) -> Rows:
    known = {(row["event_id"], row["channel_id"]) for row in tx.rows("notifications").values()}
    columns = [items(p[name]) for name in _NEW]
    for id_, org, event, incident, channel, type_, reason, due in zip(*columns, strict=True):
        if not tx.lacks(Guard.LEDGER_KEY):
            if (event, channel) in known:
                continue
            tx.lock("notifications_once", (event, channel))
            known.add((event, channel))
        tx.put("notifications", id_, {
            "id": id_, "no": tx.server.next_no(), "org_id": org, "event_id": event, "incident_id": incident,
            "channel_id": channel, "event_type": type_, "status": "pending" if reason is None else "suppressed",
            "reason": reason, "attempts": 0, "unknown": False, "next_attempt_at": datetime.fromisoformat(due),
            "first_attempt_at": None, "token": None, "leased_until": None,
        })  # fmt: skip
    return Rows()


def _claimable(tx: Transaction, now: Any) -> list[dict[str, Any]]:
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


def _lease(tx: Transaction, chosen: Iterable[tuple[dict[str, Any], str]], p: Any) -> Rows:
    """`chosen` are rows with their tokens."""
    claimed = Rows()
    for row, token in chosen:
        first_attempt_at = row["first_attempt_at"] or p["now"]
        tx.put("notifications", row["id"], row | {
            "token": token, "leased_until": p["leased_until"], "attempts": row["attempts"] + 1,
            "first_attempt_at": first_attempt_at, "unknown": row["unknown"] or row["token"] is not None,
        })  # fmt: skip
        channel, event = tx.get("channels", row["channel_id"]), tx.get("events", row["event_id"])
        claimed.append((
            row["id"], row["org_id"], row["incident_id"], row["channel_id"], row["event_type"], row["attempts"] + 1,
            first_attempt_at, token, "webhook", channel["config"], channel["secrets"], channel["failures"],
            channel["failing_since"], event["id"], event["at"], event["snapshot"], event["correlation_id"],
        ))  # fmt: skip
    return claimed


def _claim_healthy(tx: Transaction, p: Any, wanted: Callable[[dict[str, Any]], bool]) -> Rows:
    busy = dict(zip(p["busy"], p["busy_counts"], strict=True))
    chosen = []
    for row in _claimable(tx, p["now"]):
        channel = tx.get("channels", row["channel_id"])
        if not wanted(row) or not channel["enabled"] or channel["failures"]:
            continue
        taken = busy.get(row["channel_id"], 0)
        if taken < p["per_channel"] and len(chosen) < p["limit"] and tx.try_lock("notifications", row["id"]):
            busy[row["channel_id"]] = taken + 1
            chosen.append((row, f"token-{tx.server.next_no()}"))
    return _lease(tx, chosen, p)


def _claim_due(tx: Transaction, p: Any) -> Rows:
    return _claim_healthy(tx, p, lambda _row: True)


def _claim_named(tx: Transaction, p: Any) -> Rows:
    return _claim_healthy(tx, p, lambda row: row["id"] in p["ids"])


def _no_bundles(_tx: Transaction, _p: Any) -> Rows:
    """No channel here has groups or a cap."""
    return Rows()


def _look_failing(tx: Transaction, p: Any) -> Rows:
    found = Rows()
    for id_, channel in tx.rows("channels").items():
        ready = channel["retry_at"] is None or channel["retry_at"] <= p["now"]
        if not channel["failures"] or not channel["enabled"] or not ready or not tx.try_lock("channels", id_):
            continue
        trials = [row for row in _claimable(tx, p["now"]) if row["channel_id"] == id_]
        for row in sorted(trials, key=lambda row: (row["next_attempt_at"], row["no"]))[:1]:
            tried_in = row["id"] if row["attempts"] else None
            trial = (row["id"], row["no"], row["incident_id"], None, tried_in, row["next_attempt_at"], 0)
            found.append((id_, None, None, None, 0, *trial))
    return found


def _take(tx: Transaction, p: Any) -> Rows:
    chosen = []
    for id_, token in zip(p["ids"], p["tokens"], strict=True):
        row = tx.get("notifications", id_)
        free = row["leased_until"] is None or row["leased_until"] <= p["now"] or tx.lacks(Guard.CLAIM_LEASE)
        if row["status"] == "pending" and free and tx.try_lock("notifications", id_):
            chosen.append((row, token))
    return _lease(tx, chosen, p)


def _count(tx: Transaction, p: Any) -> Rows:
    for id_, retry_at in zip(p["channels"], p["retries"], strict=True):
        tx.put("channels", id_, tx.get("channels", id_) | {"retry_at": retry_at})
    return Rows()


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
    notifications._CLAIM_DUE: _claim_due,
    notifications._CLAIM_NAMED: _claim_named,
    bundles._LOOK: _no_bundles,
    bundles._CHANNELS_OF: _no_bundles,
    notifications._WAITING: _waiting,
    bundles._LOOK_FAILING: _look_failing,
    bundles._TAKE: _take,
    bundles._COUNT: _count,
    notifications._SUPPRESS_DISABLED: _suppress_disabled,
    fallbacks._TARGETS: _no_fallbacks,
}
