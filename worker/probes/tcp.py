"""The tcp probe: up when a connection to host:port is accepted in time, and the server says what is expected of it."""

from __future__ import annotations

from common.domain.checks import Observation
from common.domain.monitors import MonitorConfig
from common.domain.options import TcpOptions
from worker.probes.base import ProbeContext, options_of
from worker.probes.conversation import Session, converse, plan_to
from worker.probes.patterns import read_until
from worker.probes.starttls import AGREEMENTS


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Connect, secure, send, expect, close. `tcp://host:port` and `host:port` mean the same."""
    options = options_of(config, TcpOptions)

    async def talk(session: Session) -> None:
        wire = session.wire
        if options.starttls:
            await AGREEMENTS[options.starttls](wire)
            await session.secure()
        if options.send:
            await wire.send(options.send.encode("utf-8", "replace"))
        said = b""
        if options.expect:
            said = await read_until(wire, options.expect)
        elif "banner" in session.compiled.sources:
            said = await wire.receive()
        session.values["banner"] = said.decode("utf-8", "replace")

    plan = plan_to("tcp", config.target, options, secure_at_once=options.tls, server_name=options.server_name)
    return await converse(config, deadline_s, ctx, plan, talk)
