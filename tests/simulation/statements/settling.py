"""What came of attempts: settle, count the channel's failures, follow what died unheard."""

from __future__ import annotations

from typing import Any

from common.store import following, notices, reminders, settlements, silenced
from tests.simulation.database import Guard, Rows, Statement, Transaction


def _lock_channels(tx: Transaction, p: Any) -> Rows:
    for channel in p["channels"]:
        tx.lock("channels", channel)
    return Rows()


def _settle(tx: Transaction, p: Any) -> Rows:
    names = ("ids", "tokens", "statuses", "reasons", "unknowns", "nexts", "sents")
    settled = Rows()
    for id_, token, status, reason, unknown, next_at, sent_at in zip(*(p[name] for name in names), strict=True):
        row = tx.get("notifications", id_)
        if row["token"] != token and not tx.lacks(Guard.LEASE_TOKEN):
            continue
        tx.lock("notifications", id_)
        tx.put("notifications", id_, row | {
            "status": status, "reason": reason, "unknown": row["unknown"] or unknown,
            "next_attempt_at": next_at or row["next_attempt_at"], "token": None, "leased_until": None,
            "sent_at": sent_at,
        })  # fmt: skip
        settled.append((id_,))
    return settled


def _record(tx: Transaction, p: Any) -> Rows:
    for id_, notification, outcome in zip(p["attempt_ids"], p["ids"], p["outcomes"], strict=True):
        tx.put("attempts", id_, (notification, outcome))
    return Rows()


def _save_health(tx: Transaction, p: Any) -> Rows:
    changed = Rows()
    names = ("channels", "changes", "well", "seen", "retries")
    for id_, change, well, seen, retry_at in zip(*(p[name] for name in names), strict=True):
        row = tx.get("channels", id_)
        applies = {"failing": row["failures"] == seen, "disable": row["enabled"]}.get(change, row["failures"] > 0)
        if not applies:
            continue
        new = row | {"retry_at": None if well else retry_at}
        if well:
            new |= {"failures": 0, "failing_since": None}
        elif change == "failing":
            new |= {"failures": row["failures"] + 1, "failing_since": row["failing_since"] or p["now"]}
        elif change == "disable":
            new |= {"enabled": False}
        tx.put("channels", id_, new)
        changed.append((id_, change, well))
    return changed


def _make_due(tx: Transaction, p: Any) -> Rows:
    for id_, row in tx.rows("notifications").items():
        tried = row["first_attempt_at"] is not None and row["token"] is None
        waits = row["status"] == "pending" and row["next_attempt_at"] > p["now"] and tried
        if row["channel_id"] in p["channels"] and waits and tx.try_lock("notifications", id_):
            tx.put("notifications", id_, row | {"next_attempt_at": p["now"]})
    return Rows()


def _give_up(tx: Transaction, p: Any) -> Rows:
    given_up, rows = Rows(), tx.rows("notifications")
    for incident, channel in zip(p["incidents"], p["channels"], strict=True):
        ours = [row for row in rows.values() if (row["incident_id"], row["channel_id"]) == (incident, channel)]
        if any(
            row["event_type"] in p["announcing"] and (row["status"] in ("pending", "sent") or row["unknown"])
            for row in ours
        ):
            continue
        for row in ours:
            if row["status"] == "pending" and row["event_type"] in p["following"]:
                tx.lock("notifications", row["id"])
                tx.put("notifications", row["id"], row | {"status": "suppressed", "reason": p["not_announced"]})
                given_up.append((row["id"],))
    return given_up


def _nothing_silenced(_tx: Transaction, _p: Any) -> Rows:
    """There are no silences here."""
    return Rows()


def _more(tx: Transaction, p: Any) -> Rows:
    now = p["now"]
    found = any(
        row["channel_id"] in p["channels"]
        and row["status"] == "pending"
        and row["next_attempt_at"] <= now
        and (row["leased_until"] is None or row["leased_until"] <= now)
        for row in tx.rows("notifications").values()
    )
    return Rows([(found,)])


def _move_routing(tx: Transaction, p: Any) -> Rows:
    for org in p["orgs"]:
        tx.lock("organizations", org)
        row = tx.get("organizations", org)
        tx.put("organizations", org, row | {"routing_version": row.get("routing_version", 0) + 1})
    return Rows()


def _gone_channels(tx: Transaction, p: Any) -> Rows:
    return Rows((id_, tx.get("channels", id_)["org_id"], "hook") for id_ in p["ids"])


def _no_reminders(_tx: Transaction, _p: Any) -> Rows:
    """No route here repeats."""
    return Rows()


STATEMENTS: dict[str, Statement] = {
    reminders._PLAN: _no_reminders,
    notices._MOVE_ROUTING: _move_routing,
    notices._CHANNELS: _gone_channels,
    settlements._LOCK_CHANNELS: _lock_channels,
    settlements._SETTLE: _settle,
    settlements._RECORD: _record,
    settlements._SAVE_HEALTH: _save_health,
    settlements._MAKE_DUE: _make_due,
    following._GIVE_UP: _give_up,
    silenced._SILENCING: _nothing_silenced,
    settlements._MORE: _more,
}
