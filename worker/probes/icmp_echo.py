"""ICMP's echo on a socket of our own: open one as far as the kernel lets us, ask, know our answer among all others."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import sys
import time
from dataclasses import dataclass

from common.domain.checks import Reason
from common.domain.options import IcmpOptions
from common.http.dial import Trouble, Way
from common.http.oserrors import OS_ERRORS

_TOKEN_BYTES = 12
#: Packets of others that one reply is looked for among, on a raw socket.
_MAX_STRAY = 1_000
_MAX_PACKET, _MAX_ANCILLARY = 2_048, 64
#: Linux' IP_RECVTTL, which Python does not name.
_IP_RECVTTL = 12
_HOPS_LEFT = frozenset({(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)})


@dataclass(frozen=True, slots=True)
class _Family:
    """What differs between ICMP and ICMPv6."""

    family: int
    protocol: int
    request: int
    reply: int


_V4 = _Family(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0)
_V6 = _Family(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)


def open_to(address: str) -> socket.socket:
    """The unprivileged kind of socket where the kernel grants it, the raw one where we may. Raises Trouble."""
    kind = _V6 if ":" in address else _V4
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


def note_hops(sock: socket.socket) -> list[int]:
    """Have the kernel say how many hops an answer had left; where they are put."""
    if sys.platform == "linux":
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    return []


async def ask_all(
    sock: socket.socket, address: str, options: IcmpOptions, way: Way, hops: list[int] | None
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
                await _reply(sock, number, token, hops)
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


async def _reply(sock: socket.socket, number: int, token: bytes, hops: list[int] | None) -> None:
    """Wait for the answer to one request among all that arrives; note what it says of its hops, if they are wanted."""
    kind = _V6 if sock.family == socket.AF_INET6 else _V4
    wanted = struct.pack("!H", number) + token
    for _ in range(_MAX_STRAY):
        left: list[int] = []
        if hops is None:
            packet = await asyncio.get_running_loop().sock_recv(sock, _MAX_PACKET)
        else:
            packet, left = await _receive(sock)
        if sock.type == socket.SOCK_RAW and kind is _V4:
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if packet[:1] == bytes([kind.reply]) and packet[6:].startswith(wanted):
            if hops is not None:
                hops += left
            return
    raise TimeoutError


async def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet, and how many hops it had left where the kernel says so."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            packet, ancillary, _, _ = sock.recvmsg(_MAX_PACKET, _MAX_ANCILLARY)
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_reader(sock, _wake, ready)
            try:
                await ready
            finally:
                loop.remove_reader(sock)
        else:
            return packet, [struct.unpack("i", data)[0] for *kind, data in ancillary if tuple(kind) in _HOPS_LEFT]


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _checksum(data: bytes) -> int:
    """The internet checksum; the kernel makes its own for IPv6."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
