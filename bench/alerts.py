"""Alerts through the whole product: HTTP → incidents → ledger → a receiver, with more and more rules.

Every rule leads to two channels, so an alert that concerns n organizations is n incidents and 2·n notifications. While
the way to the ledger is measured, the channels are held back, as a failing one is: nothing is sent. Then they are let
go, and what arrives is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

from bench import alerts_client, receiver
from bench.matching import Matching, measure_matching
from bench.plan import BenchError, Plan
from bench.processes import read_cpu
from bench.progress import Progress
from bench.stack import ApiAccess, Stack
from common.seed.alerts import backbone, stream
from common.seed.plant import plant
from common.seed.universe import Plan as SeedPlan
from common.seed.universe import Universe
from common.store import platform_keys
from common.store.engine import Database, DatabaseRole
from common.vault import Vault

SIZES = (2_880, 28_800, 288_000)
_ALERTS = 6_000
_FAN_OUT_ALERTS = 200
_WARM = 200
_LABELS = 2_000
_LEDGER_WITHIN_S = 30.0
_SENT_WITHIN_S = 20.0
_LOOK_EVERY_S = 0.02

_HOLD_BACK = "UPDATE channels SET failures = 1, failing_since = now(), retry_at = now() + interval '1 day'"
_LET_GO = "UPDATE channels SET failures = 0, failing_since = NULL, retry_at = NULL"
# From here on each rule leads to one channel.
_ONE_CHANNEL = "UPDATE routes SET channel_ids = channel_ids[1:1]"
_MOVE_ROUTING = "UPDATE organizations SET routing_version = routing_version + 1"
_OUTBOX_LEFT = "SELECT EXISTS (SELECT 1 FROM outbox)::int"
_FORGET = "DELETE FROM outbox"
_INCIDENTS = "SELECT count(*) FROM incidents"
_LEDGER = "SELECT count(*) FROM notifications"
_SENT = "SELECT count(*) FROM notifications WHERE status = 'sent'"


@dataclass(frozen=True, slots=True)
class Flow:
    """Alerts that came through, what they became, in which time, and the CPU seconds of each role meanwhile."""

    alerts: int
    incidents: int
    notifications: int
    seconds: float
    cpu_s: dict[str, float]

    @property
    def alerts_per_s(self) -> float:
        """Alerts a second."""
        return self.alerts / self.seconds

    @property
    def notifications_per_s(self) -> float:
        """Ledger rows a second."""
        return self.notifications / self.seconds

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        rates = {"alerts_per_s": self.alerts_per_s, "notifications_per_s": self.notifications_per_s}
        return {**asdict(self), **rates}


@dataclass(frozen=True, slots=True)
class AlertSize:
    """One number of rules: alerts to the last 202, to the last ledger row, and fanned out.

    `ledger_one_channel` is the way to the ledger once each rule leads to one channel instead of two. `deliveries_per_s`
    is None where nothing was sent.
    """

    routes: int
    organizations: int
    channels: int
    seed_s: float
    matching: Matching
    incidents: Flow
    ledger: Flow
    fan_out: Flow
    ledger_one_channel: Flow
    deliveries_per_s: float | None

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        names = ("incidents", "ledger", "fan_out", "ledger_one_channel")
        flows = {name: getattr(self, name).as_json() for name in names}
        return {**asdict(self), **flows}


def alerts(plan: Plan, sizes: Sequence[int], progress: Progress) -> list[AlertSize]:
    """Measure each number of rules on a fresh stack; `plan.seconds` is how long deliveries are counted.

    They are at the middle size; the others leave what they wrote unsent.
    """
    middle = sizes[len(sizes) // 2]
    return [_Run(plan, routes, progress, sends=routes == middle).measure() for routes in sizes]


class _Run:
    def __init__(self, plan: Plan, routes: int, progress: Progress, *, sends: bool) -> None:
        self._plan = plan
        self._universe = Universe(SeedPlan(routes=routes))
        self._say: Callable[[str], None] = lambda line: progress.show(f"{routes:,} rules: {line}", None)
        self._sends = sends

    def measure(self) -> AlertSize:
        """Everything, on a stack of its own."""
        universe = self._universe
        with Stack(self._plan, self._say) as stack, receiver.receiver(stack.env, stack.folder) as port:
            began = time.perf_counter()
            operator_key = self._prepare(stack, port)
            seed_s = time.perf_counter() - began
            self._say("matching while rules change")
            matching = measure_matching(stack.database_url, self._labels())
            api = stack.start_api()
            access = ApiAccess(api.host, api.port, operator_key)
            alerts_client.send(access, alerts_client.batches(stream(universe, "warm"), _WARM))  # reads the rules
            self._say("alerts to incidents")
            incidents = self._flow(stack, access, stream(universe, "first"), _ALERTS, to_ledger=False)
            stack.start_notifier()
            self._await_ledger(stack)
            self._say("alerts to the ledger")
            ledger = self._flow(stack, access, stream(universe, "second"), _ALERTS, to_ledger=True)
            self._say("fan-out")
            fan_out = self._flow(stack, access, backbone(universe, "third"), _FAN_OUT_ALERTS, to_ledger=True)
            self._say("alerts to the ledger, one channel a rule")
            stack.database.execute(_ONE_CHANNEL)
            stack.database.execute(_MOVE_ROUTING)
            alerts_client.send(access, alerts_client.batches(stream(universe, "warm again"), _WARM))
            self._await_ledger(stack)
            single = self._flow(stack, access, stream(universe, "fourth"), _ALERTS, to_ledger=True)
            deliveries = self._deliver(stack) if self._sends else None
        plan = universe.plan
        return AlertSize(
            plan.routes, plan.organizations, plan.routes * plan.channels_per_route, seed_s, matching, incidents, ledger,
            fan_out, single, deliveries,
        )  # fmt: skip

    def _prepare(self, stack: Stack, port: int) -> str:
        """Seed it, hold the channels back; a platform key."""
        self._say("seeding")
        vault = Vault(stack.encryption_keys) if self._sends else None
        key = platform_keys.NewPlatformKey("bench")
        owner = Database(stack.database_url, DatabaseRole.OWNER, application="bench", pool_size=1)
        try:
            with owner.begin() as connection:
                platform_keys.add(connection, key)
                for done in plant(connection, self._universe, endpoint=partial(receiver.url, port), vault=vault):
                    self._say(f"seeding, {done:,} so far")
        finally:
            owner.dispose()
        stack.database.execute(_HOLD_BACK)
        stack.database.execute("VACUUM (ANALYZE) channels, routes, organizations")
        return key.token

    def _labels(self) -> list[dict[str, str]]:
        return [
            {**alert["labels"], "name": alert["name"], "source": alert["source"], "severity": alert["severity"]}
            for alert in islice(stream(self._universe, "labels"), _LABELS)
        ]

    def _flow(
        self, stack: Stack, access: ApiAccess, documents: Iterator[dict[str, Any]], count: int, *, to_ledger: bool
    ) -> Flow:
        bodies = alerts_client.batches(documents, count)
        incidents, rows = self._count(stack, _INCIDENTS), self._count(stack, _LEDGER)
        cpu, began = read_cpu(stack.pids()).roles, time.perf_counter()
        _, tally = alerts_client.send(access, bodies)
        left = self._await_ledger(stack) if to_ledger else 0
        seconds = time.perf_counter() - began
        spent = {role: used - cpu.get(role, 0.0) for role, used in read_cpu(stack.pids()).roles.items()}
        if tally.get("accepted") != count:
            raise BenchError(f"of {count} alerts not all were accepted: {tally}")
        made = self._count(stack, _INCIDENTS) - incidents
        done = round(count * (1 - left / made))
        return Flow(done, made - left, self._count(stack, _LEDGER) - rows, seconds, spent)

    def _await_ledger(self, stack: Stack) -> int:
        """Until every event has its ledger rows, or time is up: so many are left, and thrown away."""
        deadline = time.monotonic() + _LEDGER_WITHIN_S
        while self._count(stack, _OUTBOX_LEFT):
            stack.check_alive()
            if time.monotonic() > deadline:
                return stack.database.execute(_FORGET).rowcount
            time.sleep(_LOOK_EVERY_S)
        return 0

    def _deliver(self, stack: Stack) -> float:
        """Let the channels go; deliveries a second, of which enough wait."""
        self._say("delivering")
        stack.database.execute(_LET_GO)
        deadline = time.monotonic() + _SENT_WITHIN_S
        while not (before := self._count(stack, _SENT)):
            stack.check_alive()
            if time.monotonic() > deadline:
                return 0.0
            time.sleep(_LOOK_EVERY_S)
        began = time.perf_counter()
        time.sleep(self._plan.seconds)
        sent = self._count(stack, _SENT) - before
        return sent / (time.perf_counter() - began)

    def _count(self, stack: Stack, query: str) -> int:
        row = stack.database.execute(query).fetchone()
        assert row is not None
        return int(row[0])
