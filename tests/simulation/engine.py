"""Virtual time: one queue of events, one random source, and points at which a fault may strike a process.

Everything is single-threaded. A process that is paused in the middle of a call (frozen, or waiting for a slow
statement) is simulated by running the other events *inside* that call and then going on, so that real, synchronous
code is interleaved with other processes at the very places where a machine could do it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tests.simulation.process import Process

#: How deep paused calls may be nested.
_MAX_DEPTH = 3

_NEVER = 1_000_000_000

Event = tuple[float, int, "Process | None", int, Callable[..., Any], tuple[Any, ...]]


class Killed(BaseException):
    """The process whose code is running has died: nothing of it goes on."""


class Violation(AssertionError):
    """An invariant does not hold. `rule` is its short name."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class Simulator:
    """Virtual seconds since the start of the schedule, in `now`."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.trace: list[str] | None = [] if verbose else None
        self.heal_at = 0.0
        self.clock_trouble_until = 0.0
        self.slow_share = 0.25
        self.events = 0
        self.faults: dict[str, int] = {}
        self._heap: list[Event] = []
        self._order = 0
        self._depth = 0
        self._fuse = _NEVER
        self._mean_points = 0.0

    def at(self, moment: float, action: Callable[..., Any], *args: Any, process: Process | None = None) -> None:
        """Run an action at a moment; one of a process only if that process still lives then, and not while frozen."""
        self.push(moment, process, process.generation if process is not None else 0, action, args)

    def push(
        self, moment: float, process: Process | None, generation: int, action: Callable[..., Any], args: Any
    ) -> None:
        """The same, for a life of the process that is known."""
        self._order += 1
        heapq.heappush(self._heap, (moment, self._order, process, generation, action, args))

    def run(self, until: float) -> None:
        """All events up to a moment, which it is afterwards."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            moment, order, process, generation, action, args = heapq.heappop(heap)
            if process is not None:
                if process.generation != generation:
                    continue
                if process.frozen_until > moment:
                    heapq.heappush(heap, (process.frozen_until, order, process, generation, action, args))
                    continue
            if moment > self.now:
                self.now = moment
            self.events += 1
            try:  # noqa: SIM105 - a third of the time of an event would go into the context manager
                action(*args)
            except Killed:
                pass  # its restart is an event of its own
        self.now = max(self.now, until)

    def say(self, who: str, text: str) -> None:
        """A line of the trace; call it only when there is one (`if sim.trace is not None`)."""
        if self.trace is not None:
            self.trace.append(f"{self.now:9.3f}  {who:<12} {'· ' * self._depth}{text}")

    def strike(self, name: str, who: str, detail: str = "") -> None:
        """Count an injected fault."""
        self.faults[name] = self.faults.get(name, 0) + 1
        if self.trace is not None:
            self.say(who, f"FAULT {name} {detail}")

    # Faults at points ---------------------------------------------------------------------------------------------

    def arm(self, mean_points: float) -> None:
        """From now on a fault strikes after about so many points; 0 means never."""
        self._mean_points = mean_points
        self._fuse = 1 + int(self.rng.expovariate(1 / mean_points)) if mean_points else _NEVER

    def blown(self) -> bool:
        """Whether a fault strikes at this point. Cheap: called at every statement, commit, send and acknowledgement."""
        self._fuse -= 1
        if self._fuse > 0:
            return False
        self.arm(self._mean_points)
        return self.now < self.heal_at

    def pause(self, process: Process, seconds: float) -> None:
        """The running call takes so long; others go on meanwhile. Raises Killed if its process died in the meantime."""
        seconds = min(seconds, self.heal_at - self.now)
        if self._depth >= _MAX_DEPTH or seconds <= 0:
            return
        generation = process.generation
        self._depth += 1
        try:
            self.run(self.now + seconds)
            if process.generation == generation and process.frozen_until > self.now:
                self.run(process.frozen_until)
        finally:
            self._depth -= 1
        if process.generation != generation:
            raise Killed

    def die(self, process: Process, why: str) -> NoReturn:
        """The process whose code is running is killed here and now."""
        process.kill(why)
        raise Killed
