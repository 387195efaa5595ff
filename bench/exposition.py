"""All monitors as Prometheus reads them: how long a scrape takes, how much it brings, what it costs the API."""

from __future__ import annotations

import gzip
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import psycopg
import requests
from rich.console import Console
from rich.table import Table

from bench.plan import BenchError, Plan
from bench.progress import Progress
from bench.seed import seed
from bench.stack import ApiAccess, Stack

#: A scrape of 10,000 monitors is to take less (seconds).
TARGET_S = 1.0

_MB = 1_000_000
_SCRAPES = 10

# A healthy result of the last half minute for every monitor, as a writer would leave it.
_RESULTS = """
WITH slots AS (
  UPDATE votes SET last_slot = date_trunc('milliseconds', now() - random() * interval '30 seconds'), last_verdict = 1,
                   health = 1, latency_ms = 20 RETURNING monitor_no, location, last_slot
)
INSERT INTO results (scheduled_at, monitor_no, config_version, dns_ms, connect_ms, tls_ms, ttfb_ms, total_ms, location,
                     reason, code, verdict, kind)
SELECT last_slot, monitor_no, 1, random(), 1 + random(), 4 + random(), 10 + random(), 20 + random() * 10, location, 0,
       200, '1', '0'
  FROM slots
"""


@dataclass(frozen=True, slots=True)
class Scrapes:
    """Scrapes of one kind: the first, and the median and longest of those after it (seconds).

    `cpu_s` is what one costs the API and PostgreSQL: where other programs want the cores too, only that says something.
    """

    name: str
    first_s: float
    median_s: float
    longest_s: float
    cpu_s: dict[str, float]
    transferred_mb: float
    text_mb: float
    series: int


@dataclass(frozen=True, slots=True)
class ExpositionFindings:
    """What came of it. Memory is that of all API processes (MB): before the first scrape, and at most."""

    monitors: int
    scrapes: list[Scrapes]
    memory_before_mb: float
    memory_peak_mb: float

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return asdict(self)


def exposition(plan: Plan, progress: Progress) -> ExpositionFindings:
    """Scrape everything again and again, packed and plain."""
    with Stack(plan, lambda line: progress.show(f"exposition: {line}", None)) as stack:
        seed(stack.database, plan, stack.target)
        _fill(stack.database)
        access = stack.start_api()
        processes = _family(stack.roles["api"].pid)
        _ask(access, "/livez", "identity")
        before, peak, found = _memory_mb(processes), 0.0, []
        for name, encoding in (("gzip", "gzip"), ("plain", "identity")):
            taken: list[tuple[float, bytes]] = []
            used = _cpu_s(stack, processes)
            for number in range(_SCRAPES):
                progress.show(f"exposition: {name}", number / _SCRAPES)
                taken.append(_ask(access, "/prometheus/metrics", encoding))
                peak = max(peak, _memory_mb(processes))
            cpu_s = {role: (after - used[role]) / _SCRAPES for role, after in _cpu_s(stack, processes).items()}
            found.append(_summed(name, taken, cpu_s))
        return ExpositionFindings(plan.monitors, found, before, peak)


def show_exposition(console: Console, found: ExpositionFindings) -> None:
    """One line a kind."""
    table = Table(title=f"{found.monitors:,} monitors in one scrape")
    for name in ("", "first", "median", "longest", "CPU of API", "of PostgreSQL", "transferred", "text", "series"):
        table.add_column(name, justify="right" if name else "left")
    for each in found.scrapes:
        table.add_row(each.name, *(f"{seconds:.2f} s" for seconds in (each.first_s, each.median_s, each.longest_s,
                                                               each.cpu_s["api"], each.cpu_s["postgres"])),
                      f"{each.transferred_mb:.1f} MB", f"{each.text_mb:.1f} MB", f"{each.series:,}")  # fmt: skip
    console.print(table)
    console.print(f"API: {found.memory_before_mb:.0f} MB before, {found.memory_peak_mb:.0f} MB at most")


def _fill(connection: psycopg.Connection[Any]) -> None:
    connection.execute(_RESULTS)
    connection.execute("UPDATE monitor_states SET health = 1")
    connection.execute("VACUUM (ANALYZE) votes, monitor_states, results")


def _family(pid: int) -> list[psutil.Process]:
    """The master and the processes that answer; they are there a moment after it."""
    master = psutil.Process(pid)
    deadline = time.monotonic() + 10
    while not master.children() and time.monotonic() < deadline:
        time.sleep(0.05)
    return [master, *master.children(recursive=True)]


def _memory_mb(processes: list[psutil.Process]) -> float:
    return float(sum(process.memory_info().rss for process in processes)) / _MB


def _cpu_s(stack: Stack, api: list[psutil.Process]) -> dict[str, float]:
    """CPU used so far; PostgreSQL's by those of its processes that live."""
    backends = psutil.Process(stack.servers.pids()["postgres"]).children(recursive=True)
    return {
        role: float(sum(sum(process.cpu_times()[:2]) for process in processes))
        for role, processes in (("api", api), ("postgres", backends))
    }


def _ask(access: ApiAccess, path: str, encoding: str) -> tuple[float, bytes]:
    """One scrape as it comes over the wire, and how long to its last byte."""
    headers = {"Authorization": f"Bearer {access.key}", "Accept-Encoding": encoding}
    began = time.perf_counter()
    answer = requests.get(f"http://{access.host}:{access.port}{path}", headers=headers, stream=True, timeout=60)
    if answer.status_code != 200:
        raise BenchError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    body = answer.raw.read(decode_content=False)
    return time.perf_counter() - began, body


def _summed(name: str, taken: list[tuple[float, bytes]], cpu_s: dict[str, float]) -> Scrapes:
    body = taken[-1][1]
    text = gzip.decompress(body) if name == "gzip" else body
    times = [seconds for seconds, _ in taken[1:]]
    return Scrapes(
        name,
        taken[0][0],
        statistics.median(times),
        max(times),
        cpu_s,
        len(body) / _MB,
        len(text) / _MB,
        sum(not line.startswith(b"#") for line in text.splitlines()),
    )
