"""What grows with the number of monitors, and how fast: the same product with 1,000 to 300,000 of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.api import ask
from bench.measure import measure
from bench.measurement import Measurement
from bench.plan import Plan
from bench.progress import Progress
from bench.seed import seed
from bench.stack import Stack

SIZES = (1_000, 10_000, 100_000, 300_000)
_ASK_S, _PER_SECOND = 10.0, 100.0
_READS = {"read one": 70, "list 50": 30}


@dataclass(frozen=True, slots=True)
class Size:
    """One size. `start_s`: from starting the roles to the first committed result."""

    start_s: float
    load: Measurement
    read_p95_ms: float
    list_p95_ms: float

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {**asdict(self), "load": self.load.as_json()}


#: {what grows: how it is read}.
QUANTITIES: dict[str, Callable[[Size], float]] = {
    "start (s)": lambda size: size.start_s,
    "scheduler memory (MB)": lambda size: size.load.memory_peak_mb["scheduler"],
    "worker memory (MB)": lambda size: size.load.memory_peak_mb["worker-1"],
    "PostgreSQL memory (MB)": lambda size: size.load.memory_peak_mb["postgres"],
    "lag p99 (ms)": lambda size: size.load.counters.lag_p99_ms or 0.0,
    "API read one p95 (ms)": lambda size: size.read_p95_ms,
    "API list 50 p95 (ms)": lambda size: size.list_p95_ms,
}


def growth(plan: Plan, progress: Progress, sizes: Sequence[int] = SIZES) -> list[Size]:
    """Measure each size on a fresh stack."""
    return [_measure(replace(plan, monitors=monitors), progress) for monitors in sizes]


def slopes(sizes: Sequence[Size]) -> dict[str, float]:
    """By what power of the number of monitors each quantity grows: 0 not at all, 1 in proportion."""
    numbers = [math.log(size.load.monitors) for size in sizes]
    return {
        name: _slope(numbers, [math.log(max(1e-9, read(size))) for size in sizes]) for name, read in QUANTITIES.items()
    }


def _measure(plan: Plan, progress: Progress) -> Size:
    title = f"{plan.monitors:,} monitors at {plan.interval_s} s"
    with Stack(plan, lambda line: progress.show(f"{title}: {line}", None)) as stack:
        seed(stack.database, plan, stack.target)
        began = time.monotonic()
        stack.start_roles()
        start_s = time.monotonic() - began
        load = measure(stack, plan, lambda what, done: progress.show(f"{title}: {what}", done))
        access = stack.start_api()
        ask(stack, access, seconds=2, per_second=50, mix=_READS)
        progress.show(f"{title}: asking the API", None)
        asked = ask(stack, access, seconds=_ASK_S, per_second=_PER_SECOND, mix=_READS).latencies
    return Size(start_s, load, asked["read one"].p95_ms, asked["list 50"].p95_ms)


def _slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Least squares."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
