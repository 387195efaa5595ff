"""The icmp probe: echo requests one after the other; up while any is answered, with mean round trip and loss."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from dataclasses import dataclass

from common.domain.checks import Observation, Phases, Reason
from common.domain.monitors import MonitorConfig
from common.domain.options import IcmpOptions
from common.domain.sources import Seen
from common.http.dial import Trouble, Way, permitted
from common.http.oserrors import OS_ERRORS
from common.http.target import Host, parse_host
from worker.probes.base import ProbeContext, failed, invalid_assertions, judged, options_of

_TOKEN_BYTES = 12
#: Packets of others that one reply is looked for among, on a raw socket.
_MAX_STRAY = 1_000


@dataclass(frozen=True, slots=True)
class _Family:
    """What differs between ICMP and ICMPv6."""

    family: int
    protocol: int
    request: int
    reply: int


_V4 = _Family(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0)
_V6 = _Family(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)


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
        values, address = await _observe(config, way, phases)
    except Trouble as trouble:
        phases.total_ms = (time.perf_counter() - started) * 1000
        return failed(trouble.reason, trouble.message, phases, address=trouble.address)
    phases.total_ms = (time.perf_counter() - started) * 1000
    phases.ttfb_ms = values["rtt_ms"]
    seen = Seen(latency_ms=phases.total_ms, phases=phases, values=values)
    return judged(compiled, seen, phases, address=address)


async def _observe(config: MonitorConfig, way: Way, phases: Phases) -> tuple[dict[str, float], str]:
    options = options_of(config, IcmpOptions)
    host = parse_host(config.target.removeprefix("icmp://"))
    if isinstance(host, str):
        raise Trouble(Reason.INVALID_TARGET, host)
    address = (await permitted(host, way, phases))[0]
    with _open(_V6 if ":" in address else _V4) as sock:
        trips, error = await _ask_all(sock, address, options, way)
    if not trips:
        raise _silent(host, address, error, options.count, way)
    return {
        "rtt_ms": sum(trips) / len(trips),
        "packet_loss": 100.0 * (options.count - len(trips)) / options.count,
    }, address


def _open(kind: _Family) -> socket.socket:
    """The unprivileged kind of socket where the kernel grants it, the raw one where we may. Raises Trouble."""
    for type_ in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            sock = socket.socket(kind.family, type_, kind.protocol)
        except PermissionError:
            continue
        except OSError as error:
            reason, words = OS_ERRORS.get(error.errno or 0, (Reason.INTERNAL, "this machine cannot send ICMP for"))
            raise Trouble(reason, f"{words} an icmp monitor") from None
        sock.setblocking(False)
        return sock
    raise Trouble(
        Reason.WORKER_NOT_PERMITTED,
        "this worker may not send ICMP: widen the sysctl net.ipv4.ping_group_range to its group or give it CAP_NET_RAW",
    )


async def _ask_all(
    sock: socket.socket, address: str, options: IcmpOptions, way: Way
) -> tuple[list[float], OSError | None]:
    """The round trips (ms) of those that were answered, and the last error of the kernel."""
    trips: list[float] = []
    trouble: OSError | None = None
    token = secrets.token_bytes(_TOKEN_BYTES)
    for number in range(options.count):
        asked = time.perf_counter()
        # What is left is shared by those to come: a lost one costs the others no time.
        patience_s = (way.deadline - asked) / (options.count - number)
        if patience_s <= 0:
            break
        try:
            if number == 0:
                sock.connect((address, 0))
            sock.send(_request(sock, number, token, options.size))
            async with asyncio.timeout(patience_s):
                await _reply(sock, number, token)
            trips.append((time.perf_counter() - asked) * 1000)
        except TimeoutError:
            continue
        except OSError as error:
            trouble = error
    return trips, trouble


def _request(sock: socket.socket, number: int, token: bytes, size: int) -> bytes:
    kind = _V6 if sock.family == socket.AF_INET6 else _V4
    payload = token.ljust(max(size, _TOKEN_BYTES), b"\0")
    # The identifier is the kernel's choice on a datagram socket; on a raw one the token says whose it is.
    checksum = _checksum(struct.pack("!BBHHH", kind.request, 0, 0, 0, number) + payload)
    return struct.pack("!BBHHH", kind.request, 0, checksum, 0, number) + payload


async def _reply(sock: socket.socket, number: int, token: bytes) -> None:
    """Wait for the answer to one request among all that arrives."""
    kind = _V6 if sock.family == socket.AF_INET6 else _V4
    wanted = struct.pack("!H", number) + token
    for _ in range(_MAX_STRAY):
        packet = await asyncio.get_running_loop().sock_recv(sock, 2_048)
        if sock.type == socket.SOCK_RAW and kind is _V4:
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if packet[:1] == bytes([kind.reply]) and packet[6:].startswith(wanted):
            return
    raise TimeoutError


def _checksum(data: bytes) -> int:
    """The internet checksum; the kernel makes its own for IPv6."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


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
