"""A whole stack by `tocsin up`, in a directory of its own on a free port, that never outlives its test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
import requests

from common.settings import VARIABLES
from common.spawn import spawn
from tests.targets import free_port

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "common.cli")


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 90.0, every_s: float = 0.02) -> Any:
    """The first true value of the condition; an API or server that is away meanwhile is waited for too."""
    deadline = time.monotonic() + timeout_s
    while True:
        is_late = time.monotonic() > deadline  # before it is looked at: who stood still himself looks once more
        with suppress(requests.RequestException, redis.RedisError, psycopg.OperationalError, Away):
            if value := condition():
                return value
        assert not is_late, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(every_s)


class Away(Exception):
    """The API said 503."""


class Api:
    """The public API with one key; raises AssertionError for what is not 2xx, Away for 503."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {key}"
        self.bodies: list[str] = []

    def call(self, method: str, path: str, body: Any = None) -> Any:
        response = self.session.request(method, f"{self.url}/v1{path}", json=body, timeout=60)
        if response.status_code == 503:
            raise Away
        assert response.ok, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def items(self, path: str) -> list[Any]:
        data: list[Any] = self.get(path)["data"]
        return data

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body)

    def add_monitor(self, target: str, **fields: Any) -> str:
        """A fast http monitor; its id."""
        body = {"type": "http", "name": target.rpartition("/")[2] or "root", "target": target, "interval_seconds": 1}
        return str(self.post("/monitors", {**body, "retry_interval_seconds": 1, **fields})["id"])

    def state(self, monitor_id: str) -> dict[str, Any]:
        state: dict[str, Any] = self.get(f"/monitors/{monitor_id}")["state"]
        return state

    def await_state(self, monitor_id: str, status: str, timeout_s: float = 90.0) -> None:
        wait_for(lambda: self.state(monitor_id)["status"] == status, f"monitor {status}", timeout_s)

    def incidents(self, monitor_id: str) -> list[Any]:
        """Oldest first."""
        return self.items(f"/incidents?monitor_id={monitor_id}")[::-1]

    def await_incident(self, monitor_id: str, status: str, number: int = 0, timeout_s: float = 90.0) -> dict[str, Any]:
        """The monitor's incident `number`, as soon as it has that status."""

        def found() -> Any:
            incidents = self.incidents(monitor_id)
            return len(incidents) > number and incidents[number]["status"] == status and incidents[number]

        incident: dict[str, Any] = wait_for(found, f"incident {status}", timeout_s)
        return incident


class Stack:
    """One `tocsin up`. `start` may follow `stop` or `kill`: the data stays."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.log = data_dir.parent / "up.log"
        self.environment = {
            **clean_environment(),
            "TOCSIN_DATA_DIR": str(data_dir),
            "TOCSIN_PORT": str(self.port),
            "TOCSIN_LOG_LEVEL": "debug",
            "TOCSIN_WORKERS": "2",
            "TOCSIN_RATE_LIMIT_WRITES": "0",
            **variables,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, within_s: float = 120.0) -> None:
        (self.data_dir / "stack.json").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = spawn((*COMMAND, "up"), env=self.environment, stdout=log.fileno(), cwd=ROOT)
        wait_for(self._ready, f"ready\n{self.tail()}", within_s)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"tocsin up ended\n{self.tail()}"
        return (self.data_dir / "stack.json").exists()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 120.0) -> float:
        """End it by this signal; how long that took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(within_s)
        return time.monotonic() - began

    def credentials(self) -> dict[str, str]:
        return dict(json.loads((self.data_dir / "credentials.json").read_text()))

    def connections(self) -> dict[str, str]:
        """url, database_url, redis_url."""
        return dict(json.loads((self.data_dir / "stack.json").read_text()))

    def api(self) -> Api:
        return Api(self.url, self.credentials()["api_key"])

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Rows, as the login (a superuser) sees them."""
        with psycopg.connect(self.connections()["database_url"], connect_timeout=60) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def valkey(self) -> redis.Redis:
        return redis.Redis.from_url(self.connections()["redis_url"], socket_timeout=60)

    def pids(self, role: str) -> list[int]:
        """Processes of a role (api, scheduler, worker, notifier) or server (postgres, valkey), our children only."""
        assert self.process is not None
        wanted = {"postgres": "postgres", "valkey": "valkey-server"}.get(role, f"{role}.app")
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if wanted in (child.name(), *child.cmdline()):
                        found.append(child.pid)
        return found

    def kill(self, role: str) -> None:
        """SIGKILL one process of a role."""
        os.kill(wait_for(lambda: self.pids(role), f"a {role}")[0], signal.SIGKILL)

    def leftovers(self) -> list[psutil.Process]:
        """Every process that belongs to this data directory, whoever its parent is by now."""
        return [process for process in psutil.process_iter() if _belongs(process, str(self.data_dir))]

    def end(self) -> None:
        """Whatever state a test left it in, nothing of it goes on; at once, as an orderly stop has tests of its own."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)
        leftovers = self.leftovers()
        for process in leftovers:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(leftovers, 60)


def _belongs(process: psutil.Process, data_dir: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return (
            process.cwd().startswith(data_dir)
            or process.environ().get("TOCSIN_DATA_DIR") == data_dir
            or any(data_dir in word for word in process.cmdline())
        )
    except (psutil.Error, OSError):
        return False


@contextmanager
def data_directory() -> Iterator[Path]:
    """Not tmp_path: that is too long for a socket, and closed to the user that the servers run as under root."""
    parent = Path(tempfile.mkdtemp(prefix="tcs-e2e-"))
    parent.chmod(0o711)
    try:
        yield parent / "data"
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def running(**variables: str) -> Iterator[Stack]:
    """A stack that is ready."""
    with data_directory() as data_dir:
        stack = Stack(data_dir, **variables)
        try:
            stack.start()
            yield stack
        finally:
            stack.end()


def clean_environment(**variables: str) -> dict[str, str]:
    """Our environment without any setting of Tocsin, with these put in."""
    ours = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in VARIABLES}
    return {**ours, **variables}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The `tocsin` command to its end."""
    environment = clean_environment(**variables)
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, cwd=ROOT, text=True, capture_output=True, timeout=300, check=False
    )
