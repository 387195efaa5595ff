"""One measuring window: what was due, what was committed for it, and what that cost.

The window is exact and in database time, and results count by their slot, so that a check that is committed late still
belongs to its window and one that is never committed is missed. Costs are read at the window's two ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.measurement import Checks, Counters, Measurement
from bench.plan import Plan
from bench.processes import CpuReading, MemoryPeaks, read_cpu
from bench.stack import Stack
from bench.telemetry import LAG, Telemetry, read_telemetry
from common.domain.checks import Kind, Verdict
from common.domain.slots import phase_ms, slots_between

_LOOK_EVERY_S = 0.5
_LOOK_AT_POSTGRES_EVERY_S = 5.0
#: How long after the window's end a check may still be committed and count, where none takes long.
_GRACE_S = 2.0

_COMMITTED = """
SELECT count(*), count(*) FILTER (WHERE verdict <> %(up)s) FROM results
 WHERE scheduled_at > to_timestamp(%(start)s) AND scheduled_at <= to_timestamp(%(end)s) AND kind = %(kind)s
"""
_STORED = """
SELECT (SELECT count(*) FROM results),
       (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'results'::regclass),
       pg_current_wal_lsn() - '0/0'::pg_lsn
"""
_UPDATES = """
SELECT n_tup_upd, n_tup_hot_upd, pg_total_relation_size(relid) FROM pg_stat_user_tables WHERE relname = 'votes'
"""


@dataclass(frozen=True, slots=True)
class _Reading:
    stored: int
    bytes: int
    wal: int
    updates: int
    hot: int
    votes_bytes: int
    cpu: CpuReading
    telemetry: Telemetry


def measure(stack: Stack, plan: Plan, tick: Callable[[str, float], None], *, grace_s: float = _GRACE_S) -> Measurement:
    """Warm up, then measure one window; `tick` is told what happens and how much of it is done (0 to 1).

    What is committed `grace_s` after the window's end still counts: so long a check may take, and a little more.
    """
    pids = stack.pids()
    peaks = MemoryPeaks()
    start_s = math.ceil(_now_s(stack)) + plan.warmup_s
    end_s = start_s + plan.seconds
    _watch(stack, pids, peaks, start_s, lambda done: tick("warming up", done))
    before = _read(stack, pids)
    _watch(stack, pids, peaks, end_s, lambda done: tick("measuring", done))
    after = _read(stack, pids)
    _watch(stack, pids, peaks, end_s + grace_s, lambda _done: None)
    codes = {"kind": str(int(Kind.SCHEDULED)), "up": str(int(Verdict.UP))}
    committed, not_up = _one(stack, _COMMITTED, {"start": start_s, "end": end_s, **codes})
    checks = Checks(_due(stack, plan, start_s, end_s), committed, not_up, after.stored - before.stored)
    return _measurement(plan, stack, before, after, peaks, checks)


def _measurement(
    plan: Plan, stack: Stack, before: _Reading, after: _Reading, peaks: MemoryPeaks, checks: Checks
) -> Measurement:
    cpu = {name: after.cpu.roles[name] - used for name, used in before.cpu.roles.items()}
    machine = after.cpu.machine - before.cpu.machine
    interrupts = after.cpu.interrupts - before.cpu.interrupts
    return Measurement(
        monitors=plan.monitors,
        interval_s=plan.interval_s,
        seconds=plan.seconds,
        target=stack.target.name,
        checks=checks,
        counters=_counters(after.telemetry.since(before.telemetry)),
        cpu_s={name: round(seconds, 2) for name, seconds in cpu.items()},
        machine_cpu_s=round(machine, 2),
        interrupts_cpu_s=round(interrupts, 2),
        other_cpu_s=round(machine - interrupts - sum(cpu.values()), 2),
        memory_peak_mb={name: round(size, 1) for name, size in peaks.peaks_mb.items()},
        bytes_per_check=after.bytes / after.stored,
        wal_bytes_per_check=(after.wal - before.wal) / max(1, checks.stored),
        hot_update_share=(after.hot - before.hot) / max(1, after.updates - before.updates),
        votes_bytes=after.votes_bytes,
        warnings=stack.warnings(),
    )


def _counters(told: Telemetry) -> Counters:
    return Counters(
        lag_p50_ms=told.quantile_ms(LAG, 0.5),
        lag_p99_ms=told.quantile_ms(LAG, 0.99),
        lag_max_ms=told.quantile_ms(LAG, 1.0),
        skipped=told.total("tocsin_checks_skipped_total"),
        late=told.total("tocsin_checks_late_total"),
        spilled=told.total("tocsin_checks_spilled_total"),
        conflicts=told.total("tocsin_writer_conflicts_total"),
        batch_mean=told.total("tocsin_writer_batch_size_sum") / max(1, told.total("tocsin_writer_batch_size_count")),
        commit_p50_ms=told.quantile_ms("tocsin_writer_commit_seconds", 0.5),
    )


def _watch(
    stack: Stack, pids: dict[str, int], peaks: MemoryPeaks, until_s: float, tick: Callable[[float], None]
) -> None:
    """Wait for a moment of database time; look at the processes meanwhile. Raises BenchError when one has ended."""
    span_s = until_s - _now_s(stack)
    until = time.monotonic() + span_s
    look_at_postgres = time.monotonic()
    while (left_s := until - time.monotonic()) > 0:
        stack.check_alive()
        postgres = time.monotonic() >= look_at_postgres
        peaks.look(pids, postgres=postgres)
        if postgres:
            look_at_postgres += _LOOK_AT_POSTGRES_EVERY_S
        tick(1 - left_s / span_s)
        time.sleep(max(0.0, min(_LOOK_EVERY_S, until - time.monotonic())))


def _read(stack: Stack, pids: dict[str, int]) -> _Reading:
    # CPU first: reading the rest costs some.
    cpu = read_cpu(pids)
    telemetry = read_telemetry(stack.metrics_dir)
    stored, size, wal = _one(stack, _STORED)
    updates, hot, votes_bytes = _one(stack, _UPDATES)
    return _Reading(stored, int(size), int(wal), updates, hot, votes_bytes, cpu, telemetry)


def _due(stack: Stack, plan: Plan, start_s: int, end_s: int) -> int:
    """How many slots lie in the window: each monitor's own, computed as the scheduler does."""
    interval_ms = plan.interval_s * 1000
    rows = stack.database.execute("SELECT id::text FROM monitors WHERE enabled AND deleted_at IS NULL").fetchall()
    return sum(slots_between(start_s * 1000, end_s * 1000, interval_ms, phase_ms(row[0], interval_ms)) for row in rows)


def _now_s(stack: Stack) -> float:
    return float(_one(stack, "SELECT extract(epoch FROM clock_timestamp())")[0])


def _one(stack: Stack, query: str, values: dict[str, Any] | None = None) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = stack.database.execute(query, values).fetchone()
    assert row is not None
    return row
