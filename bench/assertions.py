"""HTTP with three assertions each, by names: how much is held, what it loses while 5 % of the targets hang, and TLS.

Targets that hang take the connection and answer nothing until the timeout of 10 s. Loads are measured one after the
other in the same run, each on a fresh stack; all monitors are due every 10 s.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from bench.measure import measure
from bench.measurement import Measurement
from bench.named import Named, named
from bench.plan import Plan
from bench.progress import Progress
from bench.report import show_steps
from bench.scenarios import held
from bench.stack import ROOT, Stack

STEPS = (40_000, 45_000, 50_000, 60_000)
#: TLS costs more: parts of the load without it.
_TLS_STEPS = (5_000, 10_000, 15_000, 20_000)
_HANGING = 0.05
#: How long after the window's end a result is waited for, beside what a target that hangs takes (seconds).
_GRACE_S = 2.0
_TIMEOUT_S = 10
#: What the healthy ones have to keep of the rate without any that hangs.
KEPT_SHARE = 0.9

#: Judged by every check: the status, a value in the body, the time it took.
ASSERTIONS = (
    {"source": "status", "op": "in", "value": ["200-299"], "on_fail": "down"},
    {"source": "json", "path": "$.db.state", "op": "eq", "value": "up", "on_fail": "down"},
    {"source": "latency_ms", "op": "lt", "value": 5000, "on_fail": "degraded"},
)

_MONITORS = """
WITH place AS (
  INSERT INTO locations (name) VALUES ('local') ON CONFLICT (name) DO UPDATE SET name = 'local' RETURNING id
), made AS (
  INSERT INTO monitors (id, org_id, name, type, target, interval_s, timeout_s, failure_threshold, recovery_threshold,
                        retry_interval_s, severity, location_ids, check_from, options, assertions)
  SELECT gen_random_uuid(), o.id, 'monitor ' || number, 'http', target, %(interval)s, %(timeout)s, 2, 1, 5, 'error',
         ARRAY[p.id], now() - interval '1 day', %(options)s::jsonb, %(assertions)s::jsonb
    FROM (SELECT id FROM organizations LIMIT 1) o, place p,
         unnest(%(targets)s::text[]) WITH ORDINALITY AS u(target, number)
  RETURNING monitor_no, org_id, location_ids
), states AS (
  INSERT INTO monitor_states (monitor_no, org_id) SELECT monitor_no, org_id FROM made
)
INSERT INTO votes (monitor_no, location) SELECT monitor_no, location_ids[1] FROM made
"""


@dataclass(frozen=True, slots=True)
class Load:
    """Which targets: so many that answer, so many that hang, with or without TLS."""

    monitors: int
    hanging: int = 0
    secure: bool = False

    @property
    def title(self) -> str:
        """For people."""
        kind = "https" if self.secure else "http"
        return f"{self.monitors:,} {kind} monitors" + (f", {self.hanging:,} of them hang" if self.hanging else "")


@dataclass(frozen=True, slots=True)
class Answering:
    """The share of a load that answers: how much was due, judged up, and how late it began."""

    due_per_s: float
    up_per_s: float
    lag_p99_ms: float | None

    @classmethod
    def of(cls, load: Load, step: Measurement) -> Answering:
        """What hangs is never up, and each of the others is due once in an interval."""
        due_per_s = (load.monitors - load.hanging) / step.interval_s
        up_per_s = (step.checks.committed - step.checks.not_up) / step.seconds
        return cls(due_per_s, up_per_s, step.counters.lag_p99_ms)


@dataclass(frozen=True, slots=True)
class Findings:
    """The loads that were tried, the last of which may not be held, and what is left beside targets that hang."""

    plain: list[Measurement]
    tls: list[Measurement]
    beside: Measurement | None
    answering: Answering | None

    @property
    def best(self) -> Measurement | None:
        """The greatest load over HTTP that was held."""
        return max((step for step in self.plain if held(step)), key=lambda step: step.checks.committed, default=None)

    @property
    def kept(self) -> float | None:
        """What the healthy ones keep of the rate that was held, 0 to 1."""
        if self.best is None or self.answering is None:
            return None
        return self.answering.up_per_s / (self.best.checks.committed / self.best.seconds)

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {
            "steps": [{**step.as_json(), "held": held(step)} for step in self.plain],
            "tls": [{**step.as_json(), "held": held(step)} for step in self.tls],
            "beside": self.beside.as_json() if self.beside else None,
            "answering": asdict(self.answering) if self.answering else None,
            "kept": self.kept,
        }


def assertions(plan: Plan, steps: Sequence[int], progress: Progress) -> Findings:
    """Raise the load until it is not held, then hang some of the targets of the greatest one; TLS by itself."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-bench-"))
    env = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)}
    try:
        with named(folder, env, lambda line: progress.show(line, None)) as targets:

            def run(load: Load) -> Measurement:
                return _measured(plan, load, targets, progress)

            plain = _rising([Load(count) for count in steps], run)
            found = Findings(plain, [], None, None)
            beside, answering = None, None
            if found.best is not None:
                load = Load(found.best.monitors, round(found.best.monitors * _HANGING))
                beside = run(load)
                answering = Answering.of(load, beside)
            tls = _rising([Load(count, secure=True) for count in _TLS_STEPS if count < max(steps)], run)
            return Findings(plain, tls, beside, answering)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rising(loads: Sequence[Load], run: Callable[[Load], Measurement]) -> list[Measurement]:
    measured: list[Measurement] = []
    for load in loads:
        measured.append(run(load))
        if not held(measured[-1]):
            break
    return measured


def _measured(plan: Plan, load: Load, targets: Named, progress: Progress) -> Measurement:
    plan = replace(plan, monitors=load.monitors, dns_servers=f"127.0.0.1:{targets.dns}")
    with Stack(plan, lambda line: progress.show(f"{load.title}: {line}", None), targets.start) as stack:
        _seed(stack.database, plan, load, targets)
        stack.start_roles()
        # One that hangs is moved to the slow lane, where it begins anew.
        grace_s = _GRACE_S + (2 * _TIMEOUT_S if load.hanging else 0)
        step = measure(stack, plan, lambda what, done: progress.show(f"{load.title}: {what}", done), grace_s=grace_s)
    progress.note(
        f"{load.title}: {step.checks.committed / step.seconds:,.0f} of {step.checks.due / step.seconds:,.0f}/s kept,"
        f" {step.checks.not_up / step.seconds:,.0f}/s not up, lag p99 {step.counters.lag_p99_ms or 0:,.0f} ms,"
        f" {step.checks_per_worker_cpu_s:,.0f} checks a worker's CPU-second"
    )
    return step


def _seed(connection: psycopg.Connection[Any], plan: Plan, load: Load, targets: Named) -> None:
    """The load's monitors; those that hang are spread evenly among the others."""
    options: dict[str, Any] = {
        "method": "GET",
        "headers": {},
        "body": None,
        "follow_redirects": True,
        "verify_tls": True,
    }
    if load.secure:
        options["ca_certificates"] = targets.authority.pem
    every = load.monitors // load.hanging if load.hanging else 0
    hanging = set(range(0, load.monitors, every)[: load.hanging]) if every else set()
    connection.execute(
        _MONITORS,
        {
            "interval": plan.interval_s,
            "timeout": min(_TIMEOUT_S, plan.interval_s),
            "options": json.dumps(options),
            "assertions": json.dumps(ASSERTIONS),
            "targets": [targets.url(n, secure=load.secure, silent=n in hanging) for n in range(load.monitors)],
        },
    )
    # What autovacuum would have done by the time there are so many.
    connection.execute("VACUUM (ANALYZE) monitors, votes, monitor_states")


def show_assertions(console: Console, found: Findings) -> None:
    """One column per load, and what it comes to."""
    show_steps(console, [*found.plain, *([found.beside] if found.beside else []), *found.tls])
    best = found.best
    if best is None:
        console.print("[bold red]No load over HTTP was held.[/bold red]")
    else:
        console.print(f"[bold]HTTP + 3 assertions by name: {best.checks.committed / best.seconds:,.0f} checks/s[/bold]")
    if found.answering is not None and found.kept is not None:
        console.print(
            f"while {_HANGING:.0%} of the targets hang: {found.answering.up_per_s:,.0f}/s of those that answer,"
            f" {found.kept:.1%} of that; lag p99 {found.answering.lag_p99_ms or 0:,.0f} ms"
        )
    tls = max((step.checks.committed / step.seconds for step in found.tls if held(step)), default=None)
    console.print("no load over TLS was held" if tls is None else f"TLS: {tls:,.0f} checks/s")
