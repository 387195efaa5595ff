"""Incidents, their timeline and the outbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from common.store import incidents
from tests.simulation.database import Guard, Rows, Statement, Transaction

_OPENING = ("ids", "orgs", "monitors", "keys", "titles", "severities", "priorities", "reopened", "correlations", "ats")


def _open_key(tx: Transaction, org: str, key: str) -> Any:
    """The open incident of a dedup_key, if there is one."""
    return next(
        (
            row
            for row in tx.rows("incidents").values()
            if row["status"] != "resolved" and row["dedup_key"] == key and row["org_id"] == org
        ),
        None,
    )


def _open(tx: Transaction, p: Any) -> Rows:
    opened = Rows()
    for id_, org, monitor, key, title, severity, priority, reopened, correlation, at in zip(
        *(p[name] for name in _OPENING), strict=True
    ):
        if not tx.lacks(Guard.ONE_OPEN):
            if _open_key(tx, org, key) is not None:
                continue
            tx.lock("incidents_one_open", (org, key))
        tx.put("incidents", id_, {
            "id": id_, "org_id": org, "monitor_id": monitor, "dedup_key": key, "title": title, "severity": severity,
            "priority": priority, "status": "open", "version": 1, "opened_at": at, "resolved_at": None,
            "reopened_from": reopened, "correlation_id": correlation, "no": tx.server.next_no(),
        })  # fmt: skip
        opened.append((id_,))
    return opened


def _change(tx: Transaction, p: Any) -> Rows:
    changed = Rows()
    names = ("ids", "statuses", "severities", "priorities", "titles", "ats")
    for id_, status, severity, priority, title, at in zip(*(p[name] for name in names), strict=True):
        row = tx.get("incidents", id_)
        if row is None or row["status"] == "resolved":
            continue
        tx.lock("incidents", id_)
        tx.put("incidents", id_, row | {
            "version": row["version"] + 1, "status": str(status or row["status"]),
            "severity": severity or row["severity"],
            "priority": priority or row["priority"], "title": title or row["title"],
            "resolved_at": at if status == "resolved" else row["resolved_at"],
        })  # fmt: skip
        changed.append((id_,))
    return changed


def _record(tx: Transaction, p: Any) -> Rows:
    names = ("ids", "incidents", "types", "announced", "correlations", "ats")
    for id_, incident_id, type_, announced, correlation, at in zip(*(p[name] for name in names), strict=True):
        row = tx.get("incidents", incident_id)
        tx.put("events", id_, {
            "id": id_, "org_id": row["org_id"], "incident_id": incident_id, "version": row["version"],
            "type": str(type_), "correlation_id": correlation, "at": at, "seq": None,
            "snapshot": {"incident": _document(row), "monitor": None} if announced else None,
        })  # fmt: skip
    return Rows()


def _document(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not isinstance(value, datetime)}


def _announce(tx: Transaction, p: Any) -> Rows:
    if tx.lacks(Guard.OUTBOX_IN_TRANSACTION):
        rows = [tx.get("events", id_) for id_ in p["ids"]]
        tx.after_commit.append(lambda: tx.server.apply([_outbox(tx, row) for row in rows], durable=True))
        return Rows()
    for id_ in p["ids"]:
        table, no, _, row = _outbox(tx, tx.get("events", id_))
        tx.put(table, no, row)
    return Rows()


def _outbox(tx: Transaction, event: dict[str, Any]) -> tuple[str, int, None, dict[str, Any]]:
    no = tx.server.next_no()
    row = {"id": no, "org_id": event["org_id"], "incident_id": event["incident_id"], "event_id": event["id"],
           "type": event["type"]}  # fmt: skip
    return ("outbox", no, None, row)


def _notify(tx: Transaction, _p: Any) -> Rows:
    tx.after_commit.append(lambda: tx.server.notify(incidents.OUTBOX_CHANNEL, ""))
    return Rows()


def _adopt(tx: Transaction, p: Any) -> Rows:
    found = [_open_key(tx, org, key) for org, key in zip(p["orgs"], p["keys"], strict=True)]
    return Rows((row["org_id"], row["dedup_key"], row["id"]) for row in found if row is not None)


def _commit_durably(tx: Transaction, _p: Any) -> Rows:
    tx.durable = True
    return Rows()


STATEMENTS: dict[str, Statement] = {
    incidents._OPEN: _open,
    incidents._CHANGE: _change,
    incidents._RECORD: _record,
    incidents._ANNOUNCE: _announce,
    incidents._NOTIFY: _notify,
    incidents._ADOPT: _adopt,
    "SET LOCAL synchronous_commit = on": _commit_durably,
}
