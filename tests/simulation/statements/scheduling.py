"""Leases and what the loader reads."""

from __future__ import annotations

from typing import Any

from common.clock import from_ms
from common.store import leases, schedule
from tests.simulation.database import Guard, Rows, Statement, Transaction


def _acquire(tx: Transaction, p: Any) -> Rows:
    name, now_s = p["name"], tx.server.now_s()
    tx.lock("leases", name)
    lease = tx.get("leases", name)
    if lease is None:
        dispatched_to = from_ms(int(now_s * 1000))
        tx.put("leases", name, {"holder": p["holder"], "epoch": 1, "expires_at": now_s + p["ttl_s"],
                                "dispatched_to": dispatched_to})  # fmt: skip
        return Rows([(1, dispatched_to)])
    if lease["expires_at"] >= now_s and not tx.lacks(Guard.LEASE_EXPIRY):
        return Rows()
    epoch = lease["epoch"] + 1
    tx.put("leases", name, lease | {"holder": p["holder"], "epoch": epoch, "expires_at": now_s + p["ttl_s"]})
    return Rows([(epoch, lease["dispatched_to"])])


def _ours(tx: Transaction, p: Any) -> Any:
    tx.lock("leases", p["name"])
    lease = tx.get("leases", p["name"])
    if lease is None or tx.lacks(Guard.EPOCH):
        return lease
    return lease if (lease["holder"], lease["epoch"]) == (p["holder"], p["epoch"]) else None


def _renew(tx: Transaction, p: Any) -> Rows:
    lease = _ours(tx, p)
    if lease is None:
        return Rows()
    dispatched_to = max(lease["dispatched_to"], p["dispatched_to"])
    expires_at = tx.server.now_s() + p["ttl_s"]
    tx.put("leases", p["name"], lease | {"expires_at": expires_at, "dispatched_to": dispatched_to})
    return Rows([(lease["epoch"],)])


def _release(tx: Transaction, p: Any) -> Rows:
    lease = _ours(tx, p)
    if lease is not None:
        dispatched_to = max(lease["dispatched_to"], p["dispatched_to"])
        expires_at = tx.server.now_s() - 1
        tx.put("leases", p["name"], lease | {"expires_at": expires_at, "dispatched_to": dispatched_to})
    return Rows()


def _timing(tx: Transaction, monitor: Any) -> tuple[Any, ...]:
    slow = [key[1] for key, vote in tx.rows("votes").items() if key[0] == monitor.monitor_no and vote[4]]
    return (
        monitor.monitor_no, monitor.monitor_id, monitor.config_version, monitor.interval_s, from_ms(0),
        monitor.locations, True, slow or None,
    )  # fmt: skip


def _active(tx: Transaction, p: Any) -> Rows:
    monitors = tx.rows("monitors")
    return Rows(_timing(tx, monitors[no]) for no in sorted(monitors) if no > p["after"])


def _confirmations(tx: Transaction, p: Any) -> Rows:
    after, until = p["after"], p["until"]
    monitors = tx.rows("monitors")
    return Rows(
        (key[0], key[1], monitors[key[0]].config_version, vote[11])
        for key, vote in tx.rows("votes").items()
        if vote[11] is not None and after < vote[11] <= until
    )


def _note_lanes(tx: Transaction, p: Any) -> Rows:
    tx.after_commit.append(lambda: tx.server.notify(schedule.LANES_CHANNEL, p["payload"]))
    return Rows()


STATEMENTS: dict[str, Statement] = {
    leases._ACQUIRE: _acquire,
    leases._RENEW: _renew,
    leases._RELEASE: _release,
    schedule._FLOOR: lambda _tx, _p: Rows([("1",)]),
    schedule._LOCATIONS: lambda tx, _p: Rows(tx.rows("locations").items()),
    schedule._ACTIVE: _active,
    schedule._CHANGED: lambda _tx, _p: Rows(),  # monitors do not change during a schedule
    schedule._CONFIRMATIONS: _confirmations,
    schedule._NOTE_LANES: _note_lanes,
}
