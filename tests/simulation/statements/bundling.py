"""Claims of what leaves together, and of failing channels' trials. No channel here has a cap."""

from __future__ import annotations

from typing import Any

from common.store import bundles
from tests.simulation.database import Guard, Rows, Statement, Transaction
from tests.simulation.statements.ledger import claimable, lease

_NO_CAP = (None, None, None, 0)


def _free(tx: Transaction, row: Any, now: Any) -> bool:
    unleased = row["leased_until"] is None or row["leased_until"] <= now or tx.lacks(Guard.CLAIM_LEASE)
    return bool(row["status"] == "pending" and unleased)


def _due(tx: Transaction, channel: str, now: Any) -> list[Any]:
    """What is due there and leaves, or left, together, in order."""
    rows = [
        row
        for row in tx.rows("notifications").values()
        if row["channel_id"] == channel
        and (row["group_key"] is not None or row["message_id"] is not None)
        and row["next_attempt_at"] <= now
        and _free(tx, row, now)
    ]
    return sorted(rows, key=lambda row: row["no"])


def _look(tx: Transaction, p: Any) -> Rows:
    found = Rows()
    for id_ in p["channels"]:
        channel = tx.get("channels", id_)
        healthy = channel["enabled"] and not channel["failures"] and id_ not in p["full"]
        if healthy and _due(tx, id_, p["now"]) and tx.try_lock("channels", id_):
            found.append((id_, *_NO_CAP))
    return found


def _channels_of(tx: Transaction, p: Any) -> Rows:
    rows = tx.rows("notifications")
    return Rows((channel,) for channel in sorted({rows[id_]["channel_id"] for id_ in p["ids"] if id_ in rows}))


def _tried_in(tx: Transaction, row: Any) -> Any:
    if tx.lacks(Guard.MESSAGE_ID):
        return row["id"] if row["attempts"] else None
    return row["message_id"] or (row["id"] if row["first_attempt_at"] is not None else None)


def _waiting(tx: Transaction, row: Any) -> tuple[Any, ...]:
    older = sum(
        other["status"] == "pending" and other["no"] < row["no"]
        for other in tx.rows("notifications").values()
        if (other["incident_id"], other["channel_id"]) == (row["incident_id"], row["channel_id"])
    )
    older = 0 if tx.lacks(Guard.CLAIM_ORDER) else older
    key = row["group_key"]
    return (row["id"], row["no"], row["incident_id"], key, _tried_in(tx, row), row["next_attempt_at"], older)


def _look_failing(tx: Transaction, p: Any) -> Rows:
    found = Rows()
    for id_, channel in tx.rows("channels").items():
        ready = channel["retry_at"] is None or channel["retry_at"] <= p["now"]
        if not channel["failures"] or not channel["enabled"] or not ready or not tx.try_lock("channels", id_):
            continue
        trials = [row for row in claimable(tx, p["now"]) if row["channel_id"] == id_]
        for row in sorted(trials, key=lambda row: (row["next_attempt_at"], row["no"]))[:1]:
            found.append((id_, *_NO_CAP, *_waiting(tx, row)[:-1], 0))
    return found


def _read(tx: Transaction, p: Any) -> Rows:
    return Rows((id_, *_waiting(tx, row)) for id_ in p["channels"] for row in _due(tx, id_, p["now"])[: p["window"]])


def _read_messages(tx: Transaction, p: Any) -> Rows:
    wanted = set(zip(p["channels"], p["messages"], strict=True))
    return Rows(
        (row["channel_id"], *_waiting(tx, row))
        for row in tx.rows("notifications").values()
        if (row["channel_id"], row["message_id"]) in wanted and row["status"] == "pending"
    )


def _take(tx: Transaction, p: Any) -> Rows:
    wanted = list(zip(p["ids"], p["tokens"], p["messages"], strict=True))
    held, torn = [], set()
    for id_, token, message_id in wanted:
        row = tx.get("notifications", id_)
        if _free(tx, row, p["now"]) and tx.try_lock("notifications", id_):
            held.append((row, token, message_id))
        else:
            torn.add(token)
    whole = [(row, token, message_id) for row, token, message_id in held if token not in torn]
    return lease(tx, whole, p)


def _count(tx: Transaction, p: Any) -> Rows:
    for id_, retry_at in zip(p["channels"], p["retries"], strict=True):
        row = tx.get("channels", id_)
        tx.put("channels", id_, row | {"retry_at": retry_at or row["retry_at"]})
    return Rows()


STATEMENTS: dict[str, Statement] = {
    bundles._LOOK: _look,
    bundles._CHANNELS_OF: _channels_of,
    bundles._LOOK_FAILING: _look_failing,
    bundles._READ: _read,
    bundles._READ_MESSAGES: _read_messages,
    bundles._TAKE: _take,
    bundles._COUNT: _count,
}
