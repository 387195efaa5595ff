"""A worker's process: the product's CheckRunner parts and Writer; the probes' answers come from `targets`.

`CheckRunner.run` itself belongs to an event loop; here its outline is followed with events: checks that are due, all
probes at once, what still probes after two seconds moves to the slow lane, the message is acknowledged when everything
is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

from common.broker import Batch, UnreadableMessage, decode_batch, queue_name
from common.domain.checks import Check, Lane, Observation
from common.domain.errors import Unavailable
from common.domain.monitors import MonitorConfig
from common.store.engine import now_s
from tests.simulation.bus import Bus, Client, Envelope
from tests.simulation.database import Database, Server
from tests.simulation.engine import Simulator
from tests.simulation.plan import LOCATIONS
from tests.simulation.process import Process
from tests.simulation.targets import Targets, timed_out
from worker.checks import SPILL_AFTER_S, CheckRunner, Parts
from worker.configs import ConfigCache
from worker.stall import LoopLag
from worker.suspicion import Suspicion
from worker.writer import FLUSH_AFTER_S, Ticket, Writer

_SYNC_EVERY_S = 5.0
_BACKOFF_S = 0.5


class _Asked:
    """A probe under way: awaited by the product's code, answered by an event."""

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id

    def __await__(self) -> Generator[_Asked, Observation, Observation]:
        return (yield self)


async def probe(_config: MonitorConfig, _deadline_s: float, _context: object, trace_id: str) -> Observation:
    """Stands in the table of probes for every protocol."""
    return await _Asked(trace_id)


class Run:
    """One message in work."""

    def __init__(self, envelope: Envelope, batch: Batch, lane: Lane, ticket: Ticket) -> None:
        self.envelope = envelope
        self.handed_at = envelope.handed_at
        self.batch = batch
        self.lane = lane
        self.ticket = ticket
        self.pending: dict[Coroutine[Any, Any, None], Check] = {}
        self.spilled: list[Check] = []
        self.late: list[Check] = []


class WorkerProcess(Process):
    """Probes, judges and commits at one location."""

    def __init__(self, sim: Simulator, name: str, location: int, server: Server, bus: Bus, targets: Targets) -> None:
        super().__init__(sim, name)
        self.location = location
        self.server = server
        self.bus = bus
        self.targets = targets
        self.ready = False
        self.offline_until = 0.0
        self.before_ack: Callable[[Run], None] = lambda _run: None
        self._lanes = {queue_name(lane, LOCATIONS[location]): lane for lane in Lane}
        for queue in self._lanes:
            bus.consumers.setdefault(queue, []).append(self)

    def boot(self) -> None:
        self.ready = False
        self.clock = self.new_clock()
        self.database = Database(self.server, self)
        self.writer = Writer(Database(self.server, self, durable=False), self, sleep=lambda _s: None)
        # While the process runs its loop is on time; only what it stood still counts.
        lag = LoopLag(lambda: self.stopped_s)
        lag.tick()
        configs = ConfigCache(self.database, None)
        configs.keep(self.server.table("monitors").values())
        parts = Parts(
            configs=configs, probes=self, writer=self.writer, clock=self.clock, suspicion=Suspicion(self.monotonic),
            lag=lag, canary=_Canary(self), broker=Client(self.bus, self), blocking=None,
        )  # fmt: skip
        self.runner = CheckRunner(parts, location=self.location, location_name=LOCATIONS[self.location])
        self.runs: list[Run] = []
        self._writing = False
        self._sync()

    # What the product's objects are given ---------------------------------------------------------------------------

    @property
    def offline(self) -> bool:
        return self.offline_until > self.sim.now

    def call_soon_threadsafe(self, action: Callable[..., None], *args: Any) -> None:
        """The event loop, as far as the writer knows it."""
        self.after(0.0, self._settled, action, args)

    # Loops and events -----------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        """The clock; the first time decides when the consumers start."""
        try:
            with self.database.begin() as connection:
                self.clock.sync(lambda: now_s(connection))
        except Unavailable:
            self.after(1.0, self._sync)
            return
        self.ready = True
        self.after(_SYNC_EVERY_S, self._sync)

    def receive(self, envelope: Envelope) -> None:
        """A message from the queue."""
        try:
            batch = decode_batch(envelope.payload)
        except UnreadableMessage:
            envelope.end = "dead"
            return
        lane = self._lanes[envelope.queue]
        run = Run(envelope, batch, lane, Ticket(self))
        self.runs.append(run)
        due = _finish(self.runner._due(batch.checks))
        run.late = [check for check in batch.checks if all(check is not each for each, _ in due)]
        for check, config in due:
            self._start(run, check, config)
        if lane is not Lane.SLOW:
            self.after(SPILL_AFTER_S, self._spill, run)
        self._maybe_acknowledge(run)

    def _start(self, run: Run, check: Check, config: MonitorConfig) -> None:
        work = self.runner._run_one(check, config, run.lane, run.ticket)
        asked: _Asked = work.send(None)
        seconds, observation = self.targets.answer(config, asked.trace_id, connected=not self.offline)
        run.pending[work] = check
        self.after(seconds, self._answer, run, work, config, observation, self.stopped_s, seconds)

    def _answer(
        self, run: Run, work: Any, config: MonitorConfig, observation: Observation, stopped_s: float, seconds: float
    ) -> None:
        if work not in run.pending:
            return  # spilled
        stood_still = self.stopped_s - stopped_s
        if stood_still + seconds > config.timeout_s and stood_still and self.sim.rng.random() < 0.7:
            # The answer is there, and so is the timeout: which of them the loop sees first is chance.
            observation = timed_out(config)
        del run.pending[work]
        with suppress(StopIteration):
            work.send(observation)
        if not self._writing and self.writer.waiting:
            self._writing = True
            self.after(FLUSH_AFTER_S, self._write)
        self._maybe_acknowledge(run)

    def _spill(self, run: Run) -> None:
        if not run.pending:
            return
        checks = list(run.pending.values())
        try:
            self.runner._enqueue_slow(checks, run.batch.id)
        except Unavailable:
            return  # rather finish here, late
        for work in run.pending:
            work.close()
        run.pending.clear()
        run.spilled = checks
        self._maybe_acknowledge(run)

    def _write(self) -> None:
        wait_s = 0.05
        try:
            self.writer.step()
        except Unavailable:
            wait_s = _BACKOFF_S
        if self.writer.waiting:
            self.after(wait_s, self._write)
        else:
            self._writing = False

    def _settled(self, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        action(*args)
        for run in list(self.runs):
            self._maybe_acknowledge(run)

    def _maybe_acknowledge(self, run: Run) -> None:
        if run.pending or run.ticket._open or run not in self.runs:
            return
        self.runs.remove(run)
        trouble = self.sim.rng.random() if self.sim.blown() else 1.0
        if trouble < 0.5:
            self.sim.die(self, "before acknowledging")
        self.before_ack(run)
        self.bus.acknowledge(run.envelope, self, run.handed_at)
        if trouble < 1.0:
            self.sim.die(self, "after acknowledging")


class _Canary:
    """A canary on the worker's own network."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker

    async def alive(self, _since: float = 0.0) -> bool:
        return not self._worker.offline


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")
