"""What every probe has in common: one verb, what it is given, and how a failure becomes an observation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import certifi

from common.domain.assertions import CompiledAssertions, compile_assertions, judge_response
from common.domain.checks import Observation, Phases, Reason, Verdict
from common.domain.egress import EgressRules
from common.domain.monitors import Assertion, MonitorConfig
from common.domain.options import Options
from common.domain.sources import Seen
from common.http.engine import HttpEngine
from common.http.resolver import Resolver

#: Failures of our own: they say nothing about the target and must never page anybody.
_OURS = frozenset({Reason.INTERNAL, Reason.WORKER_NETWORK, Reason.WORKER_NOT_PERMITTED})

#: No monitor's number: of what is probed because somebody asked, and waits.
NOBODY = -1

OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(slots=True)
class ProbeContext:
    """What a worker process lends to its probes, and what it remembers between checks of one configuration."""

    engine: HttpEngine
    resolver: Resolver
    rules: EgressRules
    ca_file: str = field(default_factory=certifi.where)
    max_compiled: int = 20_000
    #: Whether this check should look at the target's certificate, though no assertion asks for it.
    wants_certificate: Callable[[MonitorConfig], bool] = field(default=lambda _config: False)
    _compiled: dict[tuple[int, str], tuple[Sequence[Assertion], CompiledAssertions]] = field(default_factory=dict)

    def compiled(self, config: MonitorConfig) -> CompiledAssertions:
        """The monitor's assertions, compiled once for all that share them. Raises ValueError for a wrong one."""
        # Configurations with equal assertions have the same object of them: thousands of monitors, one entry. It is
        # kept with what is made of it, so that no other object can get its id.
        key = (id(config.assertions), config.type)
        known = self._compiled.get(key)
        if known is not None:
            return known[1]
        fresh = compile_assertions(config.assertions, config.type)
        if len(self._compiled) >= self.max_compiled:
            # The dictionary is in the order of insertion: the oldest goes, and is compiled again if it is due.
            del self._compiled[next(iter(self._compiled))]
        self._compiled[key] = (config.assertions, fresh)
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


def traceparent(trace_id: str, headers: Sequence[tuple[str, str]] = ()) -> str:
    """W3C's header for a check; empty where the monitor's own headers have one, which wins.

    The span's id is a part of the trace's: both are derived from the check, nothing is random.
    """
    if headers and any(name.lower() == "traceparent" for name, _ in headers):
        return ""
    return f"00-{trace_id}-{trace_id[16:]}-01"


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


def notes_facts(config: MonitorConfig) -> bool:
    """Whether all that can be seen is noted, and not only what a monitor's result holds."""
    return config.monitor_no == NOBODY


def options_of(config: MonitorConfig, kind: type[OptionsT]) -> OptionsT:
    """The monitor's options; the defaults of its type when it has none."""
    return config.options if isinstance(config.options, kind) else kind()
