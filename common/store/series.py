"""Results in steps of time, for many monitors at once.

Reads results themselves; of windows beyond a day rollups say the same (rollups_series).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import from_ms, to_ms
from common.domain.series import Grid, Step, Watched
from common.store.engine import Connection

_WATCHED = """
SELECT m.id::text, m.interval_s, m.timeout_s, cardinality(m.location_ids), m.check_from, m.enabled
  FROM monitors m WHERE m.org_id = %(org_id)s AND m.id = ANY(%(ids)s::uuid[]) AND m.deleted_at IS NULL
"""

# Looks at the organization of the transaction; its plan is in the function.
_STEPS = """
SELECT s.id::text, s.step, s.seen, s.well, s.p50, s.p95
  FROM series_of_results(%(ids)s::uuid[], %(begin)s, %(until)s, %(step_s)s) s
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which steps of which monitors."""

    ids: Sequence[str]
    grid: Grid


def watched(connection: Connection, *, org_id: str, ids: Sequence[str]) -> dict[str, Watched]:
    """These monitors' slots, by id; those that are not the organization's are absent."""
    rows = connection.exec_driver_sql(_WATCHED, {"org_id": org_id, "ids": list(ids)})
    return {row[0]: Watched(row[0], row[1], row[2], row[3], to_ms(row[4]), row[5]) for row in rows}


def read(connection: Connection, wanted: Wanted) -> dict[str, dict[int, Step]]:
    """{monitor: {number of the step: what is in it}}, of the transaction's organization; empty steps are absent."""
    grid = wanted.grid
    rows = connection.exec_driver_sql(
        _STEPS,
        {
            "ids": list(wanted.ids),
            "begin": from_ms(grid.t0_s * 1000),
            "until": from_ms(grid.end_s * 1000),
            "step_s": grid.step_s,
        },
    )
    found: dict[str, dict[int, Step]] = {}
    for id_, number, seen, well, p50, p95 in rows:
        found.setdefault(id_, {})[number] = Step(seen, well, p50, p95)
    return found
