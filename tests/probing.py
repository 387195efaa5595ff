"""What every probe's tests share: how a type names its target, targets that behave in each way, where to look from."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from websockets.server import ServerProtocol

from common.domain.checks import Observation
from common.domain.egress import EgressMode, EgressRules
from common.domain.health import Policy
from common.domain.monitors import MonitorConfig
from common.domain.options import (
    DnsOptions,
    HttpOptions,
    IcmpOptions,
    Options,
    PostgresOptions,
    RedisOptions,
    SmtpOptions,
    TcpOptions,
    TlsOptions,
    WebsocketOptions,
)
from common.http.engine import HttpEngine
from common.http.resolver import Resolver
from tests.dns_server import SERVFAIL, SILENT, DnsServer, Zone
from worker.probes.base import ProbeContext
from worker.probes.registry import PROBES

TRACE_ID = "0123456789abcdef0123456789abcdef"
ZONES = {
    "web.test": Zone(("127.0.0.1",)),
    "mute.test": Zone(mute=SILENT),
    "broken.test": Zone(rcode=SERVFAIL),
    "metadata.test": Zone(("169.254.169.254",)),
    "mixed.test": Zone(("127.0.0.1", "169.254.169.254")),
}

#: A monitor of its own each time.
_numbers = itertools.count(1)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One type: its target for a host and port, options with which it speaks and listens, a server that is well."""

    target: str
    options: Options
    well: Handler
    #: TLS without saying so; whoever serves it must have a certificate.
    secure: bool = False


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def _hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\r\n")


async def _websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        protocol.receive_data(await reader.read(4096))
    protocol.send_response(protocol.accept(events[0]))  # type: ignore[arg-type]
    protocol.send_text(b"hello")
    for data in protocol.data_to_send():
        writer.write(data)
    await writer.drain()
    await reader.read(100)


async def _smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.test ESMTP\r\n")
    await reader.readline()
    writer.write(b"250-mail.test\r\n250-SIZE 1000\r\n250 8BITMIME\r\n")
    await reader.readline()


async def _postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(8)
    writer.write(b"N")
    (size,) = struct.unpack("!I", await reader.readexactly(4))
    await reader.readexactly(size - 4)
    writer.write(b"R" + struct.pack("!II", 8, 0) + b"Z" + struct.pack("!I", 5) + b"I")
    await reader.read(100)


async def _redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"+PONG\r\n")


async def _nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(100)


#: Types that are spoken over a connection.
STREAMS = {
    "http": Case("http://{}:{}/", HttpOptions(), _http),
    "tcp": Case("tcp://{}:{}", TcpOptions(expect="hello"), _hello),
    "tls": Case("{}:{}", TlsOptions(verify_tls=False), _nothing, secure=True),
    "websocket": Case("ws://{}:{}/", WebsocketOptions(expect="hello"), _websocket),
    "smtp": Case("{}:{}", SmtpOptions(), _smtp),
    "postgres": Case("{}:{}", PostgresOptions(), _postgres),
    "redis": Case("{}:{}", RedisOptions(), _redis),
}
#: Types that are not.
DATAGRAMS = {
    "dns": Case("web.test", DnsOptions(), _nothing),
    "icmp": Case("{}", IcmpOptions(count=2), _nothing),
}


def config(type_: str, host: str, port: int, **changes: Any) -> MonitorConfig:
    case = (STREAMS | DATAGRAMS)[type_]
    options: Options = DnsOptions(resolver=f"{host}:{port}") if type_ == "dns" else case.options
    values = {
        "monitor_no": next(_numbers),
        "monitor_id": "m",
        "org_id": "o",
        "config_version": 1,
        "type": type_,
        "name": "n",
        "target": case.target.format(host, port),
        "interval_s": 30,
        "timeout_s": 20.0,
        "policy": Policy(),
        "options": options,
    }
    return MonitorConfig(**(values | changes))


@contextlib.asynccontextmanager
async def context(
    mode: EgressMode = EgressMode.INTERNAL, *, ca: str | None = None, zones: dict[str, Zone] | None = None, **rules: Any
) -> AsyncIterator[ProbeContext]:
    server = await DnsServer(zones or dict(ZONES)).start()
    resolver = Resolver([server.address])
    egress = EgressRules(mode, **rules)
    engine = HttpEngine(resolver, egress, user_agent="Tocsin-Test", ca_file=ca)
    trust = {"ca_file": ca} if ca else {}
    try:
        yield ProbeContext(engine, resolver, egress, **trust)
    finally:
        engine.close()
        resolver.close()
        server.close()


async def look(monitor: MonitorConfig, ctx: ProbeContext, deadline_s: float = 20.0) -> Observation:
    return await PROBES[monitor.type](monitor, deadline_s, ctx, TRACE_ID)


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(main)


@dataclass
class Peer:
    """A server on loopback and what it noticed."""

    port: int = 0
    connections: int = 0
    sent: int = 0
    received: bytearray = field(default_factory=bytearray)


@contextlib.asynccontextmanager
async def peer(handler: Handler, tls: Any = None) -> AsyncIterator[Peer]:
    """Serve every connection by this handler."""
    seen = Peer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.sleep(0.01)


# -- ways to misbehave ---------------------------------------------------------------------------------------------


async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(10_000):
        pass


async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.read(10_000)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await hang_up(reader, writer)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff\x13garbage\r\n\x80" * 20)
    await writer.drain()
    await asyncio.sleep(0.2)


async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


def drip(first: bytes) -> Handler:
    """What may be a good beginning, then a byte at a time for ever."""

    async def act(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(b"x")

    return act


@contextlib.contextmanager
def udp_peer(answer: bytes | None) -> Any:
    """A UDP socket that answers every datagram with the same bytes, or never."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)

    def react() -> None:
        asked, address = sock.recvfrom(4096)
        if answer is not None:
            for _ in range(3):
                sock.sendto(answer.replace(b"ID", asked[:2]), address)

    loop.add_reader(sock, react)
    yield sock.getsockname()[1]
    loop.remove_reader(sock)
    sock.close()


# -- nothing is left behind -----------------------------------------------------------------------------------------


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextlib.asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """Fail when a file or task of this loop does not go away after the block."""
    files, tasks = _open_files(), len(asyncio.all_tasks())
    yield
    for _ in range(1_000):
        if _open_files() <= files and len(asyncio.all_tasks()) <= tasks:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"left behind: {_open_files() - files} files, {len(asyncio.all_tasks()) - tasks} tasks")
