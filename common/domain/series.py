"""A stretch of time cut into equal steps, and what results in them say: uptime, coverage, latency.

Uptime and coverage count scheduled results alone, and unknown ones for neither (DESIGN, "Meaning"). A monitor's slots
lie at equal distances, so counting them is counting time. Where nothing is known there is None, never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.domain.slots import phase_ms, slots_between

#: A check needs its time, and its result a moment to be committed: younger slots are not missed yet (milliseconds).
_COMMIT_MS = 2_000
#: Of longer windows nobody reads the results themselves (seconds).
RAW_S = 86_400
#: ((from which length on, what steps are multiples of), …): an answer reads few rows.
_WHOLE_S = ((43_200, 86_400), (3600, 3600), (0, 300))


@dataclass(frozen=True, slots=True)
class Grid:
    """`points` steps from `t0_s` (Unix seconds) on; the last one holds the present."""

    t0_s: int
    step_s: int
    points: int

    @property
    def end_s(self) -> int:
        """Where the last step ends."""
        return self.t0_s + self.step_s * self.points


@dataclass(frozen=True, slots=True)
class Watched:
    """What slots a monitor has: since `check_from_ms`, which moves when it is resumed or its interval changes.

    `locations` is how many it has. Of a monitor that is paused nothing is due.
    """

    id: str
    interval_s: int
    timeout_s: float
    locations: int
    check_from_ms: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class Step:
    """The scheduled results of one step: how many saw their target, how many of these well, and latencies (ms)."""

    seen: int
    well: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """One monitor's columns, a value per step."""

    up: list[float | None]
    p50: list[float | None]
    p95: list[float | None]
    coverage: list[float | None]


def grid(now_s: float, window_s: int, points: int) -> Grid:
    """The steps of a window that ends now. They begin at multiples of their length, so asking again hits the same.

    Those of a window beyond a day are whole five minutes, hours or days, which is what rollups are made of; then there
    may be fewer than `points`.
    """
    step_s = max(1, -(-window_s // points))
    if window_s > RAW_S:
        whole_s = next(length for from_s, length in _WHOLE_S if step_s >= from_s)
        step_s = -(-step_s // whole_s) * whole_s
        points = -(-window_s // step_s)
    end = (int(now_s) // step_s + 1) * step_s
    return Grid(end - step_s * points, step_s, points)


def columns(grid: Grid, watched: Watched, steps: Mapping[int, Step], now_ms: int) -> Series:
    """A monitor's columns; `steps` are those with results until `now_ms`, by their number."""
    found = [steps.get(number) for number in range(grid.points)]
    due = _due(grid, watched, now_ms)
    return Series(
        up=[round(step.well / step.seen, 5) if step and step.seen else None for step in found],
        p50=[_milliseconds(step.p50 if step else None) for step in found],
        p95=[_milliseconds(step.p95 if step else None) for step in found],
        coverage=[
            round(min(1.0, (step.seen if step else 0) / slots), 5) if slots else None
            for step, slots in zip(found, due, strict=True)
        ],
    )


def _due(grid: Grid, watched: Watched, now_ms: int) -> Sequence[int]:
    """How many slots were due in each step; 0 where the settings of that time are not known any more."""
    if not watched.enabled:
        return [0] * grid.points
    interval_ms = watched.interval_s * 1000
    until_ms = now_ms - int(watched.timeout_s * 1000) - _COMMIT_MS
    phases = [phase_ms(watched.id, interval_ms, place, watched.locations) for place in range(watched.locations)]
    due = []
    for number in range(grid.points):
        begin = (grid.t0_s + number * grid.step_s) * 1000
        # A step during which the settings changed would be measured by the wrong ones.
        known = begin >= watched.check_from_ms
        end = min(begin + grid.step_s * 1000, until_ms)
        # A step holds its beginning and not its end, slots_between the other way round.
        due.append(sum(slots_between(begin - 1, end - 1, interval_ms, phase) for phase in phases) if known else 0)
    return due


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
