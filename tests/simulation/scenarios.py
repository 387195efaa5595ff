"""Kinds of schedules: the mixture, and those that press on one spot; a seed gives each its own details."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from common.domain.checks import Verdict
from tests.simulation.bus import Weather
from tests.simulation.plan import Fault, Plan, Span, draw


def _crowded(seed: int) -> Plan:
    return draw(seed, crowded=True)


def _held_back(seed: int) -> Plan:
    """Two locations, and a database that is away while a target fails and recovers."""
    rng = Random(f"held back {seed}")
    plan = draw(seed)
    plan.kinds, plan.mean_points, plan.heal_at = frozenset({"database"}), 0.0, 40.0
    plan.workers, plan.weather = [1, 2], Weather()
    plan.monitors = [
        replace(
            monitor,
            interval_s=5,
            locations=(1, 2),
            policy=replace(monitor.policy, failure_threshold=1, recovery_threshold=1, quorum=None),
        )
        for monitor in plan.monitors
    ]
    down_at = rng.uniform(10, 16)
    up_at = down_at + rng.uniform(4, 9)
    outage = [Span(-1e9, Verdict.UP), Span(down_at, Verdict.DOWN), Span(up_at, Verdict.UP)]
    plan.truth = {monitor.monitor_no: outage for monitor in plan.monitors}
    plan.faults = [Fault(down_at - rng.uniform(0, 5), "database away", 0, rng.uniform(8, 16))]
    return plan


SCENARIOS: dict[str, Callable[[int], Plan]] = {
    "mixed": draw,
    "crowded": _crowded,
    "held-back": _held_back,
}
