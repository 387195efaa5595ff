"""The supervisor with real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.domain.errors import StackError
from common.spawn import spawn
from common.supervisor import Role, Supervisor

ROOT = Path(__file__).parents[2]
SLEEPER = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
OWNER = """
import sys, threading
from common.supervisor import Role, Supervisor
tell = lambda name, fields: print(name, fields["role"], fields["pid"], flush=True)
roles = [Role(name, (sys.executable, "-c", "import time; time.sleep(600)"), {}) for name in ("one", "two")]
Supervisor(roles, embedded=None, on_event=tell, drain_s=60.0).run(threading.Event())
print("stopped", flush=True)
"""


class Log:
    """Collects the events of a supervisor."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, name: str, fields: dict[str, object]) -> None:
        self.events.append((name, fields))

    def of(self, name: str) -> list[dict[str, object]]:
        return [fields for event, fields in self.events if event == name]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def supervise(log: Log) -> Iterator[Callable[..., Supervisor]]:
    started: list[Supervisor] = []

    def build(*codes: str, drain_s: float = 60.0) -> Supervisor:
        roles = [Role(f"role{number}", (sys.executable, "-c", code), {}) for number, code in enumerate(codes)]
        started.append(Supervisor(roles, embedded=None, on_event=log, drain_s=drain_s))
        return started[-1]

    yield build
    for supervisor in started:
        supervisor.stop()


def wait_until(
    condition: Callable[[], object], within_s: float = 60.0, between: Callable[[], object] = lambda: None
) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        between()
        time.sleep(0.02)


def exists(pid: object) -> bool:
    """True while the process runs; a zombie that waits for its new parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_role_is_started_again_and_the_others_stay(log: Log, supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(SLEEPER, SLEEPER)
    supervisor.start()
    first, second = (fields["pid"] for fields in log.of("role_started"))
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(log.of("role_started")) == 3, between=supervisor.step)
    assert log.of("role_ended") == [{"role": "role0", "pid": first, "exit_code": -9, "restart_in_s": 0.2}]
    assert log.of("role_started")[2]["role"] == "role0"
    assert exists(second)


def test_a_role_that_ends_at_once_is_started_at_growing_intervals(
    log: Log, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise("raise SystemExit(3)")
    supervisor.start()
    wait_until(lambda: len(log.of("role_ended")) == 3, between=supervisor.step)
    ends = [(fields["exit_code"], fields["restart_in_s"]) for fields in log.of("role_ended")]
    assert ends == [(3, 0.2), (3, 0.4), (3, 0.8)]


def test_a_program_that_does_not_exist_is_reported_and_does_not_end_the_supervisor(log: Log) -> None:
    supervisor = Supervisor([Role("ghost", ("/nowhere/ghost",), {})], embedded=None, on_event=log)
    supervisor.start()
    wait_until(lambda: len(log.of("role_start_failed")) == 2, between=supervisor.step)
    assert "/nowhere/ghost" in str(log.of("role_start_failed")[0]["error"])


def test_stop_ends_all_roles_and_kills_none_that_listens(log: Log, supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(SLEEPER, SLEEPER)
    supervisor.start()
    supervisor.stop()
    assert not any(exists(fields["pid"]) for fields in log.of("role_started"))
    assert log.of("role_killed") == []


def test_a_role_that_ignores_the_stop_is_killed_when_the_drain_is_over(
    log: Log, supervise: Callable[..., Supervisor], capfd: pytest.CaptureFixture[str]
) -> None:
    supervisor = supervise(DEAF, drain_s=0.3)
    supervisor.start()
    wait_until(lambda: "deaf" in capfd.readouterr().out)
    supervisor.stop()
    (started,) = log.of("role_started")
    assert log.of("role_killed") == [started]
    assert not exists(started["pid"])


def test_run_returns_when_its_event_is_set_and_leaves_the_signal_handlers_as_they_were(
    log: Log, supervise: Callable[..., Supervisor]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop_event = threading.Event()
    timer = threading.Timer(0.3, stop_event.set)
    timer.start()
    supervise(SLEEPER).run(stop_event)
    timer.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not exists(log.of("role_started")[0]["pid"])


class FlappingServers:
    """Dies before each look, and counts the looks."""

    def __init__(self) -> None:
        self.looks = 0

    def ensure_alive(self) -> list[str]:
        self.looks += 1
        return ["postgres"]


def test_a_server_that_keeps_dying_is_restarted_at_growing_intervals(log: Log) -> None:
    now, servers = [0.0], FlappingServers()
    supervisor = Supervisor([], embedded=servers, on_event=log, clock=lambda: now[0])
    supervisor.start()
    for _ in range(10):  # one second of passes
        now[0] += 0.1
        supervisor.step()
    assert [fields["next_restart_in_s"] for fields in log.of("server_restarted")] == [0.2, 0.4, 0.8]
    assert servers.looks == 3


def start_owner() -> tuple[subprocess.Popen[str], list[int]]:
    """A process that runs a supervisor of two roles, and their pids."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, [int(owner.stdout.readline().split()[-1]) for _ in range(2)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_is_an_orderly_stop(number: signal.Signals) -> None:
    owner, pids = start_owner()
    owner.send_signal(number)
    output, _ = owner.communicate(timeout=60)
    assert (owner.returncode, output) == (0, "stopped\n")
    assert not any(exists(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of a parent")
def test_roles_do_not_outlive_a_supervisor_that_is_killed() -> None:
    owner, pids = start_owner()
    owner.kill()
    owner.communicate(timeout=60)
    wait_until(lambda: not any(exists(pid) for pid in pids))


def test_a_child_is_not_started_from_another_thread_than_the_main_one() -> None:
    failures: list[str] = []

    def attempt() -> None:
        try:
            spawn([sys.executable, "-c", SLEEPER], env={})
        except StackError as error:
            failures.append(error.message)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert failures == ["child processes must be started from the main thread"]
