"""The few figures of each scenario that are compared and published: what they are, and which way is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Kept = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a kept result; `more_is_better` says which way."""

    name: str
    read: Callable[[Kept], float | None]
    more_is_better: bool = False


def best(kept: Kept) -> Kept:
    """The step with the greatest load that was held."""
    return max((step for step in kept["steps"] if step["held"]), key=lambda step: float(step["committed_per_s"]))


def _of_best(key: str) -> Callable[[Kept], float | None]:
    return lambda kept: float(best(kept)[key])


def _lag(step: Kept) -> float | None:
    return None if step["counters"]["lag_p99_ms"] is None else float(step["counters"]["lag_p99_ms"])


def _memory(step: Kept, role: str) -> float:
    return float(step["memory_peak_mb"][role])


def _detection(what: str, key: str) -> Callable[[Kept], float | None]:
    def read(kept: Kept) -> float | None:
        spread = kept["detection"][what]
        return None if spread is None else float(spread[key])

    return read


def _api(name: str, key: str) -> Callable[[Kept], float | None]:
    return lambda kept: float(kept["api"]["latencies"][name][key])


def _loaded(name: str) -> Callable[[Kept], float | None]:
    return lambda kept: float(kept["load"]["latencies"][name]["p95_ms"])


def _alerts(read: Callable[[Kept], float | None]) -> Callable[[Kept], float | None]:
    """Of the middle size, the one that has deliveries."""

    def figure(kept: Kept) -> float | None:
        found = next((size for size in kept["sizes"] if size["deliveries_per_s"] is not None), None)
        return None if found is None else read(found)

    return figure


_LOAD = [
    Figure("checks per second held", _of_best("committed_per_s"), more_is_better=True),
    Figure("checks per worker CPU second", _of_best("checks_per_worker_cpu_s"), more_is_better=True),
    Figure("lag p99 (ms)", lambda kept: _lag(best(kept))),
    Figure("bytes per stored check", _of_best("bytes_per_check")),
]
_FOUND = [
    Figure("lag p99 (ms)", lambda kept: _lag(kept["detection"]["load"])),
    Figure("scheduler memory (MB)", lambda kept: _memory(kept["detection"]["load"], "scheduler")),
    Figure("bytes per stored check", lambda kept: float(kept["detection"]["load"]["bytes_per_check"])),
    Figure("outage → webhook p50 (ms)", _detection("webhook", "p50_ms")),
    Figure("outage → webhook max (ms)", _detection("webhook", "max_ms")),
]

FIGURES: dict[str, list[Figure]] = {
    "throughput": _LOAD,
    "peers": [Figure("times the peer's load", lambda kept: kept["ratio"], more_is_better=True), *_LOAD],
    "steady": _FOUND,
    "detect": _FOUND,
    "api": [
        Figure("read one p95 (ms)", _api("read one", "p95_ms")),
        Figure("list 50 p95 (ms)", _api("list 50", "p95_ms")),
        Figure("change p95 (ms)", _api("change", "p95_ms")),
    ],
    "load": [
        Figure(f"{name} p95 (ms)", _loaded(name))
        for name in ("read a monitor", "list 50", "list by words", "incidents by words", "summary by team")
    ],
    "alerts": [
        Figure("alerts to incidents /s", _alerts(lambda s: float(s["incidents"]["alerts_per_s"])), more_is_better=True),
        Figure("alerts to the ledger /s", _alerts(lambda s: float(s["ledger"]["alerts_per_s"])), more_is_better=True),
        Figure(
            "fan-out notifications /s",
            _alerts(lambda s: float(s["fan_out"]["notifications_per_s"])),
            more_is_better=True,
        ),
        Figure("deliveries /s", _alerts(lambda s: float(s["deliveries_per_s"])), more_is_better=True),
        Figure("index after one change (s)", _alerts(lambda s: float(s["matching"]["refresh_s"]))),
    ],
    "growth": [
        Figure(
            "scheduler memory at the largest (MB)",
            lambda k: float(k["sizes"][-1]["load"]["memory_peak_mb"]["scheduler"]),
        ),
        Figure("lag p99 at the largest (ms)", lambda k: _lag(k["sizes"][-1]["load"])),
        Figure("API list 50 p95 at the largest (ms)", lambda k: float(k["sizes"][-1]["list_p95_ms"])),
    ],
}
