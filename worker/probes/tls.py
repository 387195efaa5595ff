"""The tls probe: a handshake alone, for the chain, the host name, the version and the days that are left."""

from __future__ import annotations

from common.domain.checks import Observation
from common.domain.monitors import MonitorConfig
from common.domain.options import TlsOptions
from worker.probes.base import ProbeContext, options_of
from worker.probes.conversation import Session, converse, plan_to
from worker.probes.starttls import AGREEMENTS


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Connect, shake hands, close: nothing of a protocol inside."""
    options = options_of(config, TlsOptions)

    async def talk(session: Session) -> None:
        if options.starttls:
            await AGREEMENTS[options.starttls](session.wire)
            await session.secure()

    plan = plan_to(
        "tls",
        config.target,
        options,
        secure_at_once=options.starttls is None,
        server_name=options.server_name,
        min_version=options.min_version,
    )
    return await converse(config, deadline_s, ctx, plan, talk)
