"""From outage to webhook: break targets one by one under load, and see when the incident and the message are there."""

from __future__ import annotations

import random
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench.measure import measure
from bench.measurement import Measurement
from bench.plan import Plan
from bench.progress import Progress
from bench.seed import add_webhook, seed
from bench.sink import Received, Sink
from bench.stack import Stack

_LOOK_EVERY_S = 0.005
#: Between two outages, on average: they begin at any moment of an interval.
_APART_S = 0.2
#: Beyond one interval.
_ARRIVES_WITHIN_S = 30.0

_INCIDENTS = "SELECT monitor_id::text FROM incidents"
_FLAKY = "SELECT id::text FROM monitors ORDER BY monitor_no LIMIT %s"


@dataclass(frozen=True, slots=True)
class Spread:
    """How a duration is distributed over the outages (milliseconds)."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Detection:
    """What came of the outages. `incident` and `webhook` are counted from the moment the target began to fail."""

    outages: int
    incident: Spread | None
    webhook: Spread | None
    resolve: Spread | None
    duplicates: int
    unexpected: int
    load: Measurement

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {**asdict(self), "load": self.load.as_json()}


def detect(plan: Plan, progress: Progress) -> Detection:
    """Run the load, then break and mend every flaky target."""
    title = f"{plan.monitors:,} monitors at {plan.interval_s} s, {plan.flaky} outages"
    with Sink() as sink, Stack(plan, lambda line: progress.show(f"{title}: {line}", None)) as stack:
        org = seed(stack.database, plan, stack.target)
        add_webhook(stack.database, org, sink.url, stack.encryption_keys)
        numbers = {row[0]: n for n, row in enumerate(stack.database.execute(_FLAKY, (plan.flaky,)).fetchall())}
        stack.start_roles()
        load = measure(stack, plan, lambda what, done: progress.show(f"{title}: {what}", done))
        progress.show(f"{title}: breaking targets", None)
        broken, incidents = _break(stack, sink, numbers, plan.interval_s)
        progress.show(f"{title}: mending them", None)
        mended = _mend(stack, sink, numbers, plan.interval_s)
    opened = _first(sink.received, "incident.opened")
    resolved = _first(sink.received, "incident.resolved")
    return Detection(
        outages=len(numbers),
        incident=_spread(broken, incidents),
        webhook=_spread(broken, opened),
        resolve=_spread(mended, resolved),
        duplicates=len(sink.received) - len({(r.type, r.monitor_id) for r in sink.received}),
        unexpected=sum(1 for r in sink.received if r.monitor_id not in numbers),
        load=load,
    )


def _break(
    stack: Stack, sink: Sink, numbers: dict[str, int], interval_s: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Break the targets one by one; when each began to fail and when its incident was committed (Unix seconds)."""
    chance = random.Random(1)
    waiting = list(numbers)
    broken: dict[str, float] = {}
    incidents: dict[str, float] = {}
    next_at = time.time()
    give_up = next_at + 2 * _APART_S * len(waiting) + interval_s + _ARRIVES_WITHIN_S
    while time.time() < give_up and (waiting or len(_first(sink.received, "incident.opened")) < len(numbers)):
        if waiting and time.time() >= next_at:
            monitor = waiting.pop()
            broken[monitor] = time.time()
            stack.target.break_path(numbers[monitor])
            next_at += chance.uniform(0, 2 * _APART_S)
        for row in stack.database.execute(_INCIDENTS):
            incidents.setdefault(row[0], time.time())
        stack.check_alive()
        time.sleep(_LOOK_EVERY_S)
    return broken, incidents


def _mend(stack: Stack, sink: Sink, numbers: dict[str, int], interval_s: int) -> dict[str, float]:
    mended: dict[str, float] = {}
    for monitor, number in numbers.items():
        mended[monitor] = time.time()
        stack.target.mend_path(number)
    give_up = time.time() + interval_s + _ARRIVES_WITHIN_S
    while time.time() < give_up and len(_first(sink.received, "incident.resolved")) < len(numbers):
        stack.check_alive()
        time.sleep(_LOOK_EVERY_S)
    time.sleep(1.0)  # for what should not come: a second copy
    return mended


def _first(received: list[Received], event: str) -> dict[str, float]:
    """When each monitor's first webhook of a type came."""
    first: dict[str, float] = {}
    for item in list(received):
        if item.type == event:
            first.setdefault(item.monitor_id, item.at)
    return first


def _spread(began: dict[str, float], ended: dict[str, float]) -> Spread | None:
    spans = sorted((ended[key] - began[key]) * 1000 for key in began if key in ended)
    if not spans:
        return None
    return Spread(len(spans), _rank(spans, 0.5), _rank(spans, 0.99), spans[-1])


def _rank(ordered: list[float], quantile: float) -> float:
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]
