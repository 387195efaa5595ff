"""The postgres probe: log in, run one query, judge its first value.

The part of the protocol that this needs stands here in place of libpq, because of what a target may do and what libpq
would: replies are bounded, and neither the worker's environment nor its password file ever reaches a user's server.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace

from common.domain.checks import Observation, Reason
from common.domain.jsonpath import ABSENT
from common.domain.monitors import MonitorConfig
from common.domain.operators import shortened
from common.domain.options import PostgresOptions
from common.http.dial import Trouble
from common.http.wire import MAX_WIRE_BYTES
from worker.probes.base import ProbeContext, options_of
from worker.probes.conversation import Session, converse, plan_to
from worker.probes.scram import Scram
from worker.probes.starttls import POSTGRES_REQUEST

_VERSION = 196_608
_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Connect, secure, log in, query; without a query the login is all."""
    options = options_of(config, PostgresOptions)

    async def talk(session: Session) -> None:
        await _secure(session, options)
        await _log_in(session, options)
        if options.query:
            await _query(session, options.query)
        await _send(session, b"X", b"")

    # Where TLS is only preferred, nobody can tell a forged certificate from none: it protects from listeners alone.
    trust = options if options.tls == "require" else replace(options, verify_tls=False)
    return await converse(config, deadline_s, ctx, plan_to("postgres", config.target, trust), talk)


@dataclass(frozen=True, slots=True)
class _Message:
    """One message of the server."""

    kind: bytes
    body: bytes


async def _secure(session: Session, options: PostgresOptions) -> None:
    if options.tls == "disable":
        return
    wire = session.wire
    await wire.send(POSTGRES_REQUEST)
    consent = await wire.read_exactly(1)
    if consent == b"S":
        await session.secure()
    elif consent != b"N":
        raise _foreign(session)
    elif options.tls == "require":
        raise Trouble(Reason.TLS_NOT_OFFERED, f"{wire.where} does not offer TLS")


async def _log_in(session: Session, options: PostgresOptions) -> None:
    pairs = ("user", options.username, "database", options.database, "application_name", "tocsin")
    body = struct.pack("!I", _VERSION) + b"".join(_text(part) for part in pairs) + b"\0"
    await session.wire.send(struct.pack("!I", len(body) + 4) + body)
    scram: Scram | None = None
    proved = True
    while (message := await _receive(session)).kind != b"Z":
        if message.kind != b"R":
            continue
        (step,) = struct.unpack_from("!I", message.body) if len(message.body) >= 4 else (-1,)
        if step == _SASL and b"SCRAM-SHA-256\0" in message.body:
            scram, proved = Scram(_password(session, options)), False
            first = scram.first()
            await _send(session, b"p", _text("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first)
        elif step == _SASL_CONTINUE and scram is not None:
            await _send(session, b"p", await _proof(session, scram, message.body[4:]))
        elif step == _SASL_FINAL and scram is not None:
            proved = scram.is_server(message.body[4:])
        elif step in (_CLEARTEXT, _MD5):
            await _send(session, b"p", _text(_simple(session, options, message.body)))
        elif step != _OK:
            raise Trouble(Reason.AUTH_FAILED, f"{session.wire.where} asks for a login that Tocsin does not speak")
        if step == _OK and not proved:
            raise Trouble(Reason.AUTH_FAILED, f"{session.wire.where} did not prove that it knows the password")


async def _proof(session: Session, scram: Scram, challenge: bytes) -> bytes:
    try:
        return await scram.final(challenge)
    except ValueError:
        raise _foreign(session) from None


def _simple(session: Session, options: PostgresOptions, body: bytes) -> str:
    """The older two ways to log in."""
    password = _password(session, options)
    if len(body) < 8:
        if session.wire.tls is None:
            raise Trouble(Reason.AUTH_FAILED, f"{session.wire.where} asks for the password in clear text without TLS")
        return password
    inner = hashlib.md5((password + options.username).encode(), usedforsecurity=False).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + body[4:8], usedforsecurity=False).hexdigest()


def _password(session: Session, options: PostgresOptions) -> str:
    if options.password is None:
        raise Trouble(Reason.AUTH_FAILED, f"{session.wire.where} asks for a password, and the monitor has none")
    return options.password


async def _query(session: Session, query: str) -> None:
    await _send(session, b"Q", _text(query))
    rows, first = 0, None
    while (message := await _receive(session)).kind != b"Z":
        if message.kind == b"D":
            first = _first_value(session, message.body) if rows == 0 else first
            rows += 1
        elif message.kind in (b"G", b"H", b"W"):
            raise Trouble(Reason.QUERY_FAILED, "the query copies data, which a monitor cannot do")
    # Without a row there is no value, which is not the same as NULL.
    session.values |= {"value": first if rows else ABSENT, "rows": rows}


def _first_value(session: Session, row: bytes) -> str | object | None:
    """The first column of a row; without columns there is nothing, as with NULL."""
    count, size = struct.unpack_from("!Hi", row) if len(row) >= 6 else (0, -1)
    if not count:
        return None
    if size > len(row) - 6:
        raise _foreign(session)
    return None if size < 0 else row[6 : 6 + size].decode("utf-8", "replace")


async def _receive(session: Session) -> _Message:
    """The next message. Raises Trouble for an error that the server tells."""
    wire = session.wire
    kind = await wire.read_exactly(1)
    (size,) = struct.unpack("!I", await wire.read_exactly(4))
    if not kind.isalnum() or size < 4 or size > 1 << 30:
        raise _foreign(session)
    if size > MAX_WIRE_BYTES:
        raise wire.too_large()
    message = _Message(kind, await wire.read_exactly(size - 4))
    if kind == b"E":
        raise _refusal(session, message.body)
    return message


def _refusal(session: Session, body: bytes) -> Trouble:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    code, text = fields.get(b"C", ""), fields.get(b"M", "no reason given")
    reason = Reason.AUTH_FAILED if code.startswith("28") else Reason.QUERY_FAILED
    return Trouble(reason, f"{session.wire.where} answered {shortened(f'{text} ({code})')!r}")


def _foreign(session: Session) -> Trouble:
    return Trouble(Reason.PROTOCOL_ERROR, f"what {session.wire.where} says is not the protocol of PostgreSQL")


async def _send(session: Session, kind: bytes, body: bytes) -> None:
    await session.wire.send(kind + struct.pack("!I", len(body) + 4) + body)


def _text(value: str) -> bytes:
    return value.encode("utf-8", "replace").replace(b"\0", b"") + b"\0"
