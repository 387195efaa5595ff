"""The whole product on this machine, for one run: embedded servers, schema, target, role processes.

Everything lives in a temporary directory, is started by this process and ends with it, even if it is killed.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from pydantic import SecretStr

from bench.plan import BenchError, Plan
from bench.target import StartTarget, Target, start_target
from common.embedded import EmbeddedServers
from common.settings import child_environment, load_settings
from common.spawn import spawn
from common.vault import generate_key
from migrations.run import CREDENTIALS_FILE, migrate_and_bootstrap

ROOT = Path(__file__).resolve().parent.parent

_FIRST_RESULT_WITHIN_S = 60.0
#: A worker may take 25 s to end its batches.
_STOP_WITHIN_S = 28.0


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API is, and the first organization's key."""

    host: str
    port: int
    key: str


class Stack:
    """Owns every process of a run. Use it with `with`, in the main thread (common.spawn says why)."""

    def __init__(self, plan: Plan, say: Callable[[str], None], start: StartTarget = start_target) -> None:
        self._plan = plan
        self._say = say
        self._start_target = start
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-bench-"))
        self.folder.chmod(0o711)  # as root the database runs as another user, who has to pass
        self.metrics_dir = self.folder / "metrics"
        self.encryption_keys = generate_key()
        self.servers = EmbeddedServers(self.folder / "data", lambda _line: None)
        self.roles: dict[str, subprocess.Popen[bytes]] = {}
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Start the servers, the schema and the target; roles are started by `start_roles`."""
        try:
            self._start()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process, the last started first, and remove the directory."""
        self._undo.close()

    def _start(self) -> None:
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._undo.callback(self.servers.stop)
        self._say("starting PostgreSQL, Valkey and the target")
        urls = self.servers.start()
        self._database_url = urls.database_url
        self.metrics_dir.mkdir()
        self._port = _free_port()
        self.settings = settings = load_settings(
            {},
            database_url=SecretStr(urls.database_url),
            redis_url=SecretStr(urls.redis_url),
            encryption_keys=SecretStr(self.encryption_keys),
            jwt_key=SecretStr(generate_key()),
            port=self._port,
            data_dir=self.folder / "data",
            metrics_dir=self.metrics_dir,
            log_level="warning",
            log_format="json",
            rate_limit_writes=0,
            dns_servers=self._plan.dns_servers,
        )
        self.env = child_environment(settings, PYTHONPATH=str(ROOT))
        self.target: Target = self._start_target(self._plan.target, self.folder / "target", self.env, ROOT, self._say)
        self._undo.callback(end, [self.target.process])
        migrate_and_bootstrap(settings)
        self.database: psycopg.Connection[Any] = psycopg.connect(urls.database_url, autocommit=True)
        self._undo.callback(self.database.close)

    def start_roles(self) -> None:
        """Start scheduler, workers and, if the plan wants it, the notifier; return with the first result committed."""
        names = ["scheduler", *(f"worker-{n}" for n in range(1, self._plan.workers + 1))]
        if self._plan.notifier:
            names.append("notifier")
        self._say(f"starting {', '.join(names)}")
        for name in names:
            self.start_role(name)
        deadline = time.monotonic() + _FIRST_RESULT_WITHIN_S
        while self.database.execute("SELECT 1 FROM results LIMIT 1").fetchone() is None:
            self.check_alive()
            if time.monotonic() > deadline:
                raise BenchError(f"no result within {_FIRST_RESULT_WITHIN_S:.0f} s; {self._last_words()}")
            time.sleep(0.1)

    def start_notifier(self) -> None:
        """Start the notifier by itself."""
        self._say("starting the notifier")
        self.start_role("notifier")

    @property
    def database_url(self) -> str:
        """As the database's owner."""
        return self._database_url

    def start_api(self) -> ApiAccess:
        """Start the API as the product does; return when it answers."""
        self._say("starting the API")
        self.start_role("api")
        credentials = json.loads((self.folder / "data" / CREDENTIALS_FILE).read_text(encoding="utf-8"))
        deadline = time.monotonic() + _FIRST_RESULT_WITHIN_S
        while time.monotonic() < deadline:
            self.check_alive()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return ApiAccess("127.0.0.1", self._port, credentials["api_key"])
            time.sleep(0.05)
        raise BenchError(f"the API did not answer; {self._last_words()}")

    def start_role(self, name: str, **env: str) -> None:
        """Start one process of a role, named <role> or <role>-<n>, with these variables as well."""
        if not self.roles:
            self._undo.callback(lambda: end(self.roles.values()))
        module = f"{name.split('-', maxsplit=1)[0]}.app"
        # Not the benchmark's working directory: PYTHONPATH alone says which tree is measured.
        with self._log(name).open("wb") as log:
            self.roles[name] = spawn(
                [sys.executable, "-m", module], env={**self.env, **env}, cwd=self.folder, stdout=log.fileno()
            )

    def check_alive(self) -> None:
        """Raise BenchError when a process that should run has ended."""
        for name, process in (*self.roles.items(), ("target", self.target.process)):
            if process.poll() is not None:
                raise BenchError(f"{name} ended with status {process.returncode}; {self._last_words()}")

    def sample(self, query: str) -> list[str]:
        """The first column of a query, by a connection of its own: any thread may ask."""
        with psycopg.connect(self._database_url) as connection:
            return [row[0] for row in connection.execute(query).fetchall()]

    def pids(self) -> dict[str, int]:
        """Process ids by role; postgres is the postmaster."""
        roles = {name: process.pid for name, process in self.roles.items()}
        return {**roles, **self.servers.pids(), "target": self.target.process.pid}

    def warnings(self) -> dict[str, int]:
        """Lines that each role logged at warning or above."""
        return {
            name: len(self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()) for name in self.roles
        }

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _last_words(self) -> str:
        lines = [
            f"{name}: {text.splitlines()[-1][:500]}"
            for name in self.roles
            if (text := self._log(name).read_text(encoding="utf-8", errors="replace").strip())
        ]
        return "; ".join(lines) or "no role said why"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to all at once; what has not ended in time is killed, by its id."""
    ending = list(processes)
    for process in ending:
        process.terminate()
    deadline = time.monotonic() + _STOP_WITHIN_S
    for process in ending:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
