"""A leader of the version before dispatches heartbeats like any check: nobody probes them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from common.domain.checks import Check, Kind
from common.domain.health import Policy
from common.domain.monitors import MonitorConfig
from worker.checks import CheckRunner

AT_MS = 1_800_000_000_000


def config(number: int, type_: str) -> MonitorConfig:
    return MonitorConfig(
        number, f"monitor-{number}", "org", 1, type_, "http://shop", "shop", 30, 10, Policy(failure_threshold=1), (1,)
    )


def test_a_heartbeat_that_was_dispatched_is_not_due() -> None:
    known = {1: config(1, "http"), 2: config(2, "heartbeat")}
    parts = SimpleNamespace(
        configs=SimpleNamespace(get=lambda check: known[check.monitor_no]),
        clock=SimpleNamespace(now_ms=lambda: AT_MS + 100),
    )
    runner = CheckRunner(parts, location=1, location_name="local")  # type: ignore[arg-type]
    due = asyncio.run(runner._due([Check(number, 1, AT_MS, Kind.SCHEDULED) for number in known]))
    assert [config.monitor_no for _, config in due] == [1]
