"""One schedule's system, put together from its plan: server, queue, targets, receivers and processes."""

from __future__ import annotations

from common.vault import Vault, generate_key
from tests.simulation.bus import Bus
from tests.simulation.database import Guard, Server
from tests.simulation.engine import Simulator
from tests.simulation.notifying import NotifierProcess
from tests.simulation.plan import LOCATIONS, ORG, Fault, Plan
from tests.simulation.process import Process
from tests.simulation.scheduling import SchedulerProcess
from tests.simulation.sinks import Sinks
from tests.simulation.statements import STATEMENTS
from tests.simulation.statements.judging import new_state, new_vote
from tests.simulation.targets import Targets
from tests.simulation.working import WorkerProcess

_VAULT = Vault(generate_key())
_CHANNELS = ("channel-a", "channel-b")
_SECRETS = {
    channel: _VAULT.seal(f"channel:{ORG}:{channel}", {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    for channel in _CHANNELS
}
#: Seconds that a group's first message waits, and from one to the next at the least.
_GROUP_WAIT_S, _GROUP_INTERVAL_S = 4, 6


def _routes(channels: list[str]) -> dict[str, tuple[object, ...]]:
    """As route_books reads them: the first channel in one group of all, the others one by one."""
    rest = ("alone", "alone", {}, [], channels[1:], True, 0, None, 30, 300, None)
    group = ("group", "group", {}, [], channels[:1], True, 0, [], _GROUP_WAIT_S, _GROUP_INTERVAL_S, None)
    return {row[0]: (ORG, *row) for row in (group, rest) if row[4]}


class World:
    """Everything there is in a schedule."""

    def __init__(self, plan: Plan, *, without: frozenset[Guard] = frozenset(), verbose: bool = False) -> None:
        self.plan = plan
        self.sim = sim = Simulator(plan.seed, verbose=verbose)
        sim.heal_at = plan.heal_at
        sim.slow_share = plan.slow_share
        self.server = Server(sim, STATEMENTS, without)
        self.bus = Bus(sim, plan.weather)
        self.targets = Targets(sim, plan.truth)
        self.channels = list(_CHANNELS[: plan.channels])
        self.sinks = Sinks(sim, self.channels)
        self._fill()
        self.schedulers = [
            SchedulerProcess(sim, f"scheduler-{n}", self.server, self.bus, plan.times) for n in range(plan.schedulers)
        ]
        self.workers = [
            WorkerProcess(sim, f"worker-{n}", location, self.server, self.bus, self.targets)
            for n, location in enumerate(plan.workers)
        ]
        self.notifiers = [
            NotifierProcess(sim, f"notifier-{n}", self.server, self.bus, self.sinks, _VAULT)
            for n in range(plan.notifiers)
        ]
        self.processes: list[Process] = [*self.schedulers, *self.workers, *self.notifiers]

    def _fill(self) -> None:
        table = self.server.table
        table("organizations")[ORG] = {"last_seq": 0}
        table("locations").update(LOCATIONS)
        for monitor in self.plan.monitors:
            no = monitor.monitor_no
            table("monitors")[no] = monitor
            table("states")[no] = new_state()
            for location in monitor.locations:
                table("votes")[no, location] = new_vote(no, location)
        for channel in self.channels:
            table("channels")[channel] = {
                "org_id": ORG, "enabled": True, "failures": 0, "failing_since": None, "retry_at": None,
                "config": {"url": f"https://{channel}.test/"}, "secrets": _SECRETS[channel],
            }  # fmt: skip
        table("routes").update(_routes(self.channels) if self.plan.grouped else {})
        for name in ("incidents", "events", "outbox", "notifications", "results", "attempts", "leases"):
            table(name)

    def schedule(self) -> None:
        """Starts, faults and the healing, as events."""
        sim, plan = self.sim, self.plan
        for process in self.processes:
            sim.at(sim.rng.uniform(0, 1.5), process.restart)
        if plan.mean_points:
            sim.arm(plan.mean_points)
        for fault in plan.faults:
            sim.at(fault.at, self._inject, fault)
        sim.at(plan.heal_at, self._heal)

    def _inject(self, fault: Fault) -> None:
        what, sim = fault.what, self.sim
        seconds = min(fault.seconds, max(0.0, sim.heal_at - sim.now))
        verb, _, role = what.partition(" ")
        if verb in ("kill", "freeze", "suspend", "stop"):
            self._strike(verb, self._process(role, fault.target), seconds)
        elif what == "database crash":
            self.server.crash(seconds)
        elif what == "database clock":
            sim.strike(what, "postgres", f"{fault.seconds:+.1f} s")
            self.server.step_s += fault.seconds
            sim.clock_trouble_until = max(sim.clock_trouble_until, sim.now + self.plan.times.ttl_s + 5)
        elif what == "queue flushed":
            self.bus.flush()
        elif what == "network lost":
            self.workers[fault.target].offline_until = sim.now + seconds
            sim.strike(what, self.workers[fault.target].name, f"for {seconds:.1f} s")
        elif verb == "sink":
            channel = self.channels[fault.target]
            self.sinks.mood[channel] = role
            sim.strike(what, channel, f"for {seconds:.1f} s")
            sim.at(sim.now + seconds, self.sinks.mood.__setitem__, channel, "ok")
        else:
            away = self.server if what == "database away" else self.bus
            away.away_until = max(away.away_until, sim.now + seconds)
            sim.strike(what, "", f"for {seconds:.1f} s")

    def _strike(self, verb: str, process: Process, seconds: float) -> None:
        if verb == "kill":
            process.kill("kill -9")
        elif verb == "stop" and isinstance(process, SchedulerProcess):
            process.stop()
        else:
            process.freeze(seconds, suspend=verb == "suspend")

    def _process(self, role: str, index: int) -> Process:
        by_role: dict[str, list[Process]] = {
            "scheduler": list(self.schedulers), "worker": list(self.workers), "notifier": list(self.notifiers),
        }  # fmt: skip
        return by_role[role][index]

    def _heal(self) -> None:
        """Nothing goes wrong from here on: what is dead was given its restart no later than now."""
        self.sim.arm(0)
        for channel in self.channels:
            self.sinks.mood[channel] = "ok"
        if self.sim.trace is not None:
            self.sim.say("", "---- healed ----")
