"""Votes, states and results: what a writer's flush reads and writes.

A vote is a tuple in the order of the store's columns: monitor_no, location, version, config_floor, slow, health,
last_slot, not_up, down, up, not_down, confirm_at, reason, latency_ms, observed_at.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from common.clock import from_ms
from common.store import result_log, votes
from tests.simulation.database import Guard, Rows, Statement, Transaction

VERSION, SLOW, HEALTH, LAST_SLOT, CONFIRM_AT = 2, 4, 5, 6, 11


def new_vote(monitor_no: int, location: int) -> tuple[Any, ...]:
    """The row of a vote that nobody has cast yet."""
    return (monitor_no, location, 1, 0, False, 0, from_ms(0), 0, 0, 0, 0, None, 0, -1.0, from_ms(0))


def new_state() -> dict[str, Any]:
    """The row of a new monitor's state."""
    return {"version": 1, "health": 0, "worst": None, "open_incident": None, "last_resolved": None, "since": from_ms(0),
            "flapping": False, "turns": []}  # fmt: skip


def _ints(literal: str) -> list[Any]:
    """The numbers of an array literal."""
    if "," not in literal:
        return [None if literal == "{NULL}" else int(literal[1:-1])]
    return [None if part == "NULL" else int(part) for part in literal[1:-1].split(",")]


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


def _read(tx: Transaction, p: Any) -> Rows:
    rows = Rows()
    for key in zip(_ints(p["monitors"]), _ints(p["locations"]), strict=True):
        vote = tx.get("votes", key)
        if vote is not None:
            rows.append((*vote, _shown_health(tx, key[0])))
    return rows


def _shown_health(tx: Transaction, monitor_no: int) -> int:
    state = tx.get("states", monitor_no)
    return 0 if state["flapping"] else int(state["health"])


def _commit(tx: Transaction, p: Any) -> Rows:
    columns = [
        _ints(p[name])
        for name in ("monitors", "locations", "versions", "slots", "healths", "not_ups", "downs", "ups", "not_downs",
                     "confirms", "reasons", "observeds", "slows")
    ]  # fmt: skip
    latencies = p["latencies"][1:-1].split(",")
    won = Rows()
    for no, location, version, slot, health, not_up, down, up, not_down, confirm, reason, seen, slow, latency in sorted(
        zip(*columns, latencies, strict=True)
    ):
        key = (no, location)
        vote = tx.get("votes", key)
        if vote is None or (vote[VERSION] != version and not tx.lacks(Guard.VOTE_VERSION)):
            continue
        if not tx.try_lock("votes", key):
            continue
        row = (no, location, vote[VERSION] + 1, vote[3], bool(slow), health, from_ms(slot), not_up, down, up, not_down,
               _moment(confirm), reason, float(latency), from_ms(seen))  # fmt: skip
        tx.put("votes", key, row)
        won.append(key)
    return won


def _lock_states(tx: Transaction, p: Any) -> Rows:
    rows = Rows()
    for no in sorted(p["monitors"]):
        state, monitor = tx.get("states", no), tx.get("monitors", no)
        if state is None:
            continue
        if not tx.lacks(Guard.STATE_LOCK):
            tx.lock("states", no)
            state = tx.get("states", no)
        rows.append((no, monitor.monitor_id, monitor.org_id, monitor.name, "critical", state["health"], state["worst"],
                     state["open_incident"], state["last_resolved"], state["since"], state["flapping"],
                     state["turns"]))  # fmt: skip
    return rows


def _all_of(tx: Transaction, p: Any) -> Rows:
    wanted = set(p["monitors"])
    return Rows((*vote, _shown_health(tx, key[0])) for key, vote in tx.rows("votes").items() if key[0] in wanted)


def _save_states(tx: Transaction, p: Any) -> Rows:
    names = ("monitors", "healths", "worsts", "incidents", "resolved", "ats", "flapping", "turns")
    for no, health, worst, incident, resolved, at, flapping, turns in zip(*(p[name] for name in names), strict=True):
        state = tx.get("states", no)
        since = state["since"] if state["health"] == health else at
        tx.put("states", no, {"version": state["version"] + 1, "health": health, "worst": worst,
                              "open_incident": incident, "last_resolved": resolved, "since": since,
                              "flapping": flapping, "turns": [] if turns == "{}" else _ints(turns)})  # fmt: skip
    return Rows()


def _append(tx: Transaction, p: Any) -> Rows:
    names = ("monitors", "locations", "slots", "verdicts", "kinds", "reasons")
    for no, location, slot, verdict, kind, reason in zip(*(_ints(p[name]) for name in names), strict=True):
        key: Any = (no, location, slot)
        if tx.lacks(Guard.RESULT_KEY):
            key = (*key, tx.server.next_no())
        elif tx.get("results", key) is not None:
            continue
        else:
            tx.lock("results", key)
        tx.put("results", key, (verdict, kind, reason))
    return Rows()


STATEMENTS: dict[str, Statement] = {
    votes._READ: _read,
    votes._COMMIT: _commit,
    votes._LOCK_STATES: _lock_states,
    votes._ALL_OF: _all_of,
    votes._SAVE_STATES: _save_states,
    result_log._APPEND: _append,
    result_log._EXPLAIN: lambda _tx, _p: Rows(),  # messages decide nothing
}
