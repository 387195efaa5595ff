"""Pings at fixed rates against the product's API: how many are taken, how fast, at what cost, and that none is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import psycopg
from rich.console import Console
from rich.table import Table

from bench.api import Latency, ask
from bench.plan import BenchError, Plan
from bench.processes import read_cpu
from bench.progress import Progress
from bench.stack import ApiAccess, Stack
from common.vault import Vault

#: Pings a second; the first is the promise.
RATES = (1_000, 1_500, 2_000)
_MONITORS = 1_000
_DRAINED_WITHIN_S = 30.0
_BULK = "/v1/monitors/bulk"

_SECRETS = "SELECT org_id::text, id::text, secrets FROM heartbeats"
_COUNTED = "SELECT coalesce(sum(pings), 0)::bigint FROM heartbeats"
_WAITING = "SELECT count(*) FROM ping_inbox"


@dataclass(frozen=True, slots=True)
class PingRate:
    """What became of one rate. `stored` are the pings that were judged and kept: as many as were answered 200.

    `cores` are by role; `drained_s`: how long after the last ping everything was judged.
    """

    per_second: int
    answered_per_s: float
    latency: Latency
    statuses: dict[str, int]
    stored: int
    drained_s: float
    cores: dict[str, float]


def heartbeats(plan: Plan, rates: Sequence[int], progress: Progress) -> list[PingRate]:
    """1,000 heartbeats, pinged over kept connections at each rate."""
    with Stack(plan, lambda line: progress.show(f"heartbeats: {line}", None)) as stack:
        access = stack.start_api()
        for number in range(1, plan.workers + 1):
            stack.start_role(f"worker-{number}")
        stack.start_role("scheduler")
        _register(stack, access)
        paths = [("GET", f"/ping/{token}", "") for token in _tokens(stack)]
        _send(stack, access, paths, 200, 3)  # caches, pools
        found = []
        for rate in rates:
            progress.show(f"heartbeats: {rate:,} pings/s for {plan.seconds} s", None)
            found.append(_measure(stack, access, paths, rate, plan.seconds))
        return found


def _register(stack: Stack, access: ApiAccess) -> None:
    """By one request, as users would."""
    monitors = [
        {"type": "heartbeat", "name": f"job {n}", "interval_seconds": 60, "heartbeat": {"grace_seconds": 30}}
        for n in range(_MONITORS)
    ]
    body = json.dumps({"monitors": monitors})
    asked = ask(stack, access, seconds=1, per_second=1, mix={"bulk": 1}, requests={"bulk": [("POST", _BULK, body)]})
    if asked.statuses != {"200": 1}:
        raise BenchError(f"the heartbeats could not be registered: {asked.statuses}")


def _tokens(stack: Stack) -> list[UUID]:
    vault = Vault(stack.encryption_keys)
    rows = stack.database.execute(_SECRETS).fetchall()
    return [UUID(vault.open(f"heartbeat:{org}:{id_}", sealed)["token"]) for org, id_, sealed in rows]


def _send(
    stack: Stack, access: ApiAccess, paths: list[tuple[str, str, str]], rate: int, seconds: int
) -> tuple[Latency, dict[str, int]]:
    found = ask(stack, access, seconds=seconds, per_second=rate, mix={"ping": 1}, requests={"ping": paths})
    if "ping" not in found.latencies:
        raise BenchError(f"no ping was taken: {found.statuses}")
    return found.latencies["ping"], found.statuses


def _measure(stack: Stack, access: ApiAccess, paths: list[tuple[str, str, str]], rate: int, seconds: int) -> PingRate:
    _drain(stack)
    counted, before, began = _one(stack.database, _COUNTED), read_cpu(stack.pids()), time.monotonic()
    latency, statuses = _send(stack, access, paths, rate, seconds)
    took_s, after = time.monotonic() - began, read_cpu(stack.pids())
    stack.check_alive()
    drained_s = _drain(stack)
    stored = _one(stack.database, _COUNTED) - counted
    if stored < statuses.get("200", 0):  # more: whose answer the client did not wait for
        raise BenchError(f"{statuses} were answered, {stored} are stored")
    cores = {name: round((after.roles[name] - used) / took_s, 3) for name, used in before.roles.items()}
    return PingRate(rate, statuses.get("200", 0) / max(took_s, seconds), latency, statuses, stored, drained_s, cores)


def _drain(stack: Stack) -> float:
    """Until everything is judged; how long that took."""
    began = time.monotonic()
    while _one(stack.database, _WAITING):
        if time.monotonic() - began > _DRAINED_WITHIN_S:
            raise BenchError("the workers do not keep up with the pings")
        time.sleep(0.02)
    return time.monotonic() - began


def _one(database: psycopg.Connection[Any], query: str) -> int:
    row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def show(console: Console, found: Sequence[PingRate]) -> None:
    """What was taken at each rate, and what it cost."""
    table = Table(title=f"{_MONITORS:,} heartbeats, each ping committed before its 200")
    for name in ("pings/s asked", "taken", "p50", "p95", "p99", "judged after", "api", "workers", "postgres"):
        table.add_column(name, justify="right")
    for rate in found:
        workers = sum(used for name, used in rate.cores.items() if name.startswith("worker"))
        table.add_row(
            f"{rate.per_second:,}", f"{rate.answered_per_s:,.0f}", f"{rate.latency.p50_ms:.1f} ms",
            f"{rate.latency.p95_ms:.1f} ms", f"{rate.latency.p99_ms:.1f} ms", f"{rate.drained_s * 1000:.0f} ms",
            f"{rate.cores['api']:.2f}", f"{workers:.2f}", f"{rate.cores.get('postgres', 0):.2f} cores",
        )  # fmt: skip
    console.print(table)
    for rate in found:
        console.print(f"{rate.per_second:,}/s: answers {rate.statuses}, stored {rate.stored:,}")


def as_json(found: Sequence[PingRate]) -> list[dict[str, Any]]:
    """All numbers."""
    return [asdict(rate) for rate in found]
