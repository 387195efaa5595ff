"""One server process of the embedded stack: its log, its readiness, and the lock that all its processes hold."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from common.domain.errors import StackError
from common.spawn import Account, spawn

POLL_S: Final = 0.02
START_TIMEOUT_S: Final = 60.0  # without a sign of life: recovery and loading are signs of life and may take longer
PROGRESS_EVERY_S: Final = 5.0
LEFTOVER_WAIT_S: Final = 10.0
LOG_LIMIT_BYTES: Final = 10 * 1024 * 1024
_LOG_TAIL_LINES: Final = 8
_ENV: Final = {"PATH": os.defpath, "LC_ALL": "C"}  # nothing of ours: PGDATA, PGPORT and the like would steer PostgreSQL


class Answer(Enum):
    """What a server says when asked whether it is ready."""

    READY = "ready"
    LOADING = "loading"  # alive, replaying its log
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """How to run a server, how to ask whether it is ready, and the signal of its orderly, prompt stop."""

    name: str
    title: str
    argv: tuple[str, ...]
    stop_signal: signal.Signals
    probe: Callable[[], Answer]


class Server:
    """Runs one ServerSpec with `<data_dir>/logs/<name>.log` and `<data_dir>/<name>.lock`."""

    def __init__(self, spec: ServerSpec, data_dir: Path, account: Account | None, say: Callable[[str], None]) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self._dir = data_dir
        self._log = data_dir / "logs" / f"{spec.name}.log"
        self._log_start = 0
        self._lock = data_dir / f"{spec.name}.lock"
        self._account = account
        self._say = say
        self._reported: subprocess.Popen[bytes] | None = None
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))

    def alive(self) -> bool:
        """True while the server's first process runs."""
        return self.process is not None and self.process.poll() is None

    def await_leftovers(self) -> None:
        """Return when no process of an earlier run is left; as we own the stack, none can come after that."""
        os.close(self._await_lock())

    def launch(self) -> None:
        """Start it, as soon as the processes of an earlier run are gone."""
        lock = self._await_lock()
        try:
            self.process = self._spawn(self.spec.argv, self._account, self.spec.stop_signal, lock)
        finally:
            os.close(lock)  # the server has inherited its own copy

    def revive(self) -> bool:
        """If it has died and nothing of it is left, start it again; True if that was tried. Never waits."""
        if self.process is None or self.alive():
            return False
        if self._reported is not self.process:
            self._reported = self.process
            self._say(f"{self.spec.title} died ({how_it_ended(self.process)}), starting it again; see {self._log}")
        lock = try_lock(self._lock)
        if lock is None:
            return False  # backends of a killed postmaster are still leaving: the next pass
        try:
            self.process = self._spawn(self.spec.argv, self._account, self.spec.stop_signal, lock)
        except (OSError, subprocess.SubprocessError) as error:
            self._say(f"cannot start {self.spec.title}: {error}")
        finally:
            os.close(lock)
        return True

    def run_tool(self, argv: Sequence[str], account: Account | None) -> None:
        """Run a program on this server's data to its end; StackError with its last words when it fails."""
        lock = self._await_lock()
        try:
            tool = self._spawn(argv, account, signal.SIGTERM, lock)
            try:
                tool.wait()
            finally:
                tool.terminate()  # has an effect only when the wait was interrupted
        finally:
            os.close(lock)
        if tool.returncode != 0:
            raise self.failure(f"{Path(argv[0]).name} failed ({how_it_ended(tool)})")

    def failure(self, what: str) -> StackError:
        """An error with the last lines that the server has logged since its start."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read()[-4000:].decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return StackError("\n  ".join([f"{what}; the last lines of {self._log}:", *lines]))

    def terminate(self) -> None:
        """Ask for the stop and return at once."""
        if self.process is not None and self.alive():
            self.process.send_signal(self.spec.stop_signal)

    def await_end(self, deadline: float) -> None:
        """Wait for the end until the monotonic clock reads `deadline`, then kill."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._say(f"{self.spec.title} does not stop, killing it")
            self.process.kill()
            self.process.wait()

    def _await_lock(self) -> int:
        lock = try_lock(self._lock)
        if lock is None:
            self._say(f"waiting for the {self.spec.title} of an earlier run to end")
        deadline = time.monotonic() + LEFTOVER_WAIT_S
        while lock is None:
            if time.monotonic() > deadline:
                raise StackError(f"{self.spec.title} of an earlier run does not end: see `fuser {self._lock}`")
            time.sleep(POLL_S)
            lock = try_lock(self._lock)
        return lock

    def _spawn(
        self, argv: Sequence[str], account: Account | None, death_signal: signal.Signals, lock: int
    ) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            return spawn(
                argv,
                env=_ENV,
                uid=account.uid if account else None,
                gid=account.gid if account else None,
                death_signal=death_signal,
                stdout=log.fileno(),
                cwd=self._dir,
                pass_fds=[lock],
            )


def await_ready(servers: Sequence[Server], say: Callable[[str], None]) -> None:
    """Return when all answer; StackError as soon as one has ended, or is silent for START_TIMEOUT_S."""
    waiting = list(servers)
    deadline = time.monotonic() + START_TIMEOUT_S
    tell_at = time.monotonic() + PROGRESS_EVERY_S
    while True:
        for server in tuple(waiting):
            answer = server.spec.probe()
            if not server.alive():
                raise server.failure(f"{server.spec.title} did not start ({how_it_ended(server.process)})")
            if answer is Answer.READY:
                waiting.remove(server)
            elif answer is Answer.LOADING:
                deadline = time.monotonic() + START_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise server.failure(f"{server.spec.title} gave no answer for {START_TIMEOUT_S:.0f} s")
        if not waiting:
            return
        if time.monotonic() > tell_at:
            say(f"waiting for {' and '.join(server.spec.title for server in waiting)} to recover data")
            tell_at = time.monotonic() + PROGRESS_EVERY_S
        time.sleep(POLL_S)


def try_lock(path: Path) -> int | None:
    """An open descriptor that holds the lock, or None. It stays locked until every inherited copy is closed, too."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def how_it_ended(process: subprocess.Popen[bytes] | None) -> str:
    """Either "signal 9" or "exit status 1"."""
    code = process.returncode if process else None
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
