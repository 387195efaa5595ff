"""The API under running checks and with very many monitors stored: read, list, change, create at a fixed rate."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from typing import Any

from bench.measure import measure
from bench.measurement import Measurement
from bench.plan import BenchError, Plan
from bench.progress import Progress
from bench.seed import seed
from bench.stack import ROOT, ApiAccess, Stack

PER_SECOND = 300.0
#: DESIGN's targets: 95th percentiles (milliseconds).
TARGETS_MS = {"read one": 10.0, "list 50": 30.0}
_SAMPLE = "SELECT id::text FROM monitors ORDER BY random() LIMIT 500"
_PATIENCE_S = 60.0

#: (method, path, body)
Request = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one kind of request took (milliseconds)."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class ApiFindings:
    """What came of the requests, and of the checks that ran meanwhile.

    `late_p99_ms`: how late the client itself was to send. It is a part of the latencies, and has to be next to nothing.
    """

    per_second: float
    monitors: int
    latencies: dict[str, Latency]
    statuses: dict[str, int]
    load: Measurement | None
    late_p99_ms: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {**asdict(self), "load": self.load.as_json() if self.load else None}


def api(plan: Plan, progress: Progress) -> ApiFindings:
    """Run the checks, and ask the API all the time while they are measured."""
    title = f"the API with {plan.monitors:,} monitors at {plan.interval_s} s"
    with Stack(plan, lambda line: progress.show(f"{title}: {line}", None)) as stack:
        seed(stack.database, plan, stack.target)
        stack.start_roles()
        access = stack.start_api()
        ask(stack, access, seconds=3, per_second=50)  # the first requests find cold caches
        asked: list[ApiFindings] = []
        # The client starts with the window and ends before it does.
        timer = threading.Timer(
            plan.warmup_s, lambda: asked.append(ask(stack, access, seconds=plan.seconds - 2, per_second=PER_SECOND))
        )
        timer.start()
        load = measure(stack, plan, lambda what, done: progress.show(f"{title}: {what}", done))
        timer.join(_PATIENCE_S)
        if not asked:
            raise BenchError("the API's client did not come to its end")
    found = asked[0]
    return ApiFindings(found.per_second, plan.monitors, found.latencies, found.statuses, load, found.late_p99_ms)


def ask(
    stack: Stack,
    access: ApiAccess,
    *,
    seconds: float,
    per_second: float,
    mix: dict[str, int] | None = None,
    requests: dict[str, list[Request]] | None = None,
) -> ApiFindings:
    """Send requests for a while, by the weights of `mix`; of `requests` one by chance. What was measured."""
    wanted: dict[str, Any] = {
        "host": access.host, "port": access.port, "key": access.key, "per_second": per_second, "seconds": seconds,
        "ids": stack.sample(_SAMPLE), "requests": requests or {},
    }  # fmt: skip
    if mix is not None:
        wanted["mix"] = mix
    done = subprocess.run(
        [sys.executable, "-m", "bench.api_client"], input=json.dumps(wanted), capture_output=True, text=True, cwd=ROOT,
        check=False, timeout=seconds + _PATIENCE_S,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"the API's client failed: {done.stderr.strip().splitlines()[-1:]}")
    told = json.loads(done.stdout)
    latencies = {name: _latency(sorted(values)) for name, values in sorted(told["latencies_ms"].items())}
    late = _latency(sorted(told["late_ms"]))
    return ApiFindings(per_second, 0, latencies, told["statuses"], None, late.p99_ms)


def _latency(ordered: list[float]) -> Latency:
    def rank(quantile: float) -> float:
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]

    return Latency(len(ordered), rank(0.5), rank(0.95), rank(0.99), ordered[-1])
