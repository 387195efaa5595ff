"""What we promise to reach on two cores, held against the newest kept results: met or not, with the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bench.figures import best
from bench.kept import newest

Kept = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: `read` takes the figure out of a kept result, which has to be within `least` and `most`."""

    what: str
    scenario: str
    read: Callable[[Kept], float]
    shown: str
    least: float = 0.0
    most: float = float("inf")

    def row(self) -> list[str]:
        """What is promised, the figure, whether it is met."""
        kept = newest(self.scenario)
        if kept is None:
            return [self.what, "not measured yet", ""]
        figure = self.read(kept)
        met = self.least <= figure <= self.most
        return [self.what, self.shown.format(figure), "met" if met else "**not met**"]


def _load(kept: Kept) -> Kept:
    found: Kept = kept["detection"]["load"]
    return found


def _p95(name: str) -> Callable[[Kept], float]:
    return lambda kept: float(kept["api"]["latencies"][name]["p95_ms"])


def _with_deliveries(kept: Kept) -> Kept:
    """The size of 28,800 rules, at which deliveries are measured as well."""
    found: Kept = next(size for size in kept["sizes"] if size["deliveries_per_s"] is not None)
    return found


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
    Target("alerts → ledger, 28,800 rules of 100 tenants, 1 to 10 matching: ≥ 3,200/s", "alerts",
           lambda k: float(_with_deliveries(k)["ledger"]["alerts_per_s"]), "{:,.0f}/s", least=3_200),
    Target("— 99-fold fan-out ≥ 5,000 notifications/s", "alerts",
           lambda k: float(_with_deliveries(k)["fan_out"]["notifications_per_s"]), "{:,.0f}/s", least=5_000),
    Target("— delivery to a loopback receiver ≥ 500/s", "alerts",
           lambda k: float(_with_deliveries(k)["deliveries_per_s"]), "{:,.0f}/s", least=500),
    Target("— index after one organization's change ≤ 1 s", "alerts",
           lambda k: float(_with_deliveries(k)["matching"]["refresh_s"]), "{:.2f} s", most=1),
)  # fmt: skip


def rows(targets: Iterable[Target] = TARGETS) -> list[list[str]]:
    """A row per target."""
    return [target.row() for target in targets]
