"""Which failures a worker takes upon itself when its own network was gone, for all or a part of a check's time."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from common.domain.checks import GONE_CLASS, Phases, Reason, Verdict
from common.domain.health import Policy
from common.domain.monitors import MonitorConfig
from worker.canary import Canary
from worker.checks import CheckRunner
from worker.probes.base import failed
from worker.stall import LoopLag

CONFIG = MonitorConfig(1, "m", "org", 1, "http", "http://shop", "shop", 30, 10, Policy(failure_threshold=1), (1,))
OTHERS = {Reason.STATUS_MISMATCH, Reason.BODY_MISMATCH, Reason.CONNECT_REFUSED, Reason.TLS_CERTIFICATE_EXPIRED}


def verdict(reason: Reason, canary: object, *, suspects: bool = False) -> Verdict:
    """What becomes of a failure for this reason."""

    async def main() -> Verdict:
        lag = LoopLag(time.monotonic)
        suspicion = SimpleNamespace(note=lambda *_: None, suspects_us=lambda: suspects)
        parts = SimpleNamespace(lag=lag, suspicion=suspicion, canary=canary)
        runner = CheckRunner(parts, location=1, location_name="local")  # type: ignore[arg-type]
        found = await runner._doubt(CONFIG, failed(reason, "it failed", Phases()), lag.total_s(), time.monotonic())
        assert (found.verdict is Verdict.UNKNOWN) == (found.reason is Reason.WORKER_NETWORK)
        return found.verdict

    return asyncio.run(main())


class Answers:
    """A canary that answers, or not."""

    def __init__(self, *, alive: bool) -> None:
        self._alive = alive

    async def alive(self, _since: float) -> bool:
        return self._alive


@pytest.mark.parametrize("reason", sorted(GONE_CLASS))
def test_what_a_lost_network_brings_about_is_not_believed_while_the_canary_is_silent(reason: Reason) -> None:
    assert verdict(reason, Answers(alive=False)) is Verdict.UNKNOWN
    assert verdict(reason, Answers(alive=True)) is not Verdict.UNKNOWN


@pytest.mark.parametrize("reason", sorted(OTHERS))
def test_what_a_target_itself_says_is_believed_whatever_the_canary_does(reason: Reason) -> None:
    assert verdict(reason, Answers(alive=False), suspects=True) is Verdict.DOWN


def test_many_slow_targets_are_slow_and_not_our_network() -> None:
    assert verdict(Reason.TIMEOUT, Answers(alive=True), suspects=True) is Verdict.DOWN
    assert verdict(Reason.CONNECT_TIMEOUT, Answers(alive=True), suspects=True) is Verdict.UNKNOWN


def test_a_check_that_lost_a_part_of_its_time_to_our_network_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name was found when the network came back; for the answer there was no time left."""
    reached = False

    async def reach(_target: str, _names: object) -> bool:
        return reached

    monkeypatch.setattr("worker.canary._reach", reach)
    monkeypatch.setattr("worker.canary._SAME_MOMENT_S", 0.0)

    async def main() -> tuple[Verdict, Verdict]:
        nonlocal reached
        lag, canary = LoopLag(time.monotonic), Canary(("canary:1",))
        suspicion = SimpleNamespace(note=lambda *_: None, suspects_us=lambda: False)
        parts = SimpleNamespace(lag=lag, suspicion=suspicion, canary=canary)
        runner = CheckRunner(parts, location=1, location_name="local")  # type: ignore[arg-type]
        late = failed(Reason.TIMEOUT, "no answer within 10 s", Phases())
        assert not await canary.alive()
        began_s = time.monotonic()
        reached = True
        during = await runner._doubt(CONFIG, late, 0.0, began_s)
        after = await runner._doubt(CONFIG, late, 0.0, time.monotonic())
        return during.verdict, after.verdict

    assert asyncio.run(main()) == (Verdict.UNKNOWN, Verdict.DOWN)
