"""Accounted time as clients read it: seconds with milliseconds, shares with what five minutes of a year need."""

from __future__ import annotations

from typing import Any

from common.clock import from_ms
from common.domain.accounting import CATEGORIES, Span, Times
from common.domain.accounting_slo import budget, burn_rate
from common.domain.histogram import percentiles
from common.store.uptime import Uptime


def uptime_document(found: Uptime) -> dict[str, Any]:
    """One monitor's window."""
    times, failures = found.times, found.failures
    p50, p95, p99 = (_rounded(value) for value in percentiles(found.latencies, (0.5, 0.95, 0.99)))
    return {
        "window": period(found.window),
        "uptime": _rounded(times.uptime, 7),
        "coverage": round(min(1.0, found.seen / found.due), 7) if found.due else None,
        "seconds": seconds(times),
        "incidents": failures.count,
        "mttr_seconds": _rounded(failures.mttr_s),
        "mtbf_seconds": _rounded((times.up + times.degraded) / 1000 / failures.count) if failures.count else None,
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
    }


def period(window: Span) -> dict[str, Any]:
    """A window as it was counted."""
    return {"from": from_ms(window[0]), "to": from_ms(window[1])}


def seconds(times: Times) -> dict[str, float]:
    """Time by category."""
    return {name: getattr(times, name) / 1000 for name in CATEGORIES}


def slo_figures(times: Times, last_1h: Times, last_6h: Times, *, target: float) -> dict[str, Any]:
    """What an objective (0 to 1) makes of a window and of its last hours."""
    left = budget(times, target)
    return {
        "uptime": _rounded(times.uptime, 7),
        "coverage": _rounded(times.coverage, 7),
        "seconds": seconds(times),
        "error_budget": {
            "total_seconds": round(left.total_ms / 1000, 3),
            "remaining_seconds": round(left.remaining_ms / 1000, 3),
            "remaining": _rounded(left.remaining_share, 5),
        },
        "burn_rate": {
            "last_1h": _rounded(burn_rate(last_1h, target), 5),
            "last_6h": _rounded(burn_rate(last_6h, target), 5),
            "window": _rounded(burn_rate(times, target), 5),
        },
    }


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
