"""The roles' own metrics, read from the directory that their processes share, and quantiles of histograms."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

LAG = "tocsin_scheduling_lag_seconds"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """All samples at one moment: sums over labels by name, and each histogram's cumulated counts by upper bound."""

    totals: Mapping[str, float]
    histograms: Mapping[str, Mapping[float, float]]

    def since(self, before: Telemetry) -> Telemetry:
        """What was added since an earlier reading."""
        return Telemetry(
            {name: value - before.totals.get(name, 0) for name, value in self.totals.items()},
            {
                name: {bound: count - before.histograms.get(name, {}).get(bound, 0) for bound, count in buckets.items()}
                for name, buckets in self.histograms.items()
            },
        )

    def total(self, name: str) -> int:
        """A counter's sum over its labels."""
        return round(self.totals.get(name, 0))

    def quantile_ms(self, name: str, quantile: float) -> float | None:
        """A quantile, linear within its bucket; None without samples, the last bound if it lies above that."""
        buckets = sorted(self.histograms.get(name, {}).items())
        wanted = quantile * (buckets[-1][1] if buckets else 0)
        if not wanted:
            return None
        lower, below = 0.0, 0.0
        for bound, count in buckets:
            if count >= wanted:
                inside = 0.0 if math.isinf(bound) else (bound - lower) * (wanted - below) / (count - below)
                return (lower + inside) * 1000
            lower, below = bound, count
        return lower * 1000


def read_telemetry(folder: Path) -> Telemetry:
    """Everything that the processes counted so far."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    totals: dict[str, float] = defaultdict(float)
    histograms: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                histograms[metric.name][float(sample.labels["le"])] += sample.value
            else:
                totals[sample.name] += sample.value
    return Telemetry(dict(totals), {name: dict(buckets) for name, buckets in histograms.items()})
