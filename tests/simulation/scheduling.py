"""A scheduler's process: the product's Lease, Loader, Dispatcher and Wheel, each loop stepped by events."""

from __future__ import annotations

from contextlib import suppress

from common.domain.errors import Unavailable
from scheduler.dispatch import SLOW_FILL_MS, Dispatcher
from scheduler.lease import Lease, LeaseTimes
from scheduler.loader import Loader
from scheduler.wheel import TICK_MS, Wheel
from tests.simulation.bus import Bus, Client
from tests.simulation.database import Database, Server
from tests.simulation.engine import Simulator
from tests.simulation.process import Process

#: Pauses after a step that failed, as `common.process` has them.
_BACKOFF_S = 0.5
_LONGEST_TICK_S = 3.0
_STANDBY_TICK_S = 10.0


class SchedulerProcess(Process):
    """One of several that may lead. Looks that would find nothing (no tick due, no new confirmation) are left out."""

    def __init__(self, sim: Simulator, name: str, server: Server, bus: Bus, times: LeaseTimes) -> None:
        super().__init__(sim, name)
        self.server = server
        self.bus = bus
        self.times = times
        server.on_confirmation.append(self.confirmation_due)

    def boot(self) -> None:
        clock = self.new_clock()
        holder = f"{self.name}-{self.generation}"
        self.clock = clock
        self.lease = Lease(Database(self.server, self), clock, holder, monotonic=self.monotonic, times=self.times)
        self.wheel = Wheel()
        self.dispatcher = Dispatcher(self.wheel, self.lease, Client(self.bus, self), clock)
        self.loader = Loader(Database(self.server, self), clock, self.dispatcher.changes.put)
        self._ticks = 0
        self.after(0.01, self._load)
        self.after(self.sim.rng.uniform(0.02, self.times.retry_s), self._renew)
        self.after(0.03, self._tick, 0)

    def leads(self) -> bool:
        """Whether it may act as the leader now."""
        return self.alive and not self.frozen and self.lease.held() is not None

    def _load(self) -> None:
        try:
            self.loader.step()
        except Unavailable:
            self.after(_BACKOFF_S, self._load)

    def confirmation_due(self, at_s: float) -> None:
        """A vote asks for a confirmation then: one of the loader's looks finds it, here the only one that is made."""
        if self.alive:
            self.after(max(0.0, at_s - self.sim.now - self.sim.rng.uniform(0.2, 1.2)), self._load)

    def _renew(self) -> None:
        if not self.loader.loaded.is_set():
            self.after(self.times.retry_s, self._renew)
            return
        before = self.lease._held
        try:
            self.lease.step()
        except Unavailable:
            self.after(_BACKOFF_S, self._renew)
            return
        if self.lease._held is not before:
            self.sim.say(self.name, f"lease: {before} → {self.lease._held}")
            self._ticks += 1
            self.after(TICK_MS / 1000, self._tick, self._ticks)
        self.after(self.times.retry_s, self._renew)

    def _tick(self, number: int) -> None:
        if number == self._ticks:
            self.dispatcher.step()
            self.after(self._next_tick_s(), self._tick, number)

    def _next_tick_s(self) -> float:
        """Until the next tick that finds something, or a moment: the watermark goes on, a new term is noticed."""
        wait_s = _STANDBY_TICK_S
        if self.wheel.running:
            wait_s = _LONGEST_TICK_S
            now_ms = self.clock.now_ms()
            buckets, waiting = self.wheel._buckets, self.dispatcher._confirmations._waiting
            due = [min(buckets) * TICK_MS] if buckets else []
            due += [confirmation.confirm_at_ms for confirmation in waiting]
            due += [filling.since_ms + SLOW_FILL_MS for filling in self.dispatcher._slow.values()]
            if due:
                wait_s = min(wait_s, max(TICK_MS, min(due) - now_ms) / 1000)
        return wait_s + self.sim.rng.random() * TICK_MS / 1000

    def stop(self) -> None:
        """SIGTERM: release the lease, end, start again."""
        if not self.alive or self.frozen:
            return
        with suppress(Unavailable):
            self.lease.release()
        self.kill("stopped")
