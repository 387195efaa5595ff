"""What every probe has in common: one verb, what it is given, and how a failure becomes an observation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import certifi

from common.domain.assertions import CompiledAssertions, compile_assertions, judge_response
from common.domain.checks import Observation, Phases, Reason, Verdict
from common.domain.egress import EgressRules
from common.domain.monitors import MonitorConfig
from common.domain.options import Options
from common.domain.sources import Seen
from common.http.engine import HttpEngine
from common.http.resolver import Resolver

#: Failures of our own: they say nothing about the target and must never page anybody.
_OURS = frozenset({Reason.INTERNAL, Reason.WORKER_NETWORK, Reason.WORKER_NOT_PERMITTED})

OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(slots=True)
class ProbeContext:
    """What a worker process lends to its probes, and what it remembers between checks of one configuration."""

    engine: HttpEngine
    resolver: Resolver
    rules: EgressRules
    ca_file: str = field(default_factory=certifi.where)
    max_compiled: int = 20_000
    _compiled: dict[int, tuple[int, CompiledAssertions]] = field(default_factory=dict)

    def compiled(self, config: MonitorConfig) -> CompiledAssertions:
        """The monitor's assertions, compiled once per config_version. Raises ValueError for a wrong one."""
        known = self._compiled.get(config.monitor_no)
        if known is not None and known[0] == config.config_version:
            return known[1]
        fresh = compile_assertions(config.assertions, config.type)
        self._compiled.pop(config.monitor_no, None)
        if len(self._compiled) >= self.max_compiled:
            # The dictionary is in the order of insertion: the oldest goes, and is compiled again if it is due.
            del self._compiled[next(iter(self._compiled))]
        self._compiled[config.monitor_no] = (config.config_version, fresh)
        return fresh


class Probe(Protocol):
    """Look at a monitor's target once, within `deadline_s` seconds in all.

    Never raises for a failing target: that is an observation. `trace_id` is 32 hexadecimal digits, for protocols that
    can carry it. Only cancellation passes.
    """

    async def __call__(
        self,
        config: MonitorConfig,
        deadline_s: float,
        ctx: ProbeContext,
        trace_id: str | None = None,
        /,
    ) -> Observation:
        """See above."""
        ...


def failed(reason: Reason, message: str, phases: Phases, *, code: int = 0, address: str = "") -> Observation:
    """An observation without a usable answer: down, or unknown when the fault is ours."""
    verdict = Verdict.UNKNOWN if reason in _OURS else Verdict.DOWN
    return Observation(verdict, reason, message, code, phases, None, address)


def judged(
    compiled: CompiledAssertions, seen: Seen, phases: Phases, *, code: int = 0, address: str = ""
) -> Observation:
    """An observation of a usable answer: what the assertions say of it."""
    found = judge_response(compiled, seen)
    return Observation(found.verdict, found.reason, found.message, code, phases, found.failed, address)


def invalid_assertions(error: ValueError, phases: Phases) -> Observation:
    """The API refuses such assertions; an older version of it may not have."""
    return failed(Reason.INTERNAL, f"the monitor's assertions are not valid: {error}", phases)


def options_of(config: MonitorConfig, kind: type[OptionsT]) -> OptionsT:
    """The monitor's options; the defaults of its type when it has none."""
    return config.options if isinstance(config.options, kind) else kind()
