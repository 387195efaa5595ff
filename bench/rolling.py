"""Every process restarted, one after the other, under load: no check may be lost and no request answered with a 5xx.

Two of each role; requests go through nginx, which is told to leave an API out before that is stopped, as every balancer
does. Nothing is tried again by anybody: what fails counts.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
from rich.console import Console
from rich.table import Table

from bench.packages import find
from bench.plan import BenchError, Plan
from bench.progress import Progress
from bench.seed import seed
from bench.stack import ApiAccess, Stack, end
from bench.target import await_answer, free_port
from common.domain.checks import Kind
from common.spawn import spawn

ROLES = ("scheduler", "worker", "notifier")
_CLIENTS = 4
_REQUESTS_PER_S = 100.0
_CALM_S = 3.0
_READY_WITHIN_S = 30.0

_CONF = """
daemon off; worker_processes 1; pid {folder}/front.pid; error_log {folder}/front.error warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream api {{ {servers} keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_next_upstream off;
    }}
  }}
}}
"""

# Slots of a monitor that lie between two stored ones, or between the window's ends and its first and last one.
_LOST = """
WITH seen AS (
  SELECT monitor_no, scheduled_at,
         lag(scheduled_at, 1, to_timestamp(%(begin)s)) OVER (PARTITION BY monitor_no ORDER BY scheduled_at) AS before
    FROM results
   WHERE kind = %(kind)s::"char" AND scheduled_at BETWEEN to_timestamp(%(begin)s) AND to_timestamp(%(end)s)
), between AS (
  SELECT greatest(0, ceil(extract(epoch FROM scheduled_at - before) / %(interval)s - 1.001)) AS lost FROM seen
), last AS (
  SELECT greatest(0, floor((%(end)s - extract(epoch FROM max(scheduled_at))) / %(interval)s - 0.001)) AS lost
    FROM seen GROUP BY monitor_no
)
SELECT (SELECT coalesce(sum(lost), 0) FROM between) + (SELECT coalesce(sum(lost), 0) FROM last),
       (SELECT count(*) FROM seen), (SELECT count(DISTINCT monitor_no) FROM seen)
"""


@dataclass(frozen=True, slots=True)
class Restart:
    """One process: how long it took to end after SIGTERM, and an API to answer again (seconds)."""

    process: str
    ended_s: float
    ready_s: float | None


@dataclass(frozen=True, slots=True)
class RollingFindings:
    """What came of it. `lost` are slots that were due and are not stored; `statuses` of requests, 0 for no answer."""

    monitors: int
    interval_s: int
    seconds: float
    checks: int
    lost: int
    requests: int
    statuses: dict[str, int]
    restarts: list[Restart] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests that got a 5xx or no answer."""
        return sum(count for status, count in self.statuses.items() if status == "0" or status >= "500")

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {**asdict(self), "failed": self.failed}


def rolling(plan: Plan, progress: Progress) -> RollingFindings:
    """Start two of everything, restart each under load, and count."""
    with Stack(plan, lambda line: progress.show(f"rolling: {line}", None)) as stack:
        seed(stack.database, plan, stack.target)
        return _Trial(stack, plan, lambda what: progress.show(f"rolling: {what}", None)).run()


class _Trial:
    def __init__(self, stack: Stack, plan: Plan, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._plan = plan
        self._say = say

    def run(self) -> RollingFindings:
        stack = self._stack
        stack.start_roles()
        for role in ROLES:
            if role != "worker":
                stack.start_role(f"{role}-2")
        access = stack.start_api()
        ports = {"api": access.port, "api-2": free_port()}
        stack.start_role("api-2", TOCSIN_PORT=str(ports["api-2"]))
        self._await_ready(ports["api-2"])
        with _Front(stack, ports, self._say) as front:
            begin_s = self._now_s() + 1
            time.sleep(_CALM_S)
            with _asking(front.port, access) as statuses:
                restarts = [self._restart(name, ports, front) for name in sorted(stack.roles)]
                time.sleep(_CALM_S)
            end_s = self._now_s()
        time.sleep(self._plan.interval_s + _CALM_S)  # what is under way is stored by then
        lost, checks, monitors = self._count(begin_s, end_s)
        if monitors != self._plan.monitors:
            raise BenchError(f"only {monitors} of {self._plan.monitors} monitors were checked at all")
        return RollingFindings(
            self._plan.monitors, self._plan.interval_s, end_s - begin_s, checks, lost, statuses.total(),
            {str(status): count for status, count in sorted(statuses.items())}, restarts,
        )  # fmt: skip

    def _restart(self, name: str, ports: dict[str, int], front: _Front) -> Restart:
        self._say(f"restarting {name}")
        if name in ports:
            front.leave_out(name)
            time.sleep(_CALM_S / 3)
        began = time.monotonic()
        end([self._stack.roles.pop(name)])
        ended = time.monotonic()
        self._stack.start_role(name, **({"TOCSIN_PORT": str(ports[name])} if name in ports else {}))
        if name in ports:
            self._await_ready(ports[name])
            front.leave_out("")
        ready_s = time.monotonic() - ended if name in ports else None  # the others answer nobody
        time.sleep(_CALM_S)
        self._stack.check_alive()
        return Restart(name, ended - began, ready_s)

    def _await_ready(self, port: int) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            self._stack.check_alive()
            try:
                if requests.get(f"http://127.0.0.1:{port}/ready", timeout=1).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.05)
        raise BenchError(f"the API on port {port} is not ready after {_READY_WITHIN_S:.0f} s")

    def _now_s(self) -> float:
        row = self._stack.database.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        assert row is not None
        return float(row[0])

    def _count(self, begin_s: float, end_s: float) -> tuple[int, int, int]:
        values = {
            "begin": begin_s,
            "end": end_s,
            "interval": float(self._plan.interval_s),
            "kind": str(int(Kind.SCHEDULED)),
        }
        row = self._stack.database.execute(_LOST, values).fetchone()
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])


class _Front:
    """nginx before the APIs; one of them can be left out."""

    def __init__(self, stack: Stack, ports: dict[str, int], say: Callable[[str], None]) -> None:
        self.port = free_port()
        self._ports = ports
        self._folder: Path = stack.folder / "front"
        self._env = stack.env
        nginx = find("nginx", "nginx-light", say)
        if nginx is None:
            raise BenchError("nginx is not installed and could not be: install it")
        self._nginx = nginx

    def __enter__(self) -> Self:
        self._folder.mkdir()
        config = self._write("")
        argv = [self._nginx, "-p", str(self._folder), "-e", str(self._folder / "front.error"), "-c", str(config)]
        with (self._folder / "target.log").open("wb") as log:
            self._process: subprocess.Popen[bytes] = spawn(argv, env=self._env, cwd=self._folder, stdout=log.fileno())
        await_answer(self._process, self.port, self._folder, "127.0.0.1")
        return self

    def __exit__(self, *_: object) -> None:
        end([self._process])

    def leave_out(self, name: str) -> None:
        """Send nothing more to this one; to all, with no name."""
        self._write(name)
        self._process.send_signal(signal.SIGHUP)
        time.sleep(0.5)

    def _write(self, out: str) -> Path:
        servers = " ".join(
            f"server 127.0.0.1:{port} max_fails=0{' down' if name == out else ''};"
            for name, port in self._ports.items()
        )
        path = self._folder / "nginx.conf"
        path.write_text(_CONF.format(folder=self._folder, servers=servers, port=self.port), encoding="utf-8")
        return path


@contextmanager
def _asking(port: int, access: ApiAccess) -> Iterator[Counter[int]]:
    """Requests from several clients, reads and writes, as long as the block lasts; {status: how many}."""
    statuses: Counter[int] = Counter()
    stop, lock = threading.Event(), threading.Lock()

    def ask() -> None:
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {access.key}"
            # What nginx keeps open for us, it drops unasked when it reads its configuration again.
            session.headers["Connection"] = "close"
            for turn in itertools.count():
                if stop.wait(_CLIENTS / _REQUESTS_PER_S):
                    return
                status = _one(session, f"http://127.0.0.1:{port}", turn)
                with lock:
                    statuses[status] += 1

    threads = [threading.Thread(target=ask, name=f"client-{n}") for n in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _one(session: requests.Session, url: str, turn: int) -> int:
    try:
        if turn % 5:
            path = ("/v1/monitors?limit=20", "/v1/incidents", "/v1/summary", "/v1/monitors?limit=1")[turn % 4]
            return session.get(f"{url}{path}", timeout=10).status_code
        alert = {"name": "rolling", "source": "bench", "dedup_key": f"rolling-{turn % 50}", "summary": "beside it"}
        return session.post(f"{url}/v1/alerts", json=[alert], timeout=10).status_code
    except requests.RequestException as error:
        sys.stderr.write(f"no answer: {error}\n")
        return 0


def show_rolling(console: Console, found: RollingFindings) -> None:
    """Print them."""
    table = Table(title=f"{found.monitors:,} monitors at {found.interval_s} s, every process restarted once")
    for name in ("process", "ended after", "ready after"):
        table.add_column(name, justify="left" if name == "process" else "right")
    for restart in found.restarts:
        ready = "" if restart.ready_s is None else f"{restart.ready_s:.2f} s"
        table.add_row(restart.process, f"{restart.ended_s:.2f} s", ready)
    console.print(table)
    console.print(
        f"{found.checks:,} checks in {found.seconds:.0f} s, lost [bold]{found.lost}[/bold]; "
        f"{found.requests:,} requests {found.statuses}, 5xx or without an answer [bold]{found.failed}[/bold]"
    )
