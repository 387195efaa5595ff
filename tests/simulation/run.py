"""Run one schedule: faults, healing, quiet, and everything that must hold meanwhile and afterwards."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from unittest.mock import patch

import structlog

import worker.checks
from common.domain.checks import Verdict
from common.domain.monitors import MonitorConfig
from common.store import bundles, engine, notifications
from tests.simulation.database import Guard
from tests.simulation.engine import Violation
from tests.simulation.invariants import Watch, calm_s, check_end
from tests.simulation.notifying import LEASE_S
from tests.simulation.plan import Plan
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.working import probe
from tests.simulation.world import World

#: A claim's lease, and how long a failing channel's trial keeps others away.
_LEASE = timedelta(seconds=LEASE_S)
_TRIAL = timedelta(seconds=LEASE_S)

#: After the last fault or change everything comes to rest within so long, or never.
_REST_S = 120.0


@dataclass(slots=True)
class Outcome:
    """What a schedule came to."""

    seed: int
    violation: Violation | None
    faults: dict[str, int]
    events: int
    incidents: int
    receipts: int
    results: int
    virtual_s: float
    trace: list[str] = field(default_factory=list)


@contextmanager
def simulated() -> Iterator[None]:
    """The few names of the product that are replaced: the table of probes, the lease's length, the logs' level."""
    config = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=True
    )
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, 20, 50)
    try:
        with (
            patch.object(worker.checks, "PROBES", {"http": probe}),
            patch.object(notifications, "LEASE", _LEASE),
            patch.object(bundles, "TRIAL", _TRIAL),
            patch.object(engine, "text", cache(engine.text)),  # the clock's query, built once instead of each time
        ):
            yield
    finally:
        gc.set_threshold(*thresholds)
        structlog.configure(**config)


def run(
    seed: int, *, without: frozenset[Guard] = frozenset(), scenario: str = "mixed", verbose: bool = False
) -> Outcome:
    """One schedule; call it within `simulated()`."""
    plan = SCENARIOS[scenario](seed)
    world = World(plan, without=without, verbose=verbose)
    violation = None
    try:
        _play(world)
    except Violation as error:
        violation = error
    sim = world.sim
    return Outcome(
        seed=seed,
        violation=violation,
        faults=sim.faults,
        events=sim.events,
        incidents=len(world.server.table("incidents")),
        receipts=len(world.sinks.receipts),
        results=len(world.server.table("results")),
        virtual_s=sim.now,
        trace=[*plan.describe(), *(sim.trace or [])],
    )


def first_violation(
    seeds: Iterable[int], *, without: frozenset[Guard] = frozenset(), scenario: str = "mixed"
) -> str | None:
    """What is wrong with the first of these schedules that fails, and how to see it again."""
    with simulated():
        for seed in seeds:
            outcome = run(seed, without=without, scenario=scenario)
            if outcome.violation is not None:
                options = "".join(f" --without {guard}" for guard in sorted(without))
                again = f"python -m tests.simulation --scenario {scenario} --seed {seed}{options} --verbose"
                return f"seed {seed}: {outcome.violation}\n{again}"
    return None


def _play(world: World) -> None:
    Watch(world)
    world.schedule()
    last = max(_promises(world), default=world.plan.heal_at)
    sim = world.sim
    sim.run(max(last, world.plan.heal_at + calm_s(world) + 10))
    limit = sim.now + _REST_S
    while not _rests(world):
        if sim.now > limit:
            break  # check_end says what is missing
        sim.run(sim.now + 1)
    check_end(world)


def _rests(world: World) -> bool:
    return not any(world.server.open.values()) and all(envelope.end for envelope in world.bus.envelopes)


def _promises(world: World) -> list[float]:
    """Moments at which an incident must be open or over; each is checked when it comes."""
    moments = []
    for monitor in world.plan.monitors:
        spans = world.plan.truth[monitor.monitor_no]
        for index, span in enumerate(spans):
            if index and (span.verdict is Verdict.UP) == (spans[index - 1].verdict is Verdict.UP):
                continue
            end = next((s.start for s in spans[index:] if (s.verdict is Verdict.UP) != (span.verdict is Verdict.UP)),
                       float("inf"))  # fmt: skip
            deadline = _deadline(world, monitor, max(span.start, 0.0), up=span.verdict is Verdict.UP)
            if deadline < end and index:
                moments.append(deadline)
                world.sim.at(deadline, _keep, world, monitor, span.verdict is Verdict.UP)
    return moments


def _deadline(world: World, monitor: MonitorConfig, start: float, *, up: bool) -> float:
    plan: Plan = world.plan
    threshold = monitor.policy.recovery_threshold if up else monitor.policy.failure_threshold
    wait = threshold * monitor.interval_s + monitor.timeout_s + 5
    return max(start + wait, plan.heal_at + calm_s(world) + wait)


def _keep(world: World, monitor: MonitorConfig, up: bool) -> None:
    open_ = [
        incident
        for incident in world.server.table("incidents").values()
        if incident["monitor_id"] == monitor.monitor_id and incident["status"] != "resolved"
    ]
    if bool(open_) is up:
        raise Violation("I2", f"monitor {monitor.monitor_no} is {'up' if up else 'not up'} for long, open: {open_}")
