"""A simulated process: it starts, may be frozen, killed and restarted, and has clocks of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.clock import DatabaseClock
from tests.simulation.engine import Simulator

#: Virtual moment 0 as Unix seconds.
EPOCH_S = 1_800_000_000.0


class Process:
    """One role's process. Its monotonic clock drifts a little, its wall clock is wrong by minutes."""

    def __init__(self, sim: Simulator, name: str) -> None:
        rng = sim.rng
        self.sim = sim
        self.name = name
        self.alive = False
        self.generation = 0
        self.frozen_until = 0.0
        self.stopped_s = 0.0
        self._suspended_s = 0.0
        self._mono_base = rng.uniform(0, 1e6)
        self._rate = 1 + rng.uniform(-2e-4, 2e-4)
        self._wall_error_s = rng.choice((0.0, rng.uniform(-90, 90)))
        self.sessions: list[Any] = []

    def monotonic(self) -> float:
        """Seconds; stands still while the machine is suspended."""
        return self._mono_base + self._rate * (self.sim.now - self._suspended_s)

    def wall(self) -> float:
        """This machine's idea of Unix time."""
        return EPOCH_S + self.sim.now + self._wall_error_s

    def new_clock(self) -> DatabaseClock:
        """The product's clock, on ours."""
        return DatabaseClock(self.monotonic, self.wall)

    def after(self, delay_s: float, action: Callable[..., Any], *args: Any) -> None:
        """Do something later, if still alive."""
        sim = self.sim
        sim.push(sim.now + delay_s, self, self.generation, action, args)

    def start(self) -> None:
        """Come to life, with empty memory."""
        self.alive = True
        if self.sim.trace is not None:
            self.sim.say(self.name, "starts")
        self.boot()

    def boot(self) -> None:
        """Make the product's objects and schedule the loops."""
        raise NotImplementedError

    def kill(self, why: str) -> None:
        """End at once, wherever it is; it is restarted a while later."""
        if not self.alive:
            return
        self.sim.strike("kill", self.name, why)
        self.alive = False
        self.generation += 1
        self.frozen_until = 0.0
        for session in self.sessions:
            session.abort()
        self.sessions.clear()
        back_at = min(self.sim.now + self.sim.rng.uniform(0.2, 10), max(self.sim.heal_at, self.sim.now))
        self.sim.at(back_at, self.restart)

    def restart(self) -> None:
        """Start, unless somebody else did."""
        if not self.alive:
            self.start()

    def freeze(self, seconds: float, *, suspend: bool = False) -> None:
        """Stand still: SIGSTOP, or a suspended machine whose monotonic clock stands still as well."""
        seconds = min(seconds, self.sim.heal_at - self.sim.now)
        if not self.alive or seconds <= 0 or self.frozen_until > self.sim.now:
            return
        self.sim.strike("suspend" if suspend else "freeze", self.name, f"for {seconds:.1f} s")
        self.frozen_until = self.sim.now + seconds
        self.stopped_s += seconds
        if suspend:
            self._suspended_s += seconds
            # Until its next measurement it lives in the past, and trusts its lease too long.
            self.sim.clock_trouble_until = max(self.sim.clock_trouble_until, self.frozen_until + 10)

    @property
    def frozen(self) -> bool:
        """Whether it stands still now."""
        return self.frozen_until > self.sim.now
