"""The API with a full database: 100,000 monitors with 10 million results and their incidents, while checks run.

`tocsin seed` makes the data. Every kind of request has the same random moments as all others, so that each meets each.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from api.app import create_app, open_services
from bench.api import PER_SECOND, ApiFindings, Latency, Request, ask
from bench.measure import measure
from bench.measurement import Measurement
from bench.plan import BenchError, Plan
from bench.progress import Progress
from bench.stack import ApiAccess, Stack
from common import log
from common.seed.plant_watched import plant_watched
from common.seed.universe import KINDS, TEAMS
from common.seed.watched import SERVICES, SYMPTOMS, WatchPlan
from common.store import locations, seeding_watched
from common.store.engine import Database, DatabaseRole
from tests.statements import counted

RESULTS_PER_MONITOR = 100
_PATIENCE_S = 60.0
_IDS = "SELECT id::text FROM monitors ORDER BY random() LIMIT 500"
_INCIDENT_IDS = "SELECT id::text FROM incidents ORDER BY random() LIMIT 500"
_VACUUM = "VACUUM (ANALYZE) monitors, monitor_states, votes, results, result_details, incidents, incident_events"

#: What is asked, how often out of 300, and the 95th percentile that is promised (milliseconds).
WEIGHTS: dict[str, tuple[int, float | None]] = {
    "read a monitor": (120, 10.0),
    "its results, 100": (20, None),
    "series of 20 monitors": (3, None),
    "read an incident": (25, None),
    "list 50": (40, 30.0),
    "list by state": (15, 30.0),
    "list by label": (15, 30.0),
    "list by words": (8, 30.0),
    "list by name": (7, 30.0),
    "incidents, newest 50": (20, None),
    "incidents by status": (8, None),
    "incidents by words": (12, 50.0),
    "summary by team": (7, 50.0),
}
TARGETS_MS = {name: target for name, (_, target) in WEIGHTS.items() if target is not None}


@dataclass(frozen=True, slots=True)
class LoadFindings:
    """What came of the requests and of the checks meanwhile. `statements` are SQL statements of one request."""

    per_second: float
    monitors: int
    results: int
    incidents: int
    seed_s: float
    database_mb: float
    latencies: dict[str, Latency]
    statuses: dict[str, int]
    statements: dict[str, int]
    late_p99_ms: float
    load: Measurement

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {**asdict(self), "load": self.load.as_json()}


def load(plan: Plan, progress: Progress) -> LoadFindings:
    """Fill the database, run the checks, and ask the API all the time while they are measured."""
    watch = WatchPlan(1, plan.monitors, plan.results or RESULTS_PER_MONITOR * plan.monitors, plan.monitors // 5,
                      interval_s=plan.interval_s)  # fmt: skip
    title = f"the API with {watch.monitors:,} monitors and {watch.results:,} results"
    with Stack(plan, lambda line: progress.show(f"{title}: {line}", None)) as stack:
        seed_s = _seed(stack, watch, lambda done: progress.show(f"{title}: seeding", done / watch.results))
        size_mb = _number(stack, "SELECT pg_database_size(current_database()) / 1e6")
        incidents = int(_number(stack, "SELECT count(*) FROM incidents"))
        stack.start_roles()
        access = stack.start_api()
        requests = _requests(stack)
        statements = _statements(stack, access, requests)
        ask(
            stack, access, seconds=3, per_second=50, mix=_mix(), requests=requests
        )  # the first requests find cold caches
        asked: list[ApiFindings] = []
        # The client starts with the window and ends before it does.
        how = {"seconds": plan.seconds - 2, "per_second": PER_SECOND}
        timer = threading.Timer(
            plan.warmup_s, lambda: asked.append(ask(stack, access, **how, mix=_mix(), requests=requests))
        )
        timer.start()
        measured = measure(stack, plan, lambda what, done: progress.show(f"{title}: {what}", done))
        timer.join(_PATIENCE_S)
        if not asked:
            raise BenchError("the API's client did not come to its end")
    found = asked[0]
    return LoadFindings(
        found.per_second, watch.monitors, watch.results, incidents, seed_s, size_mb, found.latencies, found.statuses,
        statements, found.late_p99_ms, measured,
    )  # fmt: skip


def show_load(console: Console, found: LoadFindings) -> None:
    """One line per kind of request, and what each process needed."""
    table = Table(
        title=f"API at {found.per_second:,.0f} requests/s, {found.monitors:,} monitors, {found.results:,} results,"
        f" {found.incidents:,} incidents, checks running"
    )
    for name in ("", "requests", "statements", "p50", "p95", "p99", "target p95"):
        table.add_column(name, justify="right" if name else "left")
    for name, latency in found.latencies.items():
        values = (latency.p50_ms, latency.p95_ms, latency.p99_ms)
        target = TARGETS_MS.get(name)
        table.add_row(name, f"{latency.count:,}", str(found.statements[name]), *(f"{value:.1f} ms" for value in values),
                      f"{target:.0f} ms" if target else "-")  # fmt: skip
    console.print(table)
    cores = ", ".join(f"{role} {used / found.load.seconds:.2f}" for role, used in found.load.cpu_s.items())
    console.print(f"cores: {cores}; others on this machine {found.load.other_cpu_s / found.load.seconds:.2f}")
    console.print(f"answers by status: {found.statuses}; the client was late by {found.late_p99_ms:.1f} ms (p99); "
                  f"seeded in {found.seed_s:.0f} s, {found.database_mb:,.0f} MB")  # fmt: skip


def _seed(stack: Stack, watch: WatchPlan, tick: Any) -> float:
    """Fill the first organization; how long that took (seconds)."""
    began_s = time.monotonic()
    database = Database(stack.database_url, DatabaseRole.OWNER, application="bench", pool_size=1)
    with database.begin() as connection:
        found = seeding_watched.organization(connection, "")
        assert found is not None
        location = locations.ensure(connection, "local")
        for done in plant_watched(connection, watch, found[0], location, stack.target.url):
            tick(done)
    database.dispose()
    seed_s = time.monotonic() - began_s
    # What autovacuum would have done by the time there are so many.
    stack.database.execute(_VACUUM)
    return seed_s


def _mix() -> dict[str, int]:
    return {name: weight for name, (weight, _) in WEIGHTS.items()}


def _requests(stack: Stack) -> dict[str, list[Request]]:
    """(method, path, body) to choose from, by what is asked."""
    ids, incident_ids = stack.sample(_IDS), stack.sample(_INCIDENT_IDS)
    words = [*SERVICES, *KINDS, *(f"{service} {kind}" for service in SERVICES for kind in KINDS)]
    reads = {
        "read a monitor": [f"/v1/monitors/{id_}" for id_ in ids],
        "its results, 100": [f"/v1/monitors/{id_}/results?limit=100" for id_ in ids],
        "read an incident": [f"/v1/incidents/{id_}" for id_ in incident_ids],
        "list 50": ["/v1/monitors?limit=50"],
        "list by state": [f"/v1/monitors?state={state}&limit=50" for state in ("down", "degraded", "up", "paused")],
        "list by label": [f"/v1/monitors?label=team:{team}&limit=50" for team in TEAMS],
        "list by words": [f"/v1/monitors?q={quote(text)}&limit=50" for text in words],
        "list by name": [f"/v1/monitors?sort=name&label=env:{env}&limit=50" for env in ("staging", "development")],
        "incidents, newest 50": ["/v1/incidents?limit=50"],
        "incidents by status": ["/v1/incidents?status=open&limit=50", "/v1/incidents?status=acknowledged&limit=50"],
        "incidents by words": [f"/v1/incidents?q={quote(text)}&limit=50" for text in _phrases()],
        "summary by team": ["/v1/summary?group_by=label:team"],
    }
    window = [
        json.dumps({"ids": ids[start : start + 20], "window": "24h", "points": 120}) for start in range(0, 400, 20)
    ]
    return {
        **{name: [("GET", path, "") for path in paths] for name, paths in reads.items()},
        "series of 20 monitors": [("POST", "/v1/monitors/series", body) for body in window],
    }


def _phrases() -> list[str]:
    """What people search for: two words that stand together in many incidents, services, a ticket that one has."""
    pairs = [" ".join(symptom.split()[:2]) for symptom in SYMPTOMS]
    return [*pairs, *SERVICES, "gateway time", "ticket 4711", "certificate", "checkout database"]


def _statements(stack: Stack, access: ApiAccess, requests: dict[str, list[Request]]) -> dict[str, int]:
    """SQL statements of one request of each kind, who calls included; counted in an API of our own."""
    log.configure("bench", level="warning")
    services = open_services(stack.settings)
    client = create_app(services).test_client()
    headers = {"Authorization": f"Bearer {access.key}"}
    client.get("/v1/auth/me", headers=headers)  # a key's first use in a minute is noted
    found = {}
    for name, choices in requests.items():
        method, path, body = choices[0]
        with counted(services.database) as sent:
            answer = client.open(path, method=method, data=body, content_type="application/json", headers=headers)
        if answer.status_code != 200:
            raise BenchError(f"{name}: {path} is answered by {answer.status_code}: {answer.text[:300]}")
        found[name] = len(sent)
    services.database.dispose()
    services.platform.close()
    return found


def _number(stack: Stack, query: str) -> float:
    row = stack.database.execute(query).fetchone()
    assert row is not None
    return float(row[0])
