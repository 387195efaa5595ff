"""The numbers of one measuring window."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Checks:
    """Checks counted by slot; `stored` are the rows written between the window's ends, whatever their slot.

    `not_up` are those that were not judged up. The target is well, so each of them is a false alarm in the making.
    """

    due: int
    committed: int
    not_up: int
    stored: int


@dataclass(frozen=True, slots=True)
class Counters:
    """What the roles' own metrics say about the window; the greatest lag is the bound of its bucket."""

    lag_p50_ms: float | None
    lag_p99_ms: float | None
    lag_max_ms: float | None
    skipped: int
    late: int
    spilled: int
    conflicts: int
    batch_mean: float
    commit_p50_ms: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one window showed, and what it cost."""

    monitors: int
    interval_s: int
    seconds: int
    target: str
    checks: Checks
    counters: Counters
    cpu_s: dict[str, float]
    machine_cpu_s: float
    interrupts_cpu_s: float
    other_cpu_s: float
    memory_peak_mb: dict[str, float]
    bytes_per_check: float
    wal_bytes_per_check: float
    hot_update_share: float
    votes_bytes: int
    warnings: dict[str, int]

    @property
    def coverage(self) -> float:
        """Committed ÷ due."""
        return self.checks.committed / self.checks.due if self.checks.due else 0.0

    @property
    def worker_cpu_s(self) -> float:
        """CPU seconds of all workers."""
        return sum(seconds for name, seconds in self.cpu_s.items() if name.startswith("worker"))

    @property
    def checks_per_worker_cpu_s(self) -> float:
        """Checks stored per CPU second of the workers."""
        return self.checks.stored / self.worker_cpu_s if self.worker_cpu_s else 0.0

    def as_json(self) -> dict[str, Any]:
        """All numbers, the derived ones too."""
        return {
            **asdict(self),
            "coverage": self.coverage,
            "offered_per_s": self.checks.due / self.seconds,
            "committed_per_s": self.checks.committed / self.seconds,
            "worker_cpu_s_per_1000": 1000 / self.checks_per_worker_cpu_s if self.checks.stored else None,
            "checks_per_worker_cpu_s": self.checks_per_worker_cpu_s,
        }
