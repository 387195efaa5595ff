"""The one loop: it survives everything, waits longer when it fails, and says an absence once."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from common import log, telemetry
from common.domain.errors import Contended, NotMigrated, SettingsError, Unavailable
from common.process import _BACKOFF_S, main, require_urls, run_steps, start_loop, wait_for_database
from common.settings import load_settings

ROOT = Path(__file__).parents[2]


class Stop(threading.Event):
    """An event that nobody waits for: it notes how long it would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


class Script:
    """A step that does what it is told, in order, and then asks to stop."""

    def __init__(self, stop: Stop, *acts: bool | Exception) -> None:
        self._stop = stop
        self._acts = list(acts)

    def __call__(self) -> bool:
        act = self._acts.pop(0)
        if not self._acts:
            self._stop.set()
        if isinstance(act, Exception):
            raise act
        return act


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """The lines that are logged inside, as JSON."""
    lines: list[dict[str, Any]] = []
    out = io.StringIO()
    with redirect_stdout(out):
        log.configure("test", style="json")
        yield lines
    lines.extend(json.loads(line) for line in out.getvalue().splitlines())


def test_work_is_followed_by_the_next_step_at_once_and_idleness_by_a_pause() -> None:
    stop = Stop()
    run_steps("loop", Script(stop, True, True, False, True, False), stop, idle_s=0.7)
    assert stop.waits == [0.7, 0.7]


def test_a_failing_step_is_tried_again_after_growing_pauses_that_end_with_success() -> None:
    stop = Stop()
    boom = ValueError("boom")
    with logged():
        run_steps("loop", Script(stop, *[boom] * 8, True, boom, True), stop, idle_s=0.7)
    assert stop.waits == [*_BACKOFF_S, 5.0, 5.0, 0.1]


def test_every_failure_is_counted_and_logged_with_its_traceback() -> None:
    stop = Stop()
    counter = telemetry.LOOP_ERRORS.labels("counted")
    with logged() as lines:
        run_steps("counted", Script(stop, ValueError("boom"), KeyError("x"), True), stop, idle_s=0)
    assert counter._value.get() == 2
    assert [line["event"] for line in lines] == ["loop_step_failed", "loop_step_failed", "loop_recovered"]
    assert "boom" in lines[0]["exception"] and lines[0]["loop"] == "counted"


def test_a_dependency_that_is_away_is_one_warning_and_one_recovery() -> None:
    stop = Stop()
    away = Unavailable("The database cannot be reached.")
    counter = telemetry.LOOP_ERRORS.labels("away")
    with logged() as lines:
        run_steps("away", Script(stop, away, away, away, True, away, True), stop, idle_s=0)
    assert [line["event"] for line in lines] == ["dependency_away", "loop_recovered"] * 2
    assert not any("exception" in line for line in lines)
    assert counter._value.get() == 0


def test_an_absence_that_follows_another_failure_is_still_told() -> None:
    stop = Stop()
    with logged() as lines:
        run_steps("loop", Script(stop, ValueError(), Unavailable("gone"), True), stop, idle_s=0)
    assert [line["event"] for line in lines] == ["loop_step_failed", "dependency_away", "loop_recovered"]


def test_a_transaction_that_lost_is_tried_again_and_nothing_is_said_to_be_away() -> None:
    stop = Stop()
    lost = Contended("The database is busy with a conflicting change.")
    counter = telemetry.LOOP_ERRORS.labels("lost")
    with logged() as lines:
        run_steps("lost", Script(stop, lost, lost, True, lost, Unavailable("gone"), True), stop, idle_s=0)
    assert [line["event"] for line in lines] == ["dependency_away", "loop_recovered"]
    assert lines[0]["error"] == "gone"
    assert stop.waits == [*_BACKOFF_S[:2], *_BACKOFF_S[:2]]
    assert counter._value.get() == 0


OLD = NotMigrated("The database has no schema yet: run `tocsin migrate`.")


def test_of_all_loops_one_says_that_the_database_is_not_migrated_and_that_it_is() -> None:
    outer, inner = Stop(), Stop()

    def others(_timeout_s: float | None = None) -> bool:
        """Another loop that finds the same, while the first one waits for its next try."""
        run_steps("second", Script(inner, OLD, OLD, True), inner, idle_s=0)
        return False

    outer.wait = others  # type: ignore[assignment]
    with logged() as lines:
        run_steps("first", Script(outer, OLD, True, True), outer, idle_s=0)
    assert [(line["event"], line.get("loop")) for line in lines] == [
        ("database_not_migrated", None), ("loop_recovered", "first"),
    ]  # fmt: skip
    assert "run `tocsin migrate`" in lines[0]["error"]
    assert lines[0]["level"] == "warning"


def test_when_it_is_behind_again_that_is_said_again_by_whichever_loop_finds_out_first() -> None:
    with logged() as lines:
        for name in ("one", "two"):
            stop = Stop()
            run_steps(name, Script(stop, OLD, OLD, True), stop, idle_s=0)
        ended = Stop()
        run_steps("ended while it was", Script(ended, OLD), ended, idle_s=0)
        stop = Stop()
        run_steps("three", Script(stop, OLD, Unavailable("gone"), True), stop, idle_s=0)
    assert [line["event"] for line in lines] == [
        *("database_not_migrated", "loop_recovered") * 2,
        "database_not_migrated",
        "database_not_migrated", "dependency_away", "loop_recovered",
    ]  # fmt: skip


def test_a_start_waits_for_the_database_and_says_once_why() -> None:
    stop = Stop()
    acts: list[Any] = [Unavailable("gone"), Unavailable("gone"), OLD, OLD, OLD, 7]

    def ask() -> int:
        act = acts.pop(0)
        if isinstance(act, Exception):
            raise act
        return int(act)

    with logged() as lines:
        assert wait_for_database(ask, stop) == 7
    assert [(line["event"], line["error"]) for line in lines] == [
        ("waiting_for_database", "gone"), ("database_not_migrated", OLD.message),
    ]  # fmt: skip
    assert stop.waits == [1.0] * 5
    stop.set()
    assert wait_for_database(ask, stop) is None


def test_the_warning_names_the_cause() -> None:
    stop = Stop()
    away = Unavailable("The database cannot be reached.")
    away.__cause__ = OSError("connection refused")
    with logged() as lines:
        run_steps("loop", Script(stop, away, True), stop, idle_s=0)
    assert lines[0]["error"] == "connection refused"


def test_a_stop_ends_a_pause_at_once() -> None:
    stop = threading.Event()
    thread = start_loop("loop", lambda: False, stop, idle_s=60)
    time.sleep(0.05)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert thread.daemon  # it never keeps a process from ending


def test_a_role_without_its_urls_says_which_are_missing() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL and REDIS_URL must be set"):
        require_urls(load_settings({}))
    with pytest.raises(SettingsError, match=r"^REDIS_URL must be set"):
        require_urls(load_settings({"DATABASE_URL": "postgresql://h/d"}))


def test_a_wrong_setting_is_one_line_on_stderr_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOCSIN_PORT", "x")
    assert main("worker", lambda _settings, _stop: 0) == 2
    line = capsys.readouterr().err
    assert line.startswith("tocsin worker: TOCSIN_PORT: ") and line.count("\n") == 1


def test_a_busy_metrics_port_is_one_line_on_stderr_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as busy:
        busy.bind(("0.0.0.0", 0))
        busy.listen()
        port = busy.getsockname()[1]
        monkeypatch.setenv("TOCSIN_METRICS_PORT", str(port))
        assert main("worker", lambda _settings, _stop: 0) == 2
    assert f"TOCSIN_METRICS_PORT: cannot listen on port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_role_to_stop_and_its_status_is_the_process_status(number: signal.Signals) -> None:
    code = (
        "import sys\nfrom common.process import main\n"
        "def run(settings, stop):\n    print('ready', flush=True)\n    return 7 if stop.wait(30) else 1\n"
        "sys.exit(main('test', run))\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(60) == 7
