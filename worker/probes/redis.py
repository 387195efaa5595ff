"""The redis probe: log in, run one command, judge its reply. Redis, Valkey and whatever speaks RESP2.

The few lines of RESP here stand in place of a client library, because of what a target may do: a reply is bounded
in bytes and depth, and the connection goes to the address that the egress policy judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.domain.checks import Observation, Reason
from common.domain.monitors import MonitorConfig
from common.domain.operators import shortened
from common.domain.options import RedisOptions
from common.http.dial import Trouble
from common.http.wire import Wire
from worker.probes.base import ProbeContext, options_of
from worker.probes.conversation import Session, converse, plan_to

_MAX_ITEMS = 1_000
_MAX_DEPTH = 5
_AUTH_ERRORS = ("NOAUTH", "WRONGPASS", "NOPERM")


class _Refusal(str):
    """An error reply."""

    __slots__ = ()


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Connect, AUTH, SELECT, the command; `value` is its reply, of a list the first item."""
    options = options_of(config, RedisOptions)

    async def talk(session: Session) -> None:
        wire = session.wire
        if options.password is not None:
            names = [options.username] if options.username else []
            reply = await _run(wire, ["AUTH", *names, options.password])
            if isinstance(reply, _Refusal):
                # Not its words: some servers repeat what they were sent.
                raise Trouble(Reason.AUTH_FAILED, f"{wire.where} refused the login")
        if options.database:
            _check(wire, await _run(wire, ["SELECT", str(options.database)]))
        reply = await _run(wire, options.command)
        _check(wire, reply)
        session.values["value"] = reply[0] if isinstance(reply, list) and reply else reply

    plan = plan_to("redis", config.target, options, secure_at_once=options.tls)
    return await converse(config, deadline_s, ctx, plan, talk)


def _check(wire: Wire, reply: Any) -> None:
    if isinstance(reply, _Refusal):
        reason = Reason.AUTH_FAILED if reply.startswith(_AUTH_ERRORS) else Reason.QUERY_FAILED
        raise Trouble(reason, f"{wire.where} answered {shortened(reply)!r}")


async def _run(wire: Wire, command: Sequence[str]) -> Any:
    parts = [part.encode("utf-8", "replace") for part in command]
    framed = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    await wire.send(b"*%d\r\n%s" % (len(parts), framed))
    return await _reply(wire, _MAX_DEPTH)


async def _reply(wire: Wire, depth: int) -> Any:
    """One reply: text, integer, None, or a list of them."""
    line = await wire.read_line()
    mark, rest = line[:1], line[1:]
    if mark in (b"+", b"-"):
        text = rest.decode("utf-8", "replace")
        return text if mark == b"+" else _Refusal(text)
    if mark not in (b":", b"$", b"*") or not rest.removeprefix(b"-").isdigit() or len(rest) > 20:
        raise Trouble(Reason.PROTOCOL_ERROR, f"what {wire.where} says is not the protocol of Redis")
    number = int(rest)
    if mark == b":":
        return number
    if number < 0:
        return None
    if mark == b"$":
        return (await wire.read_exactly(number + 2))[:-2].decode("utf-8", "replace")
    if number > _MAX_ITEMS or depth == 0:
        raise wire.too_large()
    return [await _reply(wire, depth - 1) for _ in range(number)]
