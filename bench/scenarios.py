"""The scenarios of load: how much is held, and how it goes with very many monitors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.measure import measure
from bench.measurement import Measurement
from bench.plan import Plan
from bench.progress import Progress
from bench.seed import seed
from bench.stack import Stack

#: A step holds when so much of what was due is committed …
MIN_COVERAGE = 0.98
#: … and the probes start in time (milliseconds, 99th percentile).
MAX_LAG_P99_MS = 1000.0


def held(step: Measurement) -> bool:
    """Whether the offered load was sustained."""
    lag_ms = step.counters.lag_p99_ms
    return step.coverage >= MIN_COVERAGE and lag_ms is not None and lag_ms <= MAX_LAG_P99_MS


def throughput(plan: Plan, steps: Sequence[int], progress: Progress) -> list[Measurement]:
    """Raise the load step by step, each on a fresh stack, until one is not held."""
    measured: list[Measurement] = []
    for monitors in steps:
        step = steady(replace(plan, monitors=monitors), progress)
        measured.append(step)
        if not held(step):
            break
    return measured


def steady(plan: Plan, progress: Progress) -> Measurement:
    """One load on a fresh stack, measured for a while."""
    title = f"{plan.monitors:,} monitors at {plan.interval_s} s"
    with Stack(plan, lambda line: progress.show(f"{title}: {line}", None)) as stack:
        seed(stack.database, plan, stack.target)
        stack.start_roles()
        return measure(stack, plan, lambda what, done: progress.show(f"{title}: {what}", done))
