"""The numbers, for people (a table) and for later (a JSON file)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.alerts import AlertSize
from bench.api import TARGETS_MS, ApiFindings
from bench.detect import Detection, Spread
from bench.growth import QUANTITIES, Size, slopes
from bench.measurement import Measurement
from bench.peers import SideBySide, peer_held
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


def show_peers(console: Console, found: SideBySide) -> None:
    """Both rows, one line per load."""
    table = Table(title="Checks per second, side by side on the same nginx")
    for name in ("", "offered /s", "held", "done in time", "checks per CPU s", "memory"):
        table.add_column(name, justify="right" if name else "left")
    for step in found.peer:
        rate = step.due / step.seconds
        memory = step.memory_peak_mb["prometheus"] + step.memory_peak_mb["blackbox_exporter"]
        cells = (f"{rate:,.0f}", _yes(peer_held(step)), f"{step.coverage:.1%}", f"{step.done / step.own_cpu_s:,.0f}")
        table.add_row("Prometheus + blackbox_exporter", *cells, f"{memory:,.0f} MB")
    for ours in found.ours:
        own = sum(ours.cpu_s[name] for name in ours.cpu_s if name not in ("target", "bench"))
        memory = sum(size for name, size in ours.memory_peak_mb.items() if name != "target")
        cells = (f"{ours.checks.due / ours.seconds:,.0f}", _yes(held(ours)), f"{ours.coverage:.1%}",
                 f"{ours.checks.stored / own:,.0f}")  # fmt: skip
        table.add_row("Tocsin, everything stored and judged", *cells, f"{memory:,.0f} MB")
    console.print(table)
    if found.ratio is not None:
        console.print(f"[bold]Tocsin held {found.ratio:.1f} times the load[/bold]; its CPU and memory include "
                      "PostgreSQL and Valkey")  # fmt: skip


def show_api(console: Console, found: ApiFindings) -> None:
    """One line per kind of request."""
    table = Table(title=f"API at {found.per_second:,.0f} requests/s, {found.monitors:,} monitors, checks running")
    for name in ("", "requests", "p50", "p95", "p99", "max", "target p95"):
        table.add_column(name, justify="right" if name else "left")
    for name, latency in found.latencies.items():
        values = (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms)
        target = TARGETS_MS.get(name)
        table.add_row(name, f"{latency.count:,}", *(f"{value:.1f} ms" for value in values),
                      f"{target:.0f} ms" if target else "-")  # fmt: skip
    console.print(table)
    console.print(f"answers by status: {found.statuses}")


def show_alerts(console: Console, sizes: Sequence[AlertSize]) -> None:
    """One column per number of rules, one line per quantity."""
    table = Table(title="Alerts of the platform, 100 organizations, 1 to 10 concerned by each")
    table.add_column("")
    for size in sizes:
        table.add_column(f"{size.routes:,} rules", justify="right")
    rows: dict[str, list[str]] = {
        "alerts to incidents /s": [f"{s.incidents.alerts_per_s:,.0f}" for s in sizes],
        "alerts to the ledger /s": [f"{s.ledger.alerts_per_s:,.0f}" for s in sizes],
        "its ledger rows /s": [f"{s.ledger.notifications_per_s:,.0f}" for s in sizes],
        "the same, one channel a rule": [f"{s.ledger_one_channel.alerts_per_s:,.0f}" for s in sizes],
        "fan-out notifications /s": [f"{s.fan_out.notifications_per_s:,.0f}" for s in sizes],
        "deliveries /s": ["-" if s.deliveries_per_s is None else f"{s.deliveries_per_s:,.0f}" for s in sizes],
        "matched alone /s": [f"{s.matching.alone_per_s:,.0f}" for s in sizes],
        "organizations per alert": [f"{s.matching.tenants_mean:.1f}" for s in sizes],
        "index: build": [f"{s.matching.build_s:.2f} s" for s in sizes],
        "index: after one change": [f"{s.matching.refresh_s:.2f} s" for s in sizes],
        "longest wait of an alert then": [f"{s.matching.longest_pause_ms:.0f} ms" for s in sizes],
        "seeding": [f"{s.seed_s:.1f} s" for s in sizes],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def show_growth(console: Console, sizes: Sequence[Size]) -> None:
    """One column per size, one line per quantity, and by what power it grows."""
    table = Table(title="Growth with the number of monitors (60 s interval)")
    for name in ("", *(f"{size.load.monitors:,}" for size in sizes), "grows by power"):
        table.add_column(name, justify="right" if name else "left")
    powers = slopes(sizes)
    for name, read in QUANTITIES.items():
        table.add_row(name, *(f"{read(size):,.1f}" for size in sizes), f"{powers[name]:.2f}")
    table.add_row("coverage", *(f"{size.load.coverage:.2%}" for size in sizes), "")
    console.print(table)


def _yes(value: bool) -> str:  # noqa: FBT001 - it is what is shown
    return "[green]yes[/green]" if value else "[red]no[/red]"


def save(path: Path | None, scenario: str, facts: dict[str, Any], content: dict[str, Any]) -> Path:
    """Write the JSON; where it is."""
    now = utc_now()
    path = path or RESULTS / f"{now:%Y-%m-%dT%H%M}-{scenario}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"scenario": scenario, "at": now.isoformat(timespec="seconds"), "machine": facts, **content}
    path.write_text(json.dumps(_rounded(document), indent=2) + "\n", encoding="utf-8")
    return path


def _rows(steps: Sequence[Measurement]) -> dict[str, list[str]]:
    rows = {
        "held": [_yes(held(s)) for s in steps],
        "due per second": [f"{s.checks.due / s.seconds:,.0f}" for s in steps],
        "committed per second": [f"{s.checks.committed / s.seconds:,.0f}" for s in steps],
        "written per second": [f"{s.checks.stored / s.seconds:,.0f}" for s in steps],
        "judged other than up": [f"{s.checks.not_up:,}" for s in steps],
        "coverage": [f"{s.coverage:.2%}" for s in steps],
        "lag p50 / p99 / max": [_lags(s) for s in steps],
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


def _lags(step: Measurement) -> str:
    told = step.counters
    return " / ".join(f"{_ms(value)}" for value in (told.lag_p50_ms, told.lag_p99_ms, told.lag_max_ms))


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
