"""The product's processes under its own supervisor, with the means to kill, freeze, wound and skew each of them.

`start`, `step` and `stop` belong to the main thread (common.spawn says why), all else to anybody.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from common.embedded import EmbeddedServers
from common.supervisor import Role, Supervisor
from tests.chaos.events import Death, History, Sample

#: Processes by name; the part before the dash is the role.
PROCESSES = ("api", "scheduler-1", "scheduler-2", "worker-1", "worker-2", "notifier-1", "notifier-2")

_MB = 1_000_000

#: By then everything of interest has been written down (seconds).
_DRAIN_S = 4.0


class Fleet:
    """Starts, restarts and ends the roles; writes every death and, now and then, what each process uses."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], servers: EmbeddedServers, history: History, launcher: str
    ) -> None:
        self._folder = folder
        self._history = history
        # The supervisor's own children read it at each start: a changed variable is of the next one.
        self._environments = {name: dict(environment) for name in PROCESSES}
        for name in ("armed", "fell"):
            (folder / name).mkdir()
        roles = [
            Role(
                name,
                (sys.executable, "-m", launcher, name, str(folder), name.split("-")[0]),
                self._environments[name],
            )
            for name in PROCESSES
        ]
        self._supervisor = Supervisor(roles, embedded=servers, on_event=self._heard, drain_s=_DRAIN_S)
        self._lock = threading.RLock()  # nobody reaps a process while somebody sends it a signal
        self._pids: dict[str, int] = {}
        self._killed: set[int] = set()
        self._stopped: set[int] = set()
        self._frozen: set[int] = set()
        self.deaths = 0

    def start(self) -> None:
        """Start all roles."""
        with self._lock:
            self._supervisor.start()

    def step(self) -> None:
        """Start again what has ended, servers too."""
        with self._lock:
            self._supervisor.step()
        self._note_forked()

    def stop(self) -> None:
        """SIGTERM to all; what does not end in time is killed."""
        for name in PROCESSES:
            self.thaw(name)
        with self._lock:
            self._supervisor.stop()
            self._pids.clear()

    def pid(self, name: str) -> int | None:
        """The process that runs under this name, None while there is none."""
        return self._pids.get(name)

    def living(self, role: str = "") -> list[str]:
        """Names of the processes (of a role) that run and are not frozen."""
        with self._lock:
            return [name for name, pid in self._pids.items() if name.startswith(role) and pid not in self._frozen]

    def kill(self, name: str) -> bool:
        """SIGKILL; False when it does not run."""
        return self._signal(name, signal.SIGKILL, self._killed)

    def terminate(self, name: str) -> bool:
        """SIGTERM."""
        return self._signal(name, signal.SIGTERM, self._stopped)

    def freeze(self, name: str) -> bool:
        """SIGSTOP to it and whatever it forked."""
        with self._lock:
            pid = self._pids.get(name)
            if pid is None:
                return False
            os.killpg(pid, signal.SIGSTOP)
            self._frozen.add(pid)
            return True

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        with self._lock:
            pid = self._pids.get(name)
            if pid in self._frozen:
                self._frozen.discard(pid)
                os.killpg(pid, signal.SIGCONT)

    def arm(self, name: str, failpoint: str, chance: float) -> None:
        """Have it die at a failpoint."""
        order = self._folder / "armed" / name
        fresh = order.with_suffix(".new")
        fresh.write_text(f"{failpoint} {chance}")
        fresh.rename(order)

    def armed(self, name: str) -> bool:
        """Whether its order to die still waits."""
        return (self._folder / "armed" / name).exists()

    def disarm(self, name: str) -> bool:
        """Take the order back; False when there was none any more: it has been followed."""
        try:
            (self._folder / "armed" / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def environ(self, name: str, **variables: str | None) -> None:
        """Variables of its next start; None takes one away."""
        for variable, value in variables.items():
            if value is None:
                self._environments[name].pop(variable, None)
            else:
                self._environments[name][variable] = value

    def starts(self, name: str) -> int:
        """How often it has said that it is ready."""
        return self.log(name).read_text(errors="replace").count('_started"')

    def is_ready_again(self, name: str, before: int | None, starts: int) -> bool:
        """Whether another process than `before` runs, and has said so: the API, which says nothing, only runs."""
        if self.pid(name) in {before, None}:
            return False
        return name.startswith("api") or self.starts(name) > starts

    def has_loaded(self, name: str, library: Path) -> bool:
        """Whether the process runs with this library."""
        try:
            return str(library) in Path(f"/proc/{self._pids[name]}/maps").read_text()
        except (KeyError, OSError):
            return False

    def log(self, name: str) -> Path:
        """What it has said."""
        return self._folder / f"{name}.log"

    def last_words(self) -> str:
        """The last line of each process that does not run."""
        lines = {name: self.log(name).read_text(errors="replace").splitlines() for name in PROCESSES
                 if name not in self._pids and self.log(name).exists()}  # fmt: skip
        return "; ".join(f"{name}: {said[-1][:300]}" for name, said in lines.items() if said) or "no role said why"

    def sample(self) -> None:
        """Write down what each process uses."""
        with self._lock:
            pids = dict(self._pids)
        for name, pid in pids.items():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                rss, fds = process.memory_info().rss, process.num_fds()
                self._history.add(Sample(time.time(), name, pid, round(rss / _MB, 1), fds))

    def _signal(self, name: str, number: signal.Signals, noted: set[int]) -> bool:
        with self._lock:
            pid = self._pids.get(name)
            if pid is None:
                return False
            noted.add(pid)
            os.kill(pid, number)
            return True

    def _heard(self, event: str, details: Mapping[str, object]) -> None:
        """The supervisor's word, always under the lock."""
        name, pid = str(details.get("role", "")), int(str(details.get("pid", 0)))
        if event == "role_started":
            self._pids[name] = pid
        elif event == "role_ended":
            self._pids.pop(name, None)
            self._frozen.discard(pid)
            self._died(name, pid, self._how(pid, int(str(details["exit_code"]))))

    def _died(self, name: str, pid: int, how: str) -> None:
        self.deaths += 1
        self._history.add(Death(time.time(), name, pid, how))

    def _how(self, pid: int, exit_code: int) -> str:
        note = self._folder / "fell" / str(pid)
        if note.exists():
            point = note.read_text().split()[0]
            note.unlink()
            return f"failpoint:{point}"
        if pid in self._killed:
            return "kill"
        return "stop" if pid in self._stopped and exit_code in {0, -signal.SIGTERM} else f"exit:{exit_code}"

    def _note_forked(self) -> None:
        """The API serves in a process that it forks: that one falls without the supervisor's knowing."""
        for note in (self._folder / "fell").iterdir():
            if int(note.name) not in self._pids.values():
                point = note.read_text().split()[0]
                note.unlink()
                self._died("api", int(note.name), f"failpoint:{point}")
