"""The websocket probe: the handshake, then a text is sent and a message awaited that has what is expected."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.uri import WebSocketURI

from common.domain.checks import Observation, Reason
from common.domain.monitors import MonitorConfig
from common.domain.operators import shortened
from common.domain.options import WebsocketOptions
from common.http.dial import Endpoint, Trouble
from common.http.endpoints import parse_websocket
from common.http.headers import header_problem
from common.http.target import Target
from common.http.wiring import USER_AGENT
from worker.probes.base import ProbeContext, options_of, traceparent
from worker.probes.conversation import Plan, Session, converse
from worker.probes.patterns import MAX_BYTES, compiled

_MAX_MESSAGES = 1_000

_Events = AsyncGenerator[object, None]


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    trace_id: str | None = None,
    /,
) -> Observation:
    """Connect and shake hands; send and expect, when the monitor says so; `code` is the handshake's status."""
    options = options_of(config, WebsocketOptions)
    target = parse_websocket(config.target)
    if isinstance(target, str):
        return await converse(config, deadline_s, ctx, target, _silence)

    async def talk(session: Session) -> None:
        protocol = _protocol(target, options)
        protocol.send_request(_request(protocol, target, options, trace_id))
        # One reader for both: the first message may come in the same packet as the handshake.
        async with contextlib.aclosing(_events(session, protocol)) as events:
            await _shake_hands(session, protocol, options, events)
            if options.send is not None:
                protocol.send_text(options.send.encode("utf-8", "replace"))
                await _flush(session, protocol)
            if options.expect is not None or "message" in session.compiled.sources:
                session.values["message"] = await _await_message(session, protocol, options.expect, events)
        protocol.send_close(1000)
        await _flush(session, protocol)

    plan = Plan(Endpoint(target.host, target.port), options, secure_at_once=target.scheme == "https")
    return await converse(config, deadline_s, ctx, plan, talk)


async def _silence(_session: Session) -> None:
    """Nothing to say where there is nobody."""


def _protocol(target: Target, options: WebsocketOptions) -> ClientProtocol:
    path, _, query = target.path.partition("?")
    uri = WebSocketURI(target.scheme == "https", target.host.name, target.port, path, query)
    subprotocols = [options.subprotocol] if options.subprotocol else None
    # Neither extensions nor compression: a message is no larger than what came over the wire.
    return ClientProtocol(uri, max_size=MAX_BYTES, subprotocols=subprotocols)  # type: ignore[arg-type]


async def _shake_hands(session: Session, protocol: ClientProtocol, options: WebsocketOptions, events: _Events) -> None:
    where = session.wire.where
    async for event in events:
        if isinstance(event, Response):
            session.code = event.status_code
            break
    error = protocol.handshake_exc
    if isinstance(error, InvalidStatus):
        raise Trouble(Reason.STATUS_MISMATCH, f"expected status 101 of {where}, got {session.code}")
    if error is not None:
        raise Trouble(Reason.PROTOCOL_ERROR, f"the answer of {where} is no WebSocket handshake")
    if options.subprotocol and protocol.subprotocol != options.subprotocol:
        raise Trouble(Reason.ANSWER_MISMATCH, f"{where} did not choose the subprotocol {options.subprotocol}")


def _request(protocol: ClientProtocol, target: Target, options: WebsocketOptions, trace_id: str | None) -> Request:
    request = protocol.connect()
    request.headers["User-Agent"] = USER_AGENT
    if target.authorization:
        request.headers["Authorization"] = target.authorization
    if trace_id and options.trace:
        request.headers["traceparent"] = traceparent(trace_id, options.headers)
    for name, value in options.headers:
        trouble = header_problem(name, value)
        if trouble is not None:
            raise Trouble(Reason.INVALID_TARGET, trouble)
        if name in request.headers:
            del request.headers[name]
        request.headers[name] = value
    return request


async def _await_message(session: Session, protocol: ClientProtocol, expect: str | None, events: _Events) -> str:
    """The first message that has what is expected; without an expectation the first of all."""
    where, whole, messages = session.wire.where, b"", 0
    what = f"message matching {shortened(expect)!r}" if expect else "message"
    session.wire.waiting = f"no {what} from {where}"
    async for event in events:
        if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            continue
        whole += bytes(event.data)
        if not event.fin:
            continue
        if expect is None or compiled(expect).search(whole) is not None:
            return whole.decode("utf-8", "replace")
        whole, messages = b"", messages + 1
        if messages >= _MAX_MESSAGES:
            raise Trouble(Reason.ANSWER_MISMATCH, f"no {what} among the first {_MAX_MESSAGES} of {where}")
    if protocol.parser_exc is not None and not isinstance(protocol.parser_exc, EOFError):
        raise Trouble(
            Reason.PROTOCOL_ERROR, f"what {where} sent is no WebSocket message within {MAX_BYTES // 1024} KiB"
        )
    raise Trouble(Reason.ANSWER_MISMATCH, f"expected a {what}, {where} closed the connection before")


async def _events(session: Session, protocol: ClientProtocol) -> _Events:
    """What the server says, until it has no more to say or says what it must not."""
    while True:
        await _flush(session, protocol)
        chunk = await session.wire.receive()
        if chunk:
            protocol.receive_data(chunk)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            yield event
        if not chunk or protocol.handshake_exc is not None or protocol.parser_exc is not None:
            if not chunk and not session.code:
                raise session.wire.ended()
            return


async def _flush(session: Session, protocol: ClientProtocol) -> None:
    for data in protocol.data_to_send():
        if data:
            await session.wire.send(data)
