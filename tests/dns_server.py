"""A name server of the tests' own on loopback UDP: each name answers, fails or stays mute as its zone says."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

A, SOA, AAAA = 1, 6, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


@dataclass
class Zone:
    """What one name does. `mute` holds the record types that get no answer at all."""

    addresses: tuple[str, ...] = ()
    rcode: int = NOERROR
    ttl: int = 60
    mute: frozenset[int] = frozenset()


SILENT = frozenset({A, AAAA})


@dataclass
class DnsServer:
    """`zones` may be changed while it runs; a name that is not in it does not exist (for an hour, says the SOA)."""

    zones: dict[str, Zone] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    address: str = ""

    async def start(self) -> DnsServer:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        asyncio.get_running_loop().add_reader(self.sock, self._drain)
        return self

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()

    def _drain(self) -> None:
        # All at once: asyncio's own transport takes one datagram per turn, and the kernel drops what does not fit.
        with contextlib.suppress(BlockingIOError):
            while True:
                self._reply(*self.sock.recvfrom(4096))

    def _reply(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, place = [], 12
        while data[place]:
            labels.append(data[place + 1 : place + 1 + data[place]].decode())
            place += 1 + data[place]
        kind = struct.unpack("!H", data[place + 1 : place + 3])[0]
        name = ".".join(labels).lower()
        self.asked[name] += 1
        zone = self.zones.get(name, Zone(rcode=NXDOMAIN))
        if kind not in zone.mute:
            self.sock.sendto(_answer(data[:2], data[12 : place + 5], zone, kind), addr)


def _answer(query_id: bytes, question: bytes, zone: Zone, kind: int) -> bytes:
    ips = [ipaddress.ip_address(text) for text in zone.addresses]
    records = [ip.packed for ip in ips if (ip.version == 4) == (kind == A)] if kind in (A, AAAA) else []
    authority = b""
    if not records and zone.rcode in (NOERROR, NXDOMAIN):
        soa = b"\x00\x00" + struct.pack("!5I", 1, 3600, 600, 86400, 3600)
        authority = b"\x00" + struct.pack("!HHIH", SOA, 1, 3600, len(soa)) + soa
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, zone.ttl, len(raw)) + raw for raw in records)
    head = query_id + struct.pack("!5H", 0x8180 | zone.rcode, 1, len(records), 1 if authority else 0, 0)
    return head + question + body + authority
