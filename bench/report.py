"""The numbers, for people (a table) and for later (a JSON file)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.detect import Detection, Spread
from bench.measurement import Measurement
from bench.scenarios import held
from common.clock import utc_now

RESULTS = Path(__file__).resolve().parent / "results"


def show_steps(console: Console, steps: Sequence[Measurement]) -> None:
    """One column per step, one row per number."""
    table = Table(title=f"Checks, scheduler to committed row ({steps[0].seconds} s each, target {steps[0].target})")
    table.add_column("")
    for step in steps:
        table.add_column(f"{step.monitors:,} at {step.interval_s} s", justify="right")
    for name, cells in _rows(steps).items():
        table.add_row(name, *cells)
    console.print(table)


def show_maximum(console: Console, steps: Sequence[Measurement]) -> None:
    """The greatest load that was held."""
    best = max((s for s in steps if held(s)), key=lambda s: s.checks.committed / s.seconds, default=None)
    if best is None:
        console.print("[bold red]No step was held.[/bold red]")
    else:
        console.print(f"[bold]Sustained: {best.checks.committed / best.seconds:,.0f} checks per second[/bold]")
        if len(steps) > 1 and held(steps[-1]):
            console.print("Every step was held: the maximum lies above.")


def show_detection(console: Console, found: Detection) -> None:
    """How long outages took to be known."""
    load = found.load
    table = Table(title=f"{found.outages} outages among {load.monitors:,} monitors at {load.interval_s} s")
    for name in ("", "seen", "p50", "p99", "max"):
        table.add_column(name, justify="right" if name else "left")
    rows = {
        "outage → incident committed": found.incident,
        "outage → webhook received": found.webhook,
        "recovery → webhook received": found.resolve,
    }
    for label, spread in rows.items():
        table.add_row(label, *_spread_cells(spread))
    console.print(table)
    console.print(f"duplicate webhooks {found.duplicates}, about monitors that never failed {found.unexpected}")


def save(path: Path | None, scenario: str, facts: dict[str, Any], content: dict[str, Any]) -> Path:
    """Write the JSON; where it is."""
    now = utc_now()
    path = path or RESULTS / f"{now:%Y-%m-%d}-{scenario}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"scenario": scenario, "at": now.isoformat(timespec="seconds"), "machine": facts, **content}
    path.write_text(json.dumps(_rounded(document), indent=2) + "\n", encoding="utf-8")
    return path


def _rows(steps: Sequence[Measurement]) -> dict[str, list[str]]:
    rows = {
        "held": ["[green]yes[/green]" if held(s) else "[red]no[/red]" for s in steps],
        "due per second": [f"{s.checks.due / s.seconds:,.0f}" for s in steps],
        "committed per second": [f"{s.checks.committed / s.seconds:,.0f}" for s in steps],
        "written per second": [f"{s.checks.stored / s.seconds:,.0f}" for s in steps],
        "judged other than up": [f"{s.checks.not_up:,}" for s in steps],
        "coverage": [f"{s.coverage:.2%}" for s in steps],
        "lag p50 / p99": [f"{_ms(s.counters.lag_p50_ms)} / {_ms(s.counters.lag_p99_ms)}" for s in steps],
        "checks per worker CPU second": [f"{s.checks_per_worker_cpu_s:,.0f}" for s in steps],
        "worker CPU s per 1,000 checks": [f"{1000 / max(1.0, s.checks_per_worker_cpu_s):.3f}" for s in steps],
        "bytes per stored check": [f"{s.bytes_per_check:.0f}" for s in steps],
        "WAL bytes per check": [f"{s.wal_bytes_per_check:.0f}" for s in steps],
        "results per commit": [f"{s.counters.batch_mean:.0f}" for s in steps],
        "HOT share of vote updates": [f"{s.hot_update_share:.1%}" for s in steps],
        "skipped / late / spilled": [
            f"{s.counters.skipped:,} / {s.counters.late:,} / {s.counters.spilled:,}" for s in steps
        ],
        "conflicts": [f"{s.counters.conflicts:,}" for s in steps],
    }
    for role in steps[0].cpu_s:
        rows[f"cores: {role}"] = [f"{s.cpu_s[role] / s.seconds:.2f}" for s in steps]
    rows["cores: kernel's interrupts"] = [f"{s.interrupts_cpu_s / s.seconds:.2f}" for s in steps]
    rows["cores: others on this machine"] = [f"{s.other_cpu_s / s.seconds:.2f}" for s in steps]
    for role in steps[0].memory_peak_mb:
        rows[f"memory: {role}"] = [f"{s.memory_peak_mb[role]:.0f} MB" for s in steps]
    return rows


def _spread_cells(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["0", "-", "-", "-"]
    return [str(spread.count), *(_ms(value) for value in (spread.p50_ms, spread.p99_ms, spread.max_ms))]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
