"""Run the role processes: start them, start again what dies, stop them in order.

Who owns the embedded servers stops them, after `run` has returned; the supervisor only keeps them alive.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import FrameType
from typing import Final, Protocol

from common.spawn import spawn

FIRST_DELAY_S: Final = 0.2
LONGEST_DELAY_S: Final = 10.0
GOOD_RUN_S: Final = 30.0
DRAIN_S: Final = 25.0  # a worker finishes its batch within 20 s of SIGTERM
STEP_EVERY_S: Final = 0.1
POLL_S: Final = 0.05

EventSink = Callable[[str, dict[str, object]], None]


class Revivable(Protocol):
    """What the supervisor needs of common.embedded.EmbeddedServers."""

    def ensure_alive(self) -> list[str]:
        """Start again what has died, without waiting for it; return the names."""
        ...


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep running; `env` is its whole environment."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]


class Decision(Enum):
    """What to do about a process now."""

    KEEP = "keep"  # it runs
    WAIT = "wait"  # it died, and its delay is not over
    START = "start"


class RestartPlan:
    """When to start a process again. Pure: time comes in, in seconds of any monotonic clock.

    The first delay is FIRST_DELAY_S, each further one is doubled up to LONGEST_DELAY_S, and a run of GOOD_RUN_S starts
    the row anew. How a process ended does not matter: a role that leaves on its own is missed as much as a crashed one.
    """

    def __init__(self) -> None:
        self._started_at: float | None = None
        self._due_at = float("-inf")
        self._next_delay_s = FIRST_DELAY_S

    def decide(self, now: float) -> Decision:
        """Say what to do at `now`."""
        if self._started_at is not None:
            return Decision.KEEP
        return Decision.START if now >= self._due_at else Decision.WAIT

    def started(self, now: float) -> None:
        """Note the start of a run."""
        self._started_at = now

    def ended(self, now: float) -> float:
        """Note the end of a run, or of an attempt to start one, and return the delay until the next start."""
        if self._started_at is not None and now - self._started_at >= GOOD_RUN_S:
            self._next_delay_s = FIRST_DELAY_S
        delay_s = self._next_delay_s
        self._next_delay_s = min(delay_s * 2, LONGEST_DELAY_S)
        self._started_at = None
        self._due_at = now + delay_s
        return delay_s


class _Child:
    """A role, its process and its plan."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.plan = RestartPlan()
        self.process: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Supervises the roles, in the main thread (common.spawn says why). Times are of `clock`, in seconds, monotonic.

    Events: role_started {role, pid} · role_ended {role, pid, exit_code, restart_in_s}, where a negative exit code is
    a signal · role_start_failed {role, error, restart_in_s} · role_killed {role, pid} · server_restarted {server,
    next_restart_in_s}.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        *,
        embedded: Revivable | None,
        on_event: EventSink,
        clock: Callable[[], float] = time.monotonic,
        drain_s: float = DRAIN_S,
    ) -> None:
        self._children = [_Child(role) for role in roles]
        self._embedded = embedded
        self._embedded_plan = RestartPlan()
        self._tell = on_event
        self._clock = clock
        self._drain_s = drain_s
        self._signals = 0

    def start(self) -> None:
        """Start all roles, in the order given."""
        self._embedded_plan.started(self._clock())
        self._step_roles()

    def step(self) -> bool:
        """One pass: reap what ended, start what is due. True if anything was done."""
        revived = self._step_embedded()  # first: roles need their servers
        return self._step_roles() or revived

    def stop(self) -> None:
        """SIGTERM to all at once, wait up to `drain_s` for them to drain, then kill what is left, by pid."""
        for child in self._children:
            if child.process is not None and child.alive():
                child.process.terminate()
        deadline, patience = self._clock() + self._drain_s, self._signals
        while any(child.alive() for child in self._children) and self._clock() < deadline and self._signals == patience:
            time.sleep(POLL_S)
        for child in self._children:
            if child.process is not None and child.alive():
                self._tell("role_killed", {"role": child.role.name, "pid": child.process.pid})
                child.process.kill()
                child.process.wait()
            child.process = None

    def run(self, stop_event: threading.Event) -> None:
        """Supervise until `stop_event` is set or SIGTERM or SIGINT comes, then stop; a signal during the drain ends it.

        Returns with all roles ended, whatever happens.
        """
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            while not self._signals and not stop_event.wait(STEP_EVERY_S):
                self.step()
        finally:
            self.stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # Only a number: setting the event from here could wait for the lock that the interrupted wait() holds.
        self._signals += 1

    def _step_embedded(self) -> bool:
        if self._embedded is None:
            return False
        now = self._clock()
        decision = self._embedded_plan.decide(now)
        if decision is Decision.WAIT:
            return False
        if decision is Decision.START:
            self._embedded_plan.started(now)
        restarted = self._embedded.ensure_alive()
        if restarted:
            delay_s = self._embedded_plan.ended(now)
            for name in restarted:
                self._tell("server_restarted", {"server": name, "next_restart_in_s": delay_s})
        return bool(restarted)

    def _step_roles(self) -> bool:
        worked = [self._step_role(child) for child in self._children]  # any() alone would skip the rest
        return any(worked)

    def _step_role(self, child: _Child) -> bool:
        now = self._clock()
        worked = self._reap(child, now)
        if child.plan.decide(now) is Decision.START:
            self._launch(child, now)
            worked = True
        return worked

    def _reap(self, child: _Child, now: float) -> bool:
        process = child.process
        if process is None or child.alive():
            return False
        child.process = None
        fields = {"role": child.role.name, "pid": process.pid, "exit_code": process.returncode}
        self._tell("role_ended", {**fields, "restart_in_s": child.plan.ended(now)})
        return True

    def _launch(self, child: _Child, now: float) -> None:
        try:
            child.process = spawn(child.role.argv, env=child.role.env)
        except (OSError, subprocess.SubprocessError) as error:  # no memory, no program: as good as ended
            fields: dict[str, object] = {"role": child.role.name, "error": str(error)}
            self._tell("role_start_failed", {**fields, "restart_in_s": child.plan.ended(now)})
            return
        child.plan.started(now)
        self._tell("role_started", {"role": child.role.name, "pid": child.process.pid})
