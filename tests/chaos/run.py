"""One run: warm up, faults, heal, quiet, a last look. What came of it is for the checker."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests.chaos.checker import Report, check
from tests.chaos.events import Final, Phase, read_history
from tests.chaos.faults import receivers
from tests.chaos.faults.queues import relieve_memory
from tests.chaos.final import last_look, messages, queue_state, stuck
from tests.chaos.fleet import PROCESSES
from tests.chaos.heartbeats import Pulses
from tests.chaos.plan import Plan
from tests.chaos.proxy import PASS
from tests.chaos.responders import Responders
from tests.chaos.schedule import Inflicted, Schedule
from tests.chaos.signals import Signals
from tests.chaos.world import World
from tests.chaos.writes import Writers

Show = Callable[[str, float | None], None]
"""A line about what happens, and how far it has come (0 to 1)."""

_STEP_S = 0.05
_SAMPLE_EVERY_S = 5.0
_QUIET_EVERY_S = 0.5
_LOOKS = 10
#: A message that has not moved for so long does not move any more: a check has 2 s, a delivery is claimed at once.
_STUCK_AFTER_S = 6.0
#: Before it is said of one, somebody may have stood still just then.
_STUCK_LOOKS = 4

_BUSY = """
SELECT (SELECT count(*) FROM outbox),
       (SELECT count(*) FROM notifications WHERE status = 'pending'),
       (SELECT count(*) FROM silences WHERE settled_at IS NULL),
       (SELECT count(*) FROM monitor_states WHERE open_incident IS NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run."""

    report: Report
    inflicted: Inflicted
    history: Path
    seconds: float
    writes: tuple[int, int]


class Runner:
    """Takes a world through its phases, in the main thread."""

    def __init__(self, plan: Plan, kept: Path, show: Show) -> None:
        self._plan = plan
        self._kept = kept
        self._show = show
        self._sample_at = 0.0

    def run(self, *, launcher: str = "tests.chaos.wounded", prepare: Any = None) -> Outcome:
        """The whole run."""
        began = time.monotonic()
        with (
            World(self._plan, self._kept, self._say, launcher=launcher, prepare=prepare) as world,
            Pulses(world.url, world.client_url, world.api_key, world.history, self._plan) as pulses,
            Signals(world.client_url, world.api_key, world.history, self._plan) as signals,
        ):
            with (
                Writers(world.client_url, world.api_key, world.history, self._plan.seed) as writers,
                Responders(world.client_url, world.api_key, world.history, self._plan),
            ):
                self._phase(world, "warm")
                self._turn(world, self._plan.warm_s, "warming up")
                pulses.play()
                inflicted = self._faults(world)
            self._phase(world, "heal")
            self._turn(world, self._plan.heal_s, "healed")
            signals.finish()
            pulses.settle()
            while not (signals.over and pulses.over):
                self._turn(world, 0.2, "the last alerts")
            self._phase(world, "quiesce")
            world.settle()
            self._quiesce(world)
            self._phase(world, "check")
            world.history.add(self._last_look(world))
        self._show("checking", None)
        report = check(read_history(self._kept / "history.jsonl"))
        seconds = time.monotonic() - began
        return Outcome(report, inflicted, world.history_path, seconds, (writers.answered, writers.unanswered))

    def _say(self, line: str) -> None:
        self._show(line, None)

    def _phase(self, world: World, name: str) -> None:
        world.history.add(Phase(time.time(), name))

    def _faults(self, world: World) -> Inflicted:
        self._phase(world, "fault")
        world.play()
        current = "faults"

        def say(name: str) -> None:
            nonlocal current
            current = name

        schedule = Schedule(self._plan, world, say)
        schedule.start()
        began = time.monotonic()
        try:
            while not schedule.finished() and not schedule.over.is_set():
                passed = time.monotonic() - began
                self._show(f"{current} · {world.fleet.deaths} deaths", min(1.0, passed / self._plan.fault_s))
                self._step(world)
        finally:
            schedule.over.set()
            self._turn(world, 0.2, "healing")  # a restart under way needs us
            schedule.stop()
        self._heal(world)
        return schedule.inflicted

    def _heal(self, world: World) -> None:
        """Whatever a fault may have left behind is gone."""
        for gate in world.proxies.values():
            gate.mode(PASS)
        for name in PROCESSES:
            world.fleet.thaw(name)
            world.fleet.disarm(name)
        receivers.heal(world)
        relieve_memory(world)

    def _quiesce(self, world: World) -> None:
        began = time.monotonic()
        look_at = began + self._plan.least_quiet_s
        while (passed := time.monotonic() - began) < self._plan.quiesce_s:
            self._show("waiting for quiet", min(1.0, passed / self._plan.quiesce_s))
            self._step(world)
            if time.monotonic() >= look_at:
                if self._is_quiet(world):
                    return
                look_at = time.monotonic() + _QUIET_EVERY_S

    def _last_look(self, world: World) -> Final:
        """At a moment at which nothing is under way: what is still open is reminded of now and then."""
        with world.queue() as client:
            before = messages(client)
        for _ in range(_STUCK_LOOKS):
            self._turn(world, _STUCK_AFTER_S, "whether messages move")
            with world.queue() as client:
                left = stuck(before, messages(client))
            if not left:
                break
        for _ in range(_LOOKS):
            with world.database() as connection, world.queue() as client:
                look = last_look(connection, client)
                look.tables["stuck"] = left
            if not look.tables["outbox"] and all(row["status"] != "pending" for row in look.tables["notifications"]):
                break
            self._turn(world, 1.0, "a last look")
        return look

    def _is_quiet(self, world: World) -> bool:
        with suppress(psycopg.Error, redis.RedisError), world.database() as connection, world.queue() as client:
            row = connection.execute(_BUSY).fetchone()
            assert row is not None
            dead = [ack for ack in queue_state(client)["acks"] if not ack["alive"]]
            return row[:3] == (0, 0, 0) and row[3] == world.down_at_the_end and not dead
        return False

    def _turn(self, world: World, seconds: float, line: str) -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self._show(line, passed / seconds)
            self._step(world)

    def _step(self, world: World) -> None:
        world.fleet.step()
        if time.monotonic() >= self._sample_at:
            self._sample_at = time.monotonic() + _SAMPLE_EVERY_S
            world.fleet.sample()
        time.sleep(_STEP_S)
