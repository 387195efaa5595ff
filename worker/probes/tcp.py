"""The tcp probe: the target is up when a connection to host:port is accepted in time."""

from __future__ import annotations

import asyncio
import socket
import time

from common.domain.assertions import judge_response
from common.domain.checks import Observation, Phases, Reason
from common.domain.egress import judge
from common.domain.monitors import MonitorConfig
from common.domain.sources import Seen
from common.http.oserrors import OS_ERRORS
from common.http.target import Host, parse_authority
from worker.probes.base import ProbeContext, failed

#: As the HTTP engine does: another address is tried when one refuses, not when one is silent.
_MAX_ADDRESSES = 3


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Resolve, judge, connect, close. `tcp://host:port` and `host:port` mean the same."""
    started = time.perf_counter()
    phases = Phases()
    endpoint = parse_authority(config.target.removeprefix("tcp://").removesuffix("/"))
    if isinstance(endpoint, str):
        observation = failed(Reason.INVALID_TARGET, endpoint, phases)
    else:
        deadline = started + min(config.timeout_s, deadline_s)
        observation = await _probe_endpoint(endpoint, config, ctx, phases, deadline)
    phases.total_ms = (time.perf_counter() - started) * 1000
    return observation


async def _probe_endpoint(
    endpoint: tuple[Host, int],
    config: MonitorConfig,
    ctx: ProbeContext,
    phases: Phases,
    deadline: float,
) -> Observation:
    host, port = endpoint
    asked = time.perf_counter()
    resolution = await ctx.resolver.resolve(host.name, deadline - asked)
    if not host.address:
        phases.dns_ms = (time.perf_counter() - asked) * 1000
    if resolution.reason:
        return failed(resolution.reason, resolution.message, phases)
    addresses = [address for address in resolution.addresses if judge(address, ctx.rules) is None][:_MAX_ADDRESSES]
    if not addresses:
        return failed(Reason.EGRESS_DENIED, f"the egress policy does not allow {host.name}", phases)
    error: OSError | None = None
    for address in addresses:
        begun = time.perf_counter()
        error = await _connect(address, port, deadline - begun)
        if error is None:
            phases.connect_ms = (time.perf_counter() - begun) * 1000
            return _judge(config, ctx, phases, address)
        if isinstance(error, TimeoutError):
            break
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    where = place if host.address else f"{host.name} ({place})"
    reason, message = _explain(error or OSError(), where, min(config.timeout_s, deadline - asked))
    return failed(reason, message, phases, address=address)


async def _connect(address: str, port: int, timeout_s: float) -> OSError | None:
    """Open and close one connection. TimeoutError is an OSError, so this says all that can happen."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            async with asyncio.timeout(max(timeout_s, 0.0)):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except OSError as error:
        return error
    return None


def _judge(config: MonitorConfig, ctx: ProbeContext, phases: Phases, address: str) -> Observation:
    try:
        compiled = ctx.compiled(config)
    except ValueError as error:
        return failed(Reason.INTERNAL, f"the monitor's assertions are not valid: {error}", phases, address=address)
    judged = judge_response(compiled, Seen(latency_ms=max(phases.dns_ms, 0.0) + phases.connect_ms))
    return Observation(judged.verdict, judged.reason, judged.message, 0, phases, judged.failed, address)


def _explain(error: OSError, where: str, timeout_s: float) -> tuple[Reason, str]:
    # Our own deadline has no errno; the kernel's ETIMEDOUT is in the table.
    if error.errno is None and isinstance(error, TimeoutError):
        return Reason.CONNECT_TIMEOUT, f"no connection to {where} within {timeout_s:.3g} s"
    reason, words = OS_ERRORS.get(error.errno or 0, (Reason.UNREACHABLE, "could not connect to"))
    return reason, f"{words} {where}"
