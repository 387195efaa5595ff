"""The icmp probe: echo requests one after the other; up while any is answered, with mean round trip and loss."""

from __future__ import annotations

import time
from collections.abc import Mapping

from common.domain.checks import Facts, Observation, Phases, Reason
from common.domain.monitors import MonitorConfig
from common.domain.options import IcmpOptions
from common.domain.sources import Seen
from common.http.dial import Trouble, Way, permitted
from common.http.oserrors import OS_ERRORS
from common.http.target import Host, parse_host
from worker.probes.base import ProbeContext, failed, invalid_assertions, judged, notes_facts, options_of
from worker.probes.icmp_echo import ask_all, note_hops, open_to


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Resolve, judge, ask; `ttfb_ms` is the mean round trip."""
    started, phases = time.perf_counter(), Phases()
    timeout_s = min(config.timeout_s, deadline_s)
    way = Way(ctx.resolver, ctx.rules, started + timeout_s, timeout_s)
    try:
        compiled = ctx.compiled(config)
    except ValueError as error:
        return invalid_assertions(error, phases)
    try:
        values, address, facts = await _observe(config, way, phases)
    except Trouble as trouble:
        phases.total_ms = (time.perf_counter() - started) * 1000
        return failed(trouble.reason, trouble.message, phases, address=trouble.address)
    phases.total_ms = (time.perf_counter() - started) * 1000
    phases.ttfb_ms = values["rtt_ms"]
    seen = Seen(latency_ms=phases.total_ms, phases=phases, values=values)
    observation = judged(compiled, seen, phases, address=address)
    observation.facts = facts
    return observation


async def _observe(config: MonitorConfig, way: Way, phases: Phases) -> tuple[Mapping[str, float], str, Facts | None]:
    options = options_of(config, IcmpOptions)
    host = parse_host(config.target.removeprefix("icmp://"))
    if isinstance(host, str):
        raise Trouble(Reason.INVALID_TARGET, host)
    address = (await permitted(host, way, phases))[0]
    begun = time.perf_counter()
    with open_to(address) as sock:
        hops = note_hops(sock) if notes_facts(config) else None
        setup_ms = (time.perf_counter() - begun) * 1000
        trips, error = await ask_all(sock, address, options, way, hops)
    if not trips:
        raise _silent(host, address, error, options.count, way)
    values = {
        "rtt_ms": sum(trips) / len(trips),
        "packet_loss": 100.0 * (options.count - len(trips)) / options.count,
    }
    if hops is None:
        return values, address, None
    return values, address, {"setup_ms": setup_ms, **({"hop_limit": hops[-1]} if hops else {})}


def _silent(host: Host, address: str, error: OSError | None, count: int, way: Way) -> Trouble:
    where = address if host.address else f"{host.name} ({address})"
    known = OS_ERRORS.get(error.errno or 0) if error is not None else None
    if known is not None:
        return Trouble(known[0], f"{known[1]} {where}", address=address)
    return Trouble(
        Reason.NO_REPLY,
        f"none of {count} echo requests to {where} answered within {way.timeout_s:.3g} s",
        address=address,
    )
