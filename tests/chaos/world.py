"""Everything of one run: servers, proxies before them, the roles, endpoints, the receiver, and the first monitors.

All of it lives in a temporary directory on loopback, is started by this process and ends with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psycopg
import redis
import requests
from pydantic import SecretStr

from common.embedded import EmbeddedServers
from common.settings import child_environment, load_settings
from common.spawn import spawn
from common.vault import generate_key
from migrations.run import migrate_and_bootstrap
from tests.chaos.disk import SmallDisk
from tests.chaos.events import History
from tests.chaos.final import watch_leases
from tests.chaos.fleet import Fleet
from tests.chaos.plan import ChaosError, Plan
from tests.chaos.population import Api, Population, give_order
from tests.chaos.proxy import Proxy
from tests.chaos.receiver import Receiver
from tests.chaos.stutter import watch_ourselves
from tests.chaos.timeline import scripts
from tests.targets import free_port

ROOT = Path(__file__).resolve().parents[2]
_READY_WITHIN_S = 240.0
#: Disks that can be filled, of all data and of the queue's alone.
_DATA_MB, _QUEUE_MB = 1_500, 300
#: A role that cannot run with what it is given ends again and again.
_EARLY_DEATHS = 3


class World:
    """Use it with `with`, in the main thread."""

    def __init__(
        self,
        plan: Plan,
        kept: Path,
        say: Callable[[str], None],
        *,
        launcher: str = "tests.chaos.wounded",
        prepare: Callable[[psycopg.Connection[Any]], None] | None = None,
    ) -> None:
        """`kept` takes history and logs and outlives us; `prepare` may change the schema before the roles start."""
        self.plan = plan
        self.kept = kept
        self.history_path = kept / "history.jsonl"
        self._say = say
        self._launcher = launcher
        self._prepare = prepare
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Start everything; monitors exist and are up, the endpoints' scripts wait for `play`."""
        try:
            self._start()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End every process, the last started first, and remove the directory."""
        self._undo.close()

    def database(self) -> psycopg.Connection[Any]:
        """A connection that passes by all proxies, as the server's own user."""
        return psycopg.connect(self.database_url, autocommit=True, connect_timeout=60)

    def queue(self) -> redis.Redis:
        """A client that passes by all proxies."""
        return redis.Redis.from_url(self.redis_url, socket_timeout=60)

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def client_url(self) -> str:
        """Where the API's clients find it: behind a proxy."""
        return f"http://127.0.0.1:{self.proxies['api'].port}"

    def play(self) -> None:
        """Let the endpoints' scripts begin."""
        self._order("play")

    def settle(self) -> None:
        """Every endpoint keeps its last state from here on."""
        self._order("settle")

    def _start(self) -> None:
        data = self._folder()
        self.history = History(self.history_path)
        self._undo.callback(self.history.close)
        self._say("starting PostgreSQL and Valkey")
        self.servers = EmbeddedServers(data, lambda _line: None)
        self._undo.callback(self.servers.stop)
        urls = self.servers.start()
        self.database_url, self.redis_url = urls.database_url, urls.redis_url
        self._watch_the_machine()
        self.receiver = self._undo.enter_context(Receiver(self.history, self.plan.seed))
        self._start_proxies(data)
        environment = self._environment(data)
        self.proxies["api"] = self._undo.enter_context(Proxy(f"127.0.0.1:{self.port}"))
        with self.database() as connection:
            watch_leases(connection)
            if self._prepare is not None:
                self._prepare(connection)
        self._start_endpoints(environment)
        self._say("starting the roles")
        self.fleet = Fleet(self.kept, environment, self.servers, self.history, self._launcher)
        self._undo.callback(self.fleet.stop)
        self.fleet.start()
        self._await_ready()
        self._say(f"making {self.plan.monitors} monitors, channels and routes")
        population = Population(
            Api(self.url, self.api_key), self._endpoints, f"http://127.0.0.1:{self.proxies['sink'].port}"
        )
        wanted = scripts(self.plan)
        self.down_at_the_end = sum(script.character == "ends_down" for script in wanted)
        with self.database() as connection:
            self.history.add(population.make(self.plan, wanted, connection))

    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="tocsin-chaos-"))
        folder.chmod(0o711)  # as root the database runs as another user, who has to pass
        self._undo.callback(shutil.rmtree, folder, ignore_errors=True)
        data = folder / "data"
        self.disk = SmallDisk(data, folder / "data.img", _DATA_MB)
        self.queue_disk = SmallDisk(data / "valkey", folder / "valkey.img", _QUEUE_MB)
        if self.plan.wants_small_disk("disk-full"):
            self._undo.enter_context(self.disk)
        if self.plan.wants_small_disk("redis-disk"):
            data.mkdir(exist_ok=True)
            data.chmod(0o711)
            self._undo.enter_context(self.queue_disk)
        return data

    def _watch_the_machine(self) -> None:
        """In a process of its own, and in this one."""
        argv = (sys.executable, "-m", "tests.chaos.stutter", str(self.history_path), self.database_url, self.redis_url)
        self._undo.callback(_end, spawn(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}))
        stop = threading.Event()
        threading.Thread(
            target=watch_ourselves, args=(self.history, "the run", stop), name="stutter", daemon=True
        ).start()
        self._undo.callback(stop.set)

    def _start_proxies(self, data: Path) -> None:
        folder = self._socket_folder()
        self.proxies = {
            "postgres": self._undo.enter_context(Proxy(str(folder / ".s.PGSQL.5432"))),
            "redis": self._undo.enter_context(Proxy(str(folder / "valkey.sock"))),
            "sink": self._undo.enter_context(Proxy(f"127.0.0.1:{self.receiver.port}")),
        }

    def _socket_folder(self) -> Path:
        return Path(psycopg.conninfo.conninfo_to_dict(self.database_url)["host"])  # type: ignore[arg-type]

    def _environment(self, data: Path) -> dict[str, str]:
        """Settings of every role; the schema and the first administrator are made on the way."""
        self.port = free_port()
        settings = load_settings(
            {},
            database_url=SecretStr(self.database_url),
            redis_url=SecretStr(self.redis_url),
            data_dir=data,
            port=self.port,
            encryption_keys=SecretStr(generate_key()),
            jwt_key=SecretStr(generate_key()),
            log_format="json",
            rate_limit_writes=0,
            flap_turns=0,  # each outage is told: sweeps that waited for PostgreSQL may turn a heartbeat often at once
            rate_limit_alerts=0,
        )
        migrate_and_bootstrap(settings)
        self.api_key = str(json.loads((data / "credentials.json").read_text())["api_key"])
        through = settings.model_copy(
            update={
                "database_url": SecretStr(
                    f"postgresql://tocsin@127.0.0.1:{self.proxies['postgres'].port}/tocsin"
                    "?sslmode=disable&gssencmode=disable"
                ),
                "redis_url": SecretStr(f"redis://127.0.0.1:{self.proxies['redis'].port}/0"),
            }
        )
        return child_environment(through, PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")

    def _start_endpoints(self, environment: dict[str, str]) -> None:
        port = self.kept / "endpoints.port"
        with port.open("wb") as out:
            argv = (sys.executable, "-m", "tests.chaos.endpoints", str(self.history_path))
            process = spawn(argv, env=environment, stdout=out.fileno())
        self._undo.callback(_end, process)
        deadline = time.monotonic() + 90
        while not port.read_text().endswith("\n"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ChaosError(f"the endpoints did not start: {port.read_text()}")
            time.sleep(0.02)
        self.endpoint_ports = tuple(map(int, port.read_text().split()))
        web, names = self.endpoint_ports
        self._endpoints = f"http://127.0.0.1:{web}"
        port.unlink()
        environment |= {"TOCSIN_DNS_SERVERS": f"127.0.0.1:{names}", "TOCSIN_CANARIES": f"127.0.0.1:{web}"}

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            self.fleet.step()
            if self._is_ready() and self._everybody_said_so():
                return
            if self.fleet.deaths > _EARLY_DEATHS or time.monotonic() > deadline:
                raise ChaosError(f"the roles do not come up: {self.fleet.last_words()}; logs in {self.kept}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/ready", timeout=10).ok
        except requests.RequestException:
            return False

    def _everybody_said_so(self) -> bool:
        return all(
            "_started" in self.fleet.log(name).read_text(errors="replace")
            for name in ("scheduler-1", "worker-1", "notifier-1")
            if self.fleet.log(name).exists()
        )

    def _order(self, order: str) -> None:
        give_order(self._endpoints, order)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
