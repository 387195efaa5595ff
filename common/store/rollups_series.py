"""Series out of rollups: the steps of long windows, without reading a result.

A grid of more than a day is made of whole rows. Where five minutes have gone already, an hour counts in the step that
it begins in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import from_ms, to_ms
from common.domain import histogram
from common.domain.accounting_cover import Level, Rolled, cover
from common.domain.series import Grid, Step
from common.store.engine import Connection
from common.store.rollups import progress

# Looks at the organization of the transaction; its plan is in the function.
_ROWS = """
SELECT r.id::text, r.at, r.seen, r.well, r.latencies
  FROM series_of_rollups(%(ids)s::uuid[], %(ats)s::timestamptz[], %(level)s) r
"""


@dataclass(frozen=True, slots=True)
class RolledSteps:
    """{monitor: {number of the step: what is in it}}, empty steps absent; rollups reach to `to_ms` (Unix)."""

    steps: dict[str, dict[int, Step]]
    to_ms: int


def read(connection: Connection, ids: Sequence[str], grid: Grid) -> RolledSteps:
    """The steps of these monitors of the transaction's organization, as far as rollups reach.

    Percentiles are within 5 % of the exact ones. Steps before counting began, or whose rows have gone, are absent.
    """
    rolled, _ = progress(connection)
    step_ms, t0_ms = grid.step_s * 1000, grid.t0_s * 1000
    covered = cover(rolled, t0_ms, grid.end_s * 1000, _coarsest(grid, rolled))
    found: dict[str, dict[int, list[tuple[int, int, bytes]]]] = {}
    for level, begins_ms in covered.rows.items():
        keys = {"ids": list(ids), "ats": [from_ms(at) for at in begins_ms], "level": level.value}
        for id_, at, seen, well, latencies in connection.exec_driver_sql(_ROWS, keys) if begins_ms else ():
            number = (to_ms(at) - t0_ms) // step_ms
            found.setdefault(id_, {}).setdefault(number, []).append((seen, well, bytes(latencies or b"")))
    steps = {id_: {n: _step(rows) for n, rows in numbered.items()} for id_, numbered in found.items()}
    return RolledSteps(steps, covered.end_ms)


def _coarsest(grid: Grid, rolled: Rolled) -> Level:
    """The longest rows that fit: the fewest, and the ones that are kept."""
    for level in (Level.DAY, Level.HOUR):
        if grid.t0_s * 1000 % level.ms == 0 and grid.step_s * 1000 % level.ms == 0:
            return level
    return Level.HOUR if grid.t0_s * 1000 < rolled.fine_from_ms else Level.FINE


def _step(rows: Sequence[tuple[int, int, bytes]]) -> Step:
    p50, p95 = histogram.percentiles(histogram.merge(row[2] for row in rows), (0.5, 0.95))
    return Step(sum(row[0] for row in rows), sum(row[1] for row in rows), p50, p95)
