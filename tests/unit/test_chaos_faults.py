"""Faults that never take hold count for nothing: tried against processes, disks and links that are not hurt."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from tests.chaos import schedule
from tests.chaos.events import BROKEN_OFF, IN_VAIN, TOOK_HOLD, Event, Fault
from tests.chaos.faults import network, postgres, processes, queues, receivers
from tests.chaos.faults.registry import FAULTS
from tests.chaos.faults.site import Impossible, InVain, Site
from tests.chaos.plan import quick
from tests.chaos.receiver import FRIENDLY
from tests.chaos.run import Outcome
from tests.chaos.schedule import Schedule
from tests.chaos.verdict import holds, in_vain

PLAN = quick(1, fault="failpoint", trials=1)


@dataclass
class Record:
    """The history, in memory."""

    events: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        self.events.append(event)

    def outcomes(self) -> list[str]:
        return [e.outcome for e in self.events if isinstance(e, Fault) and not e.begins]


class Fleet:
    """Processes that live and never come by a failpoint, unless they `fall`."""

    def __init__(self, *names: str, falls: bool = False, dies: bool = False) -> None:
        self.names, self.falls, self.dies = names, falls, dies
        self.orders: set[str] = set()

    def living(self, role: str = "") -> list[str]:
        return [name for name in self.names if name.startswith(role)]

    def arm(self, name: str, _point: str, _chance: float) -> None:
        self.orders.add(name)

    def armed(self, name: str) -> bool:
        if self.falls:
            self.orders.discard(name)
        return name in self.orders

    def disarm(self, name: str) -> bool:
        waits = name in self.orders
        self.orders.discard(name)
        return waits

    def kill(self, _name: str) -> bool:
        return self.dies

    def freeze(self, _name: str) -> bool:
        return self.dies


def site(fleet: Fleet | None = None, **world: Any) -> tuple[Site, Record]:
    record = Record()
    plan = SimpleNamespace(longest_s=0.1, silence_s=0.05, profile="quick")
    fake = SimpleNamespace(history=record, fleet=fleet or Fleet(), plan=plan, **world)
    return Site(cast("Any", fake), random.Random(1), threading.Event()), record


IDLE = SimpleNamespace(touched=0, mode=lambda _mode: None, cut=lambda: None)
NOTHING_RUNS = SimpleNamespace(pids=dict)
UNTROUBLED: list[tuple[str, Callable[[Site], None], dict[str, Any]]] = [
    ("a failpoint by which nobody comes", processes.fall, {"fleet": Fleet("worker-1")}),
    ("a failpoint of a loop by which nobody comes",
     lambda s: processes.fall_together(s, "silences"), {"fleet": Fleet("notifier-1", "notifier-2")}),
    ("a failpoint, and nobody runs", processes.fall, {}),
    ("a kill, and nobody runs", processes.kill, {}),
    ("a kill of one who has just ended", processes.kill, {"fleet": Fleet("worker-1")}),
    ("a freeze, and nobody runs", processes.freeze, {}),
    ("a freeze of one who has just ended", processes.freeze, {"fleet": Fleet("worker-1")}),
    ("a link through which nothing goes", network.latency, {"proxies": dict.fromkeys(network.LINKS, IDLE)}),
    ("a cut of no connection", network.cut, {"proxies": dict.fromkeys(network.LINKS, IDLE)}),
    ("a receiver whom nobody calls", lambda s: receivers.misbehave(s, "error"),
     {"receiver": SimpleNamespace(mistreated=3, treat=lambda *_: None)}),
    ("a database that does not run", postgres.stop_immediately, {"servers": NOTHING_RUNS}),
    ("a backend of a database that does not run", postgres.kill_backend, {"servers": NOTHING_RUNS}),
    ("a queue that does not run", queues.kill_redis, {"servers": NOTHING_RUNS}),
    ("a disk that is not full", postgres.fill_disk, {"disk": SimpleNamespace(
        problem="", fill=lambda: None, free=lambda: 1 << 20, relieve=lambda: None)}),
]  # fmt: skip


@pytest.mark.parametrize(("inflict", "world"), [case[1:] for case in UNTROUBLED], ids=[case[0] for case in UNTROUBLED])
def test_what_never_takes_hold_says_so(inflict: Callable[[Site], None], world: dict[str, Any]) -> None:
    place, record = site(**world)
    with pytest.raises(InVain):
        inflict(place)
    assert set(record.outcomes()) <= {IN_VAIN}


def test_what_takes_hold_says_so_too() -> None:
    for inflict in (processes.fall, processes.kill):
        place, record = site(Fleet("worker-1", falls=True, dies=True))
        inflict(place)
        assert record.outcomes() == [TOOK_HOLD]


def test_a_fault_whose_object_breaks_half_way_is_told_apart() -> None:
    place, record = site()
    with pytest.raises(psycopg.OperationalError), place.during("postgres-lock", "postgres"):
        raise psycopg.OperationalError("gone")
    assert record.outcomes() == [BROKEN_OFF]


def run(monkeypatch: pytest.MonkeyPatch, *ends: Exception | None) -> schedule.Inflicted:
    """One trial of a fault that ends so at each attempt."""
    answers = iter(ends)

    def inflict(_site: Site) -> None:
        end = next(answers)
        if end is not None:
            raise end

    monkeypatch.setitem(cast("Any", FAULTS), "failpoint", inflict)
    inflicted = Schedule(PLAN, cast("Any", SimpleNamespace()), lambda _line: None)
    inflicted._inflict("failpoint", site()[0])
    return inflicted.inflicted


def test_a_fault_in_vain_is_tried_again_and_counts_when_it_takes_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, InVain("nobody"), psycopg.OperationalError("away"), None)
    assert (found.done["failpoint"], found.in_vain["failpoint"]) == (1, 2)


def test_a_fault_that_is_always_in_vain_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, *[InVain("nobody came by")] * 9)
    assert (found.done["failpoint"], found.in_vain["failpoint"]) == (0, schedule._ATTEMPTS)
    assert "nobody came by" in found.why["failpoint"]


def test_what_a_machine_cannot_do_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, Impossible("no compiler"))
    assert found.impossible == {"failpoint": "no compiler"} and not found.in_vain


def test_a_run_of_one_fault_that_never_took_hold_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    report = SimpleNamespace(violations=[])
    vain = run(monkeypatch, *[InVain("nobody came by")] * 9)
    outcome = Outcome(cast("Any", report), vain, Path(), 1.0, (0, 0))
    assert not holds(outcome) and "nobody came by" in in_vain(outcome)
    done = run(monkeypatch, None)
    assert holds(Outcome(cast("Any", report), done, Path(), 1.0, (0, 0)))


def test_friendly_receivers_are_among_those_that_misbehave() -> None:
    treated: list[str] = []
    receiver = SimpleNamespace(mistreated=0, treat=lambda path, weights: treated.append(path) if weights else None)
    for seed in range(20):
        place, _ = site(receiver=receiver)
        place.chance.seed(seed)
        with pytest.raises(InVain):
            receivers.misbehave(place, "error")
    assert set(FRIENDLY) <= set(treated)
