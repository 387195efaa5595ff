"""`tocsin up`: everything on one machine, in the foreground, under one supervisor.

Servers → schema → roles → ready, said as it happens. Ctrl-C or SIGTERM stops all of it in order; kill -9 leaves no
orphan, because every child asked the kernel to be told of its parent's death.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from common import given_servers, log, telemetry
from common.clock import utc_now
from common.domain.errors import StackError
from common.embedded import EmbeddedServers, own_stack, refuse_second
from common.keys import check_keys, with_keys, write_private
from common.settings import Settings, child_environment
from common.supervisor import Role, Supervisor

#: What `tocsin demo` and others on this machine read to find a running stack.
STACK_FILE = "stack.json"

#: The first administrator's login and API key, written when they are made.
CREDENTIALS_FILE = "credentials.json"

#: Where the roles' processes share their metrics.
_METRICS_DIR = "metrics"

_READY_WITHIN_S = 60.0


def up(settings: Settings, console: Console, *, verbose: bool) -> int:
    """Start everything and run until stopped; the exit status. Raises SettingsError and StackError."""
    started = time.monotonic()
    check_keys(settings)
    refuse_second(settings.data_dir)  # before the port, which that one has as well
    _refuse_busy_port(settings)
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_stop_on(stop))
        say = _Progress(console)
        given = given_servers.find(settings)
        settings, servers = _start_servers(settings, say, stack)
        given_servers.wait(given, say, stop)
        if stop.is_set():
            return 0
        environment = _environment(settings, console, verbose=verbose)
        say("bringing the schema up to date")
        for line in filter(None, _migrate(environment).splitlines()):
            say(line)
        if stop.is_set():
            return 0
        supervisor = Supervisor(
            _roles(settings, environment), embedded=servers, on_event=_report(console, settings.data_dir / _METRICS_DIR)
        )
        stack.callback((settings.data_dir / STACK_FILE).unlink, missing_ok=True)
        say(f"starting api, scheduler, {settings.workers} workers, notifier")
        announcer = threading.Thread(
            target=_announce, args=(settings, console, started, stop), name="announcer", daemon=True
        )
        announcer.start()
        supervisor.run(stop)
        stop.set()
        console.print("[dim]stopping the servers[/dim]")
    console.print("[bold]stopped[/bold]")
    return 0


class _Progress:
    """One line per step, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    def __call__(self, line: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.1f} s[/dim]  {escape(line)}", highlight=False)


def _refuse_busy_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.bind, settings.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = "is in use: stop what listens there, or set TOCSIN_PORT"
            else:
                reason = f"cannot be used ({error.strerror}): set TOCSIN_BIND and TOCSIN_PORT"
            raise StackError(f"{settings.bind}:{settings.port} {reason}") from error


def _start_servers(settings: Settings, say: _Progress, stack: ExitStack) -> tuple[Settings, EmbeddedServers | None]:
    wants_postgres, wants_valkey = settings.database_url is None, settings.redis_url is None
    if not wants_postgres:
        settings = with_keys(settings)  # complains before anything is started
    if not wants_postgres and not wants_valkey:
        _own_data_dir(settings.data_dir, stack)
        return settings, None
    servers = stack.enter_context(EmbeddedServers(settings.data_dir, say, postgres=wants_postgres, valkey=wants_valkey))
    urls = servers.start()
    settings = with_keys(settings)
    update: dict[str, SecretStr] = {}
    if wants_postgres:
        update["database_url"] = SecretStr(urls.database_url)
    if wants_valkey:
        update["redis_url"] = SecretStr(urls.redis_url)
    return settings.model_copy(update=update), servers


def _own_data_dir(data_dir: Path, stack: ExitStack) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"{data_dir} cannot be used ({error.strerror}): set TOCSIN_DATA_DIR") from error
    stack.callback(os.close, own_stack(data_dir))


def _environment(settings: Settings, console: Console, *, verbose: bool) -> dict[str, str]:
    metrics = settings.data_dir / _METRICS_DIR
    shutil.rmtree(metrics, ignore_errors=True)  # counters of processes that are gone
    metrics.mkdir(parents=True)
    quiet = console.is_terminal and not verbose
    extra = {"PROMETHEUS_MULTIPROC_DIR": str(metrics), "PYTHONUNBUFFERED": "1"}
    if quiet and settings.log_level == "info":
        extra["TOCSIN_LOG_LEVEL"] = "warning"
    return child_environment(settings, **extra)


def _migrate(environment: dict[str, str]) -> str:
    """Start the migration and wait for it; what it has to say (where the first credentials are)."""
    done = subprocess.run(
        [sys.executable, "-m", "migrations.run"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise StackError(f"the schema could not be brought up to date: {lines[-1] if lines else 'no message'}")
    return done.stdout.strip()


def _roles(settings: Settings, environment: dict[str, str]) -> list[Role]:
    names = ["api", "scheduler", *(f"worker-{n}" for n in range(1, settings.workers + 1)), "notifier"]
    return [Role(name, (sys.executable, "-m", f"{name.split('-')[0]}.app"), environment) for name in names]


def _announce(settings: Settings, console: Console, started: float, stop: threading.Event) -> None:
    """Say once that it is ready, or once that it is not."""
    started_at = utc_now().timestamp() - (time.monotonic() - started)
    deadline = time.monotonic() + _READY_WITHIN_S
    while not stop.is_set() and time.monotonic() < deadline:
        if _is_ready(settings):
            _write_stack_file(settings)
            console.print(
                _ready_panel(
                    settings, time.monotonic() - started, first=console.is_terminal and _is_first(settings, started_at)
                )
            )
            return
        stop.wait(0.05)
    if not stop.is_set():
        console.print(
            f"[bold red]not ready after {_READY_WITHIN_S:.0f} s[/bold red], still trying: what the roles say is above"
        )


def _is_ready(settings: Settings) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment has no business on the way to ourselves
            return session.get(f"{_local_url(settings)}/ready", timeout=2).ok
    except requests.RequestException:
        return False


def _local_url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.bind, settings.bind)  # noqa: S104 - compared only
    return f"http://{host}:{settings.port}"


def _write_stack_file(settings: Settings) -> None:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    write_private(
        settings.data_dir / STACK_FILE,
        {
            "url": _local_url(settings),
            "database_url": settings.database_url.get_secret_value(),
            "redis_url": settings.redis_url.get_secret_value(),
        },
    )


def _is_first(settings: Settings, started_at: float) -> bool:
    # Shown on a terminal only: elsewhere the output is kept as a log, and secrets do not belong there.
    credentials = settings.data_dir / CREDENTIALS_FILE
    return credentials.exists() and credentials.stat().st_mtime >= started_at - 1


def _ready_panel(settings: Settings, seconds: float, *, first: bool) -> Panel:
    url = settings.base_url
    credentials = settings.data_dir / CREDENTIALS_FILE
    rows = Table.grid(padding=(0, 2))
    rows.add_row("[bold]API[/bold]", f"[link={url}]{url}[/link]")
    rows.add_row("[bold]docs[/bold]", f"{url}/docs")
    rows.add_row("[bold]metrics[/bold]", f"{url}/metrics")
    if first:
        made = json.loads(credentials.read_text(encoding="utf-8"))
        rows.add_row("[bold]login[/bold]", escape(f"{made['email']}  {made['password']}"))
        rows.add_row("[bold]API key[/bold]", escape(made["api_key"]))
        rows.add_row("", f"[dim]shown once, kept in {escape(str(credentials))}[/dim]")
    elif credentials.exists():
        rows.add_row("[bold]login[/bold]", f"in {escape(str(credentials))}")
    rows.add_row("[bold]data[/bold]", escape(str(settings.data_dir)))
    rows.add_row("", "[dim]Ctrl-C stops everything[/dim]")
    return Panel(rows, title=f"[bold green]Tocsin is ready[/bold green] after {seconds:.1f} s", expand=False)


def _report(console: Console, metrics: Path) -> Any:
    logger = log.get_logger()

    def report(event: str, details: dict[str, object]) -> None:
        if event == "role_ended" and isinstance(pid := details.get("pid"), int):
            telemetry.forget(pid, metrics)
        if event == "role_started":
            logger.debug(event, **details)
            return
        if console.is_terminal:
            told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in details.items())
            console.print(f"[yellow]{event.replace('_', ' ')}[/yellow]: {told}")
        else:
            logger.warning(event, **details)

    return report


@contextmanager
def _stop_on(stop: threading.Event) -> Iterator[None]:
    """A signal while the servers still start is an orderly stop too; the supervisor takes over from there."""
    before = {
        number: signal.signal(number, lambda _number, _frame: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stack_file(data_dir: Path) -> Path:
    """Where a running stack says how to reach it."""
    return data_dir / STACK_FILE
