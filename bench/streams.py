"""Open event streams on one API process: what they cost, how late events come, and whether other requests notice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import psutil
from rich.console import Console
from rich.table import Table

from bench.api import Latency, ask
from bench.plan import BenchError, Plan
from bench.progress import Progress
from bench.seed import seed
from bench.stack import ROOT, ApiAccess, Stack
from common.clock import utc_now
from common.domain.incident import Severity
from common.store.engine import Database, DatabaseRole
from common.store.incidents import Opening, open_all

STREAMS = 500
EVENTS_PER_S = 10
_READS = {"read one": 70, "list 50": 30}
_READS_PER_S = 300.0
_MB = 1_000_000
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What the API's process used over a while; `reads` are requests beside the streams, empty without any."""

    name: str
    cores: float
    memory_mb: float
    reads: dict[str, Latency]


@dataclass(frozen=True, slots=True)
class StreamFindings:
    """What came of it. Latencies are from an event to its last byte read (ms), over all streams."""

    streams: int
    events_per_s: int
    opened_in_s: float
    costs: list[Cost]
    delivered: int
    expected: int
    ended: int
    quiet: Latency
    with_reads: Latency

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return asdict(self)


def streams(plan: Plan, progress: Progress) -> StreamFindings:
    """500 streams: none yet, idle, with events, with events and other requests."""
    with Stack(plan, lambda line: progress.show(f"streams: {line}", None)) as stack:
        org = str(seed(stack.database, plan, stack.target))
        stack.start_notifier()
        stack.env["TOCSIN_STREAMS_PER_CREDENTIAL"] = str(STREAMS)  # all of them come with one key
        access = stack.start_api()
        return _Trial(stack, access, org, plan.seconds, lambda what: progress.show(f"streams: {what}", None)).run()


class _Trial:
    def __init__(self, stack: Stack, access: ApiAccess, org: str, seconds: int, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._access = access
        self._org = org
        self._seconds = seconds
        self._say = say
        self._sent = 0

    def run(self) -> StreamFindings:
        """Each phase after the other."""
        ask(self._stack, self._access, seconds=3, per_second=50, mix=_READS)  # the first requests find cold caches
        # The one that serves, below gunicorn's own.
        (self._api,) = psutil.Process(self._stack.roles["api"].pid).children()
        costs = [self._phase("no streams, reads", reads=True)]
        began = time.monotonic()
        with self._clients() as client:
            opened_in_s = time.monotonic() - began
            time.sleep(1)
            costs.append(self._phase("streams, nothing else", reads=False))
            costs.append(self._phase("streams, reads", reads=True))
            with self._events():
                costs.append(self._phase("streams, events", reads=False))
            between = time.time()
            with self._events():
                costs.append(self._phase("streams, events, reads", reads=True))
            told = json.loads(client.communicate(timeout=_PATIENCE_S)[0])
        late: list[tuple[float, float]] = told["late"]
        return StreamFindings(
            STREAMS, EVENTS_PER_S, opened_in_s, costs, len(late), STREAMS * self._sent, told["ended"],
            _latency([ms for at, ms in late if at <= between]), _latency([ms for at, ms in late if at > between]),
        )  # fmt: skip

    def _phase(self, name: str, *, reads: bool) -> Cost:
        self._say(name)
        before, began = self._cpu_s(), time.monotonic()
        latencies: dict[str, Latency] = {}
        if reads:
            found = ask(self._stack, self._access, seconds=self._seconds, per_second=_READS_PER_S, mix=_READS)
            latencies = found.latencies
            if any(status != "200" for status in found.statuses):
                raise BenchError(f"not all reads were answered: {found.statuses}")
        else:
            time.sleep(self._seconds)
        cores = (self._cpu_s() - before) / (time.monotonic() - began)
        self._stack.check_alive()
        return Cost(name, cores, self._api.memory_info().rss / _MB, latencies)

    def _cpu_s(self) -> float:
        times = self._api.cpu_times()
        return float(times.user + times.system)

    @contextmanager
    def _clients(self) -> Iterator[subprocess.Popen[str]]:
        client = subprocess.Popen(
            [sys.executable, "-m", "bench.streams_client"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(json.dumps({**asdict(self._access), "streams": STREAMS}) + "\n")
            client.stdin.flush()
            if client.stdout.readline() != "open\n":
                raise BenchError("the streams could not be opened")
            yield client
        finally:
            if client.poll() is None:
                client.terminate()
                client.wait(10)

    @contextmanager
    def _events(self) -> Iterator[None]:
        """Incidents that open at a fixed rate meanwhile, as workers would open them; then a moment for the last one."""
        database = Database(self._stack.database_url, DatabaseRole.WORKER, application="bench", pool_size=1)
        stop = threading.Event()

        def send() -> None:
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                opening = Opening(
                    self._org, None, "bench", uuid4().hex, "Shop is down", Severity.INFO,
                    {"reason": "timeout", "message": "no answer"}, utc_now(), uuid4().hex,
                )  # fmt: skip
                with database.begin() as connection:
                    open_all(connection, [opening])
                self._sent += 1
                due += 1 / EVENTS_PER_S

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_PATIENCE_S)
            database.dispose()
            time.sleep(2)


def _latency(values: list[float]) -> Latency:
    if not values:
        raise BenchError("no event reached the streams")
    ordered = sorted(values)

    def rank(quantile: float) -> float:
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]

    return Latency(len(ordered), rank(0.5), rank(0.95), rank(0.99), ordered[-1])


def show(console: Console, found: StreamFindings) -> None:
    """What it cost by phase, and how late events came."""
    table = Table(title=f"{found.streams} streams on one API process, {found.events_per_s} incident events/s")
    for name in ("", "cores", "memory", "read one p50/p95", "list 50 p50/p95"):
        table.add_column(name, justify="right" if name else "left")
    for cost in found.costs:
        reads = [cost.reads.get(name) for name in ("read one", "list 50")]
        cells = [f"{one.p50_ms:.1f} / {one.p95_ms:.1f} ms" if one else "-" for one in reads]
        table.add_row(cost.name, f"{cost.cores:.3f}", f"{cost.memory_mb:.0f} MB", *cells)
    console.print(table)
    for name, late in (("events", found.quiet), ("events and reads", found.with_reads)):
        console.print(
            f"{name}: event → client p50 {late.p50_ms:.0f} ms, p99 {late.p99_ms:.0f} ms, max {late.max_ms:.0f} ms"
        )
    console.print(
        f"opened in {found.opened_in_s:.1f} s; {found.delivered:,} of {found.expected:,} messages came, "
        f"{found.ended} streams ended"
    )
