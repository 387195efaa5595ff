"""The sizing table of docs/operations.md, made from the kept results; `python -m bench.document` writes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.kept import newest

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
_PART = re.compile(r"(<!-- bench: sizing -->\n).*?(<!-- end -->)", re.DOTALL)

#: Smaller ones need nothing that anybody would have to plan.
_LEAST_MONITORS = 10_000

Load = dict[str, Any]

_ROWS: dict[str, Callable[[Load], str]] = {
    "checks/s": lambda load: f"{load['offered_per_s']:,.0f}",
    "cores of all workers": lambda load: _cores(load, "worker"),
    "cores of the scheduler": lambda load: _cores(load, "scheduler"),
    "cores of PostgreSQL": lambda load: _cores(load, "postgres"),
    "memory of each worker": lambda load: _memory(load, "worker-1"),
    "memory of the scheduler": lambda load: _memory(load, "scheduler"),
    "memory of PostgreSQL": lambda load: _memory(load, "postgres"),
    "lag p99": lambda load: f"{load['counters']['lag_p99_ms']:,.0f} ms",
    "results a day": lambda load: f"{load['offered_per_s'] * 86_400 * _bytes_per_check() / 1e9:,.1f} GB",
}


def write() -> None:
    """Bring the document up to date with bench/results."""
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """The document with its table as the kept results have it."""
    return _PART.sub(lambda part: f"{part[1]}\n{_table()}\n{part[2]}", text)


def _table() -> str:
    growth, peers = newest("growth"), newest("peers")
    assert growth is not None
    assert peers is not None
    loads = [size["load"] for size in growth["sizes"] if size["load"]["monitors"] >= _LEAST_MONITORS]
    names = [f"{load['monitors']:,} monitors at {load['interval_s']} s" for load in loads]
    names.append(f"the most that {peers['machine']['cores']} cores held")
    loads.append(max((step for step in peers["steps"] if step["held"]), key=lambda step: step["offered_per_s"]))
    lines = [["", *names], ["---", *("---:" for _ in names)]]
    lines += [[name, *map(read, loads)] for name, read in _ROWS.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cores(load: Load, role: str) -> str:
    used: float = sum(seconds for name, seconds in load["cpu_s"].items() if name.startswith(role))
    return f"{used / load['seconds']:.2f}"


def _memory(load: Load, role: str) -> str:
    return f"{load['memory_peak_mb'][role]:,.0f} MB"


def _bytes_per_check() -> float:
    """What a stored check takes, its index included, when there are many of them."""
    steady = newest("steady")
    assert steady is not None
    return float(steady["detection"]["load"]["bytes_per_check"])
