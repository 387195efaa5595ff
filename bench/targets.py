"""What we promise to reach on two cores, held against the newest kept results: met or not, with the figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import best
from bench.kept import newest

Kept = dict[str, Any]

#: What `make chaos` measures is kept here, by fault; its promises are held against the longest of all trials.
_CHAOS = Path(__file__).resolve().parent.parent / "docs" / "reliability.json"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: `read` takes the figure, if it is there, out of a kept result; it has to be from `least` to `most`."""

    what: str
    scenario: str
    read: Callable[[Kept], float | None]
    shown: str
    least: float = 0.0
    most: float = float("inf")

    def row(self) -> list[str]:
        """What is promised, the figure, whether it is met."""
        kept = _chaos() if self.scenario == "chaos" else newest(self.scenario)
        figure = self.read(kept) if kept else None
        if figure is None:
            return [self.what, "not measured yet", ""]
        met = self.least <= figure <= self.most
        return [self.what, self.shown.format(figure), "met" if met else "**not met**"]


def _load(kept: Kept) -> Kept:
    found: Kept = kept["detection"]["load"]
    return found


def _p95(name: str) -> Callable[[Kept], float]:
    return lambda kept: float(kept["api"]["latencies"][name]["p95_ms"])


def _loaded(*names: str) -> Callable[[Kept], float]:
    """The slowest of these kinds of request under load."""
    return lambda kept: max(float(kept["load"]["latencies"][name]["p95_ms"]) for name in names)


def _held_per_s(kept: Kept, kind: str) -> float:
    """The most that was held of a kind of load."""
    return max((float(step["committed_per_s"]) for step in kept["assertions"][kind] if step["held"]), default=0.0)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _with_deliveries(kept: Kept) -> Kept:
    """The size of 28,800 rules, at which deliveries are measured as well."""
    found: Kept = next(size for size in kept["sizes"] if size["deliveries_per_s"] is not None)
    return found


def _chaos() -> Kept:
    """Seconds until checks were made again, by promise: of all trials of single faults."""
    found: dict[str, list[float]] = {}
    if _CHAOS.exists():
        for row in json.loads(_CHAOS.read_text(encoding="utf-8"))["faults"].values():
            for promise, seconds in row.get("recoveries", {}).items():
                found.setdefault(promise, []).extend(seconds)
    return found


def _longest(promise: str) -> Callable[[Kept], float | None]:
    return lambda kept: max(kept.get(promise, ()), default=None)


TARGETS = (
    Target("HTTP checks held, each stored and judged: ≥ 5,000/s", "peers", lambda k: float(best(k)["committed_per_s"]),
           "{:,.0f}/s", least=5_000),
    Target("≥ 4 times Prometheus + blackbox_exporter in the same run", "peers", lambda k: float(k["ratio"]),
           "{:.1f} times", least=4),
    Target("≥ 4,000 checks per worker CPU-second", "peers", lambda k: float(best(k)["checks_per_worker_cpu_s"]),
           "{:,.0f}", least=4_000),
    Target("100,000 monitors at 60 s: lag p99 ≤ 250 ms", "steady", lambda k: float(_load(k)["counters"]["lag_p99_ms"]),
           "{:.0f} ms", most=250),
    Target("— scheduler < 150 MB", "steady", lambda k: float(_load(k)["memory_peak_mb"]["scheduler"]), "{:.0f} MB",
           most=150),
    Target("— scheduler < 0.3 core", "steady", lambda k: float(_load(k)["cpu_s"]["scheduler"] / _load(k)["seconds"]),
           "{:.2f} core", most=0.3),
    Target("— every check on time", "steady", lambda k: 100 * float(_load(k)["coverage"]), "{:.2f} %", least=99.9),
    Target("— outage → webhook p99 ≤ interval + time to fail + 1 s", "steady",
           lambda k: float(k["detection"]["webhook"]["p99_ms"]) / 1000, "{:.1f} s", most=61),
    Target("— ≤ 120 bytes per stored check, all included", "steady", lambda k: float(_load(k)["bytes_per_check"]),
           "{:.0f} bytes", most=120),
    Target("API with 100,000 monitors, 300 requests/s: read p95 ≤ 10 ms", "api", _p95("read one"), "{:.1f} ms",
           most=10),
    Target("— list p95 ≤ 30 ms", "api", _p95("list 50"), "{:.1f} ms", most=30),
    Target("API with 100,000 monitors and 10,000,000 results, 300 requests/s of all kinds: read p95 ≤ 10 ms", "load",
           _loaded("read a monitor"), "{:.1f} ms", most=10),
    Target("— list and filter p95 ≤ 30 ms (the slowest of five)", "load",
           _loaded("list 50", "list by state", "list by label", "list by words", "list by name"), "{:.1f} ms", most=30),
    Target("— incident search p95 ≤ 50 ms", "load", _loaded("incidents by words"), "{:.1f} ms", most=50),
    Target("— summary p95 ≤ 50 ms", "load", _loaded("summary by team"), "{:.1f} ms", most=50),
    Target("HTTP + 3 assertions by name: ≥ 4,000 checks/s held", "assertions", lambda k: _held_per_s(k, "steps"),
           "{:,.0f}/s", least=4_000),
    Target("— while 5 % of the targets hang for 10 s: the others keep ≥ 90 % of it", "assertions",
           lambda k: _percent(k["assertions"]["kept"]), "{:.1f} %", least=90),
    Target("— their lag p99 ≤ 1 s", "assertions",
           lambda k: (k["assertions"]["answering"] or {}).get("lag_p99_ms"), "{:,.0f} ms", most=1_000),
    Target("heartbeats: ≥ 1,000 pings/s asked are all committed before they are answered", "heartbeats",
           lambda k: max((float(rate["per_second"]) for rate in k["rates"] if set(rate["statuses"]) == {"200"}),
                         default=None), "{:,.0f}/s", least=1_000),
    Target("10,000 monitors in one scrape ≤ 1 s (the longest)", "exposition",
           lambda k: max(float(scrape["longest_s"]) for scrape in k["exposition"]["scrapes"]), "{:.2f} s", most=1),
    Target("every process restarted under load: checks lost", "rolling", lambda k: float(k["rolling"]["lost"]),
           "{:.0f}", most=0),
    Target("— requests answered with a 5xx or not at all", "rolling", lambda k: float(k["rolling"]["failed"]),
           "{:.0f}", most=0),
    Target("alerts → ledger, 28,800 rules of 100 tenants, 1 to 10 matching: ≥ 3,200/s", "alerts",
           lambda k: float(_with_deliveries(k)["ledger"]["alerts_per_s"]), "{:,.0f}/s", least=3_200),
    Target("— 99-fold fan-out ≥ 5,000 notifications/s", "alerts",
           lambda k: float(_with_deliveries(k)["fan_out"]["notifications_per_s"]), "{:,.0f}/s", least=5_000),
    Target("— delivery to a loopback receiver ≥ 500/s", "alerts",
           lambda k: float(_with_deliveries(k)["deliveries_per_s"]), "{:,.0f}/s", least=500),
    Target("— index after one organization's change ≤ 1 s", "alerts",
           lambda k: float(_with_deliveries(k)["matching"]["refresh_s"]), "{:.2f} s", most=1),
    Target("leader lost → every monitor is checked again ≤ 7 s", "chaos", _longest("leader lost"), "{:.1f} s", most=7),
    Target("worker killed → its checks are made up, or the next slot is made ≤ 20 s", "chaos",
           _longest("worker killed"), "{:.1f} s", most=20),
    Target("Redis back → checks are made again ≤ 15 s", "chaos", _longest("Redis back"), "{:.1f} s", most=15),
    Target("PostgreSQL back → checks are made again ≤ 60 s", "chaos", _longest("PostgreSQL back"), "{:.1f} s",
           most=60),
)  # fmt: skip


def rows(targets: Iterable[Target] = TARGETS) -> list[list[str]]:
    """A row per target."""
    return [target.row() for target in targets]
