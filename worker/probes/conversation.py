"""What all probes over a connection of our own share: get there, secure it, let the protocol talk, say what came of it.

A protocol is a coroutine over a Session: it notes values for the assertions and raises Trouble. Everything else, from
the look-up to the deadline and the end of the socket, happens here, once.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from common.domain.assertions import CompiledAssertions
from common.domain.checks import Observation, Phases, Reason
from common.domain.monitors import MonitorConfig
from common.domain.options import Trust
from common.domain.sources import Seen
from common.http.certificates import certificate_values, expires_s
from common.http.dial import Endpoint, Trouble, Way, dial
from common.http.endpoints import parse_endpoint
from common.http.oserrors import OS_ERRORS
from common.http.tls_facts import facts_of
from common.http.tlserrors import explain_tls
from common.http.trust import context_for
from common.http.wire import Wire
from worker.probes.base import ProbeContext, failed, invalid_assertions, judged, notes_facts


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to go and how to be sure of who is there. `secure_at_once`: TLS before the first byte of the protocol."""

    endpoint: Endpoint
    trust: Trust = field(default_factory=Trust)
    secure_at_once: bool = False
    server_name: str | None = None
    min_version: str = "1.2"

    @property
    def name(self) -> str:
        """What the certificate must be for."""
        return self.server_name or self.endpoint.host.name


@dataclass(slots=True)
class Session:
    """A conversation under way: its wire, what it learned by the names of sources, the protocol's own status."""

    wire: Wire
    plan: Plan
    ca_file: str
    compiled: CompiledAssertions
    values: dict[str, Any] = field(default_factory=dict)
    code: int = 0

    async def secure(self) -> None:
        """Begin TLS now."""
        try:
            context = context_for(self.plan.trust, self.ca_file, self.plan.min_version)
        except (ssl.SSLError, ValueError):
            raise Trouble(Reason.INTERNAL, "the monitor's certificates cannot be used") from None
        await self.wire.start_tls(context, self.plan.name)


Talk = Callable[[Session], Awaitable[None]]


async def converse(
    config: MonitorConfig, deadline_s: float, ctx: ProbeContext, plan: Plan | str, talk: Talk
) -> Observation:
    """Carry out one conversation; a text in place of the plan says what is wrong with the target."""
    started = time.perf_counter()
    timeout_s = min(config.timeout_s, deadline_s)
    phases = Phases()
    way = Way(ctx.resolver, ctx.rules, started + timeout_s, timeout_s)
    try:
        compiled = ctx.compiled(config)
    except ValueError as error:
        return invalid_assertions(error, phases)
    if isinstance(plan, str):
        observation = failed(Reason.INVALID_TARGET, plan, phases)
    else:
        facts: dict[str, float | str] | None = {} if notes_facts(config) else None
        visit = _Visit(way, ctx.ca_file, phases, compiled, lambda: ctx.wants_certificate(config), facts)
        observation = await _go(visit, plan, talk)
        observation.facts = facts
    if phases.total_ms < 0:
        phases.total_ms = (time.perf_counter() - started) * 1000
    return observation


@dataclass(frozen=True, slots=True)
class _Visit:
    """What one visit is made with, what it is judged by, and where all that can be seen is noted, if it is."""

    way: Way
    ca_file: str
    phases: Phases
    compiled: CompiledAssertions
    looks: Callable[[], bool]
    facts: dict[str, float | str] | None


async def _go(visit: _Visit, plan: Plan, talk: Talk) -> Observation:
    way, phases = visit.way, visit.phases
    try:
        sock, address = await dial(plan.endpoint, way, phases)
    except Trouble as trouble:
        return failed(trouble.reason, trouble.message, phases, address=trouble.address)
    wire = Wire(sock, plan.endpoint.at(address), phases)
    session = Session(wire, plan, visit.ca_file, visit.compiled)
    try:
        async with asyncio.timeout(max(0.0, way.deadline - time.perf_counter())):
            if plan.secure_at_once:
                await session.secure()
            await talk(session)
        _note_certificate(session, visit.looks)
    except (Trouble, OSError) as error:
        reason, message = _explain(error, wire, way.timeout_s)
        return failed(reason, message, phases, code=session.code, address=address)
    finally:
        wire.close()
        if visit.facts is not None and wire.tls is not None:
            visit.facts.update(facts_of(wire.tls))
    phases.total_ms = (time.perf_counter() - way.deadline + way.timeout_s) * 1000
    seen = Seen(latency_ms=phases.total_ms, phases=phases, values=session.values)
    observation = judged(visit.compiled, seen, phases, code=session.code, address=address)
    if "chain_days" in session.values:
        observation.expires_s = expires_s(session.values["chain_days"])
    return observation


def _note_certificate(session: Session, looks: Callable[[], bool]) -> None:
    tls = session.wire.tls
    if tls is not None:
        session.values["tls_version"] = tls.version()
        if session.compiled.needs_certificate or looks():
            session.values |= certificate_values(tls)


def _explain(error: Trouble | OSError, wire: Wire, timeout_s: float) -> tuple[Reason, str]:
    if isinstance(error, Trouble):
        return error.reason, error.message
    if isinstance(error, ssl.SSLError):
        return explain_tls(error, wire.where)
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT, f"{wire.waiting} within {timeout_s:.3g} s"
    reason, words = OS_ERRORS.get(error.errno or 0, (Reason.CONNECTION_RESET, "connection broken by"))
    return reason, f"{words} {wire.where}"


def plan_to(type_: str, target: str, trust: Trust, **more: Any) -> Plan | str:
    """The plan for a target of `host:port`; a text says what is wrong with it."""
    endpoint = parse_endpoint(type_, target)
    return endpoint if isinstance(endpoint, str) else Plan(endpoint, trust, **more)
