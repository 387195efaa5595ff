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


def _grouped(seed: int) -> Plan:
    """Targets that fail and recover together, told of in groups, by two notifiers to a receiver with bad hours."""
    rng = Random(f"grouped {seed}")
    plan = draw(seed, crowded=True)
    plan.grouped, plan.channels, plan.monitors = True, 1, plan.monitors * 2
    plan.weather = Weather()  # checks that come late are another story
    plan.monitors = [
        replace(
            monitor,
            monitor_no=number,
            monitor_id=f"m{number}-{seed}",
            interval_s=5,
            locations=(1,),
            policy=replace(monitor.policy, failure_threshold=1, recovery_threshold=1, quorum=None),
        )
        for number, monitor in enumerate(plan.monitors, 1)
    ]
    plan.truth = {monitor.monitor_no: _outages(Random(f"outages {seed}"), rng) for monitor in plan.monitors}
    moods = ("500", "429", "hang", "swallow", "refuse")
    plan.faults = [fault for fault in plan.faults if not fault.what.startswith("sink")]
    plan.faults += [Fault(rng.uniform(8, 24), f"sink {rng.choice(moods)}", 0, rng.uniform(3, 12)) for _ in range(2)]
    plan.faults.sort(key=lambda fault: fault.at)
    return plan


def _outages(shared: Random, own: Random) -> list[Span]:
    """Two, at about the same time for everybody."""
    spans, at = [Span(-1e9, Verdict.UP)], shared.uniform(5, 9)
    for _ in range(2):
        spans.append(Span(at + own.uniform(0, 2), Verdict.DOWN))
        at += shared.uniform(7, 11)
        spans.append(Span(at + own.uniform(0, 2), Verdict.UP))
        at += shared.uniform(6, 9)
    return spans


SCENARIOS: dict[str, Callable[[int], Plan]] = {
    "mixed": draw,
    "crowded": _crowded,
    "held-back": _held_back,
    "grouped": _grouped,
}
