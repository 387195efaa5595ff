"""Put what is watched, and its past, into an organization, in one transaction: all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

from common.clock import from_ms
from common.domain.errors import StackError
from common.seed.watched import FINDINGS, SYMPTOMS, Watched, WatchPlan, watched
from common.store import monitors, seeding_outages, seeding_watched
from common.store.engine import Connection

_MONITORS_AT_ONCE = 5_000
#: A statement ends long before its timeout.
_RESULTS_AT_ONCE = 500_000


def plant_watched(
    connection: Connection, plan: WatchPlan, org_id: str, location: int, target: Callable[[int], str]
) -> Iterator[int]:
    """Write it; yields how many results are there so far. Raises StackError when this plan's are there already."""
    made, now_ms = watched(plan, target, seeding_watched.now_ms(connection)), seeding_watched.now_ms(connection)
    span_ms = plan.step_ms * (plan.results // plan.monitors + 1)
    shared: dict[str, Any] = {
        "org": org_id, "location": location, "seed": plan.seed, "interval_s": plan.interval_s,
        "step_ms": plan.step_ms, "symptoms": list(SYMPTOMS), "findings": list(FINDINGS),
        "born_s": (now_ms - span_ms) / 1000 - plan.monitors,
    }  # fmt: skip
    first, last = from_ms(now_ms - span_ms).date(), from_ms(now_ms).date()
    seeding_watched.begin(connection, [first + timedelta(days=day) for day in range((last - first).days + 1)])
    while batch := list(islice(made, _MONITORS_AT_ONCE)):
        if seeding_watched.known(connection, org_id, batch[0].key):
            raise StackError(f"what seed {plan.seed} makes is here already: choose another --seed")
        seeding_watched.add_monitors(connection, _columns(batch), **shared)
    at_once = max(1, _RESULTS_AT_ONCE * plan.monitors // plan.results)
    for begin in range(0, plan.monitors, at_once):
        end = min(plan.monitors, begin + at_once)
        seeding_watched.add_results(connection, begin, end, **shared)
        yield plan.results * end // plan.monitors
    seeding_outages.finish(connection, **shared)
    monitors.notify(connection)


def _columns(batch: list[Watched]) -> dict[str, list[Any]]:
    return {
        "numbers": [one.number for one in batch],
        "ids": [str(one.id) for one in batch],
        "keys": [one.key for one in batch],
        "names": [one.name for one in batch],
        "targets": [one.target for one in batch],
        "severities": [one.severity for one in batch],
        "labels": [one.labels for one in batch],
        "assertions": [one.assertions for one in batch],
        "fates": [one.fate for one in batch],
        "results": [one.results for one in batch],
        "outages": [one.outages for one in batch],
        "lasts": [one.last_ms for one in batch],
    }
