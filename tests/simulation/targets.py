"""What probes would see: the truth about each target, as far as the worker's own network lets it through."""

from __future__ import annotations

from common.domain.checks import Observation, Phases, Reason, Verdict
from common.domain.monitors import MonitorConfig
from tests.simulation.engine import Simulator
from tests.simulation.plan import Span


class Targets:
    """Answers probes, and remembers which check saw what.

    `seen` has the spans that a check (by its trace id) met, `failed` a monitor's checks that met no good one, `began`
    when a check last did.
    """

    def __init__(self, sim: Simulator, truth: dict[int, list[Span]]) -> None:
        self.sim = sim
        self.truth = truth
        self.seen: dict[str, list[int]] = {}
        self.failed: dict[int, set[str]] = {}
        self.began: dict[str, float] = {}

    def span(self, monitor_no: int) -> int:
        """The index of the present span."""
        spans, now = self.truth[monitor_no], self.sim.now
        index = len(spans) - 1
        while spans[index].start > now:
            index -= 1
        return index

    def outage(self, monitor_no: int, index: int) -> int:
        """The first span of the outage that a span belongs to (not up all the while)."""
        spans = self.truth[monitor_no]
        while spans[index - 1].verdict is not Verdict.UP:
            index -= 1
        return index

    def answer(self, config: MonitorConfig, trace_id: str, *, connected: bool) -> tuple[float, Observation]:
        """How long a probe takes that starts now, and what it sees."""
        rng = self.sim.rng
        if not connected:
            # No route: it fails at once, and so does a canary that is asked at the same moment.
            return 0.0, _down(Reason.UNREACHABLE, config)
        index = self.span(config.monitor_no)
        self.seen.setdefault(trace_id, []).append(index)
        self.began[trace_id] = self.sim.now
        verdict = self.truth[config.monitor_no][index].verdict
        if verdict is Verdict.UP:
            # Never near the timeout: up to a quarter of it the product forgives itself by design (worker/stall.py).
            seconds = rng.random() * 0.2 if rng.random() < 0.8 else config.timeout_s * rng.random() * 0.7
            return seconds, Observation(Verdict.UP, phases=Phases(total_ms=seconds * 1000))
        self.failed.setdefault(config.monitor_no, set()).add(trace_id)
        if verdict is Verdict.DEGRADED:
            return 0.5, Observation(Verdict.DEGRADED, Reason.LATENCY_EXCEEDED, "slow", 200, address=config.target)
        if rng.random() < 0.4:
            return config.timeout_s, _down(Reason.TIMEOUT, config)
        return 0.05, _down(Reason.CONNECT_REFUSED, config)


def timed_out(config: MonitorConfig) -> Observation:
    """What a probe reports whose time ran out."""
    return _down(Reason.TIMEOUT, config)


def _down(reason: Reason, config: MonitorConfig) -> Observation:
    return Observation(Verdict.DOWN, reason, reason.label, address=config.target)
