"""Ask one name server at a judged address: over UDP with repeats, over TCP when the answer is too long for that."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import dns.exception
import dns.flags
import dns.message

from common.domain.checks import Phases, Reason
from common.http.dial import Trouble, Way, connect
from common.http.wire import Wire

_TRIES = 3
_MAX_STRAY = 50
_MAX_DATAGRAM = 65_535


async def ask(query: dns.message.Message, address: tuple[str, int], way: Way, *, tcp: bool) -> dns.message.Message:
    """The answer. Raises TimeoutError, OSError, or Trouble for what is no answer."""
    if not tcp:
        answer = await _by_udp(query, address, way)
        if not answer.flags & dns.flags.TC:
            return answer
    async with asyncio.timeout(max(0.0, way.deadline - time.perf_counter())):
        answer = _read(await _by_tcp(query.to_wire(), address, way))
    if not query.is_response(answer):
        raise _no_answer()
    return answer


async def _by_udp(query: dns.message.Message, address: tuple[str, int], way: Way) -> dns.message.Message:
    asked = query.to_wire()
    pause_s = max(0.1, (way.deadline - time.perf_counter()) / _TRIES)
    stray = 0
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # Connected: the kernel passes on what comes from this server alone, and tells when nobody listens there.
        sock.connect(address)
        while (left_s := way.deadline - time.perf_counter()) > 0:
            sock.send(asked)
            until = time.perf_counter() + min(pause_s, left_s)
            while (raw := await _receive(sock, until)) is not None:
                answer = _answer(query, raw)
                if answer is not None:
                    return answer
                stray += 1
                if stray > _MAX_STRAY:
                    raise _no_answer()
    if stray:
        raise _no_answer()
    raise TimeoutError


async def _receive(sock: socket.socket, until: float) -> bytes | None:
    """The next datagram, None when there is none in time."""
    try:
        async with asyncio.timeout(max(0.0, until - time.perf_counter())):
            return await asyncio.get_running_loop().sock_recv(sock, _MAX_DATAGRAM)
    except TimeoutError:
        return None


def _answer(query: dns.message.Message, raw: bytes) -> dns.message.Message | None:
    """The answer in a datagram; None when it belongs to another question, or to none."""
    if raw[:2] != struct.pack("!H", query.id):
        return None
    answer = _read(raw)
    return answer if query.is_response(answer) else None


async def _by_tcp(asked: bytes, address: tuple[str, int], way: Way) -> bytes:
    wire = Wire(await connect(*address, way.deadline - time.perf_counter()), "the name server", Phases())
    try:
        await wire.send(struct.pack("!H", len(asked)) + asked)
        (size,) = struct.unpack("!H", await wire.read_exactly(2))
        return await wire.read_exactly(size)
    finally:
        wire.close()


def _read(raw: bytes) -> dns.message.Message:
    try:
        # A header that says "truncated" may end anywhere; the answer is asked for again over TCP then.
        return dns.message.from_wire(raw, ignore_trailing=True)
    except dns.exception.DNSException:
        raise _no_answer() from None


def _no_answer() -> Trouble:
    return Trouble(Reason.PROTOCOL_ERROR, "what the name server sent is no answer to the question")
