"""Targets that misbehave in every way a probe can meet, on loopback sockets of the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import itertools
import os
import random
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Seen:
    """One request as a target received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Act = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Target:
    """A server whose paths act as given; it notes what it was asked and how many connections it got."""

    port: int
    scheme: str = "http"
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


def answer(status: int = 200, body: bytes = b"ok", headers: str = "") -> Act:
    """A complete response."""

    async def act(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1") + body)

    return act


def redirect(status: int, location: str) -> Act:
    return answer(status, b"", f"Location: {location}\r\n")


def raw(data: bytes) -> Act:
    """These bytes, then the end."""

    async def act(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return act


def drip(head: bytes, piece: bytes, pause_s: float) -> Act:
    """A piece at a time, for ever."""

    async def act(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return act


async def hang(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def reset(_seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.asynccontextmanager
async def serving(
    paths: dict[str, Act],
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Target]:
    """Serve `paths` (without query) on a free port; "*" is for all others."""
    target = Target(0, "https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            seen = await _read(reader)
            target.seen.append(seen)
            act = paths.get(seen.path.split("?")[0], paths.get("*", answer(404)))
            await act(seen, writer)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(handle, host, 0, ssl=tls, backlog=512)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens, nor will by chance: none that the system gives away, or another test process."""
    for port in _some_ports():
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                stream.bind((host, port))
                datagrams.bind((host, port))
            except OSError:
                continue
            return int(stream.getsockname()[1])
    raise AssertionError(f"no port is free on {host}")


def _some_ports() -> list[int]:
    with _CHOOSING:
        return list(itertools.islice(_PORTS, 100))


def _ports() -> Iterator[int]:
    """Ours of the ports below those that connections and listeners without a wish are given; 0, a wish for any, last.

    Which of them are ours is the place of this process among those of the run; where it begins is chance, as there may
    be other runs on this machine.
    """
    with contextlib.suppress(OSError, ValueError):
        given_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PLACES
        ours = range(_FIRST_PORT + place, given_from, _PLACES)
        begin = random.SystemRandom().randrange(len(ours))
        yield from (ours[(begin + number) % len(ours)] for number in itertools.count())
    yield from itertools.repeat(0)


#: Of so many processes of a run each has ports of its own, from this one on.
_PLACES, _FIRST_PORT = 8, 15_000
_PORTS, _CHOOSING = _ports(), threading.Lock()


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A listener whose backlog is full, so that a further connection attempt gets no answer at all."""
    fillers = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
    for filler in fillers:
        filler.close()


@dataclass
class Authority:
    """A certificate authority for one test run; `ca_file` is what clients must trust."""

    ca_file: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def context(self, *hosts: str, expired: bool = False, self_signed: bool = False) -> ssl.SSLContext:
        """A server context with a certificate for `hosts`."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, signer = (None, key) if self_signed else (self.certificate, self.key)
        certificate = _certificate(hosts, key, issuer, signer, days=-1 if expired else 1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.write(_pem(key))
            file.flush()
            context.load_cert_chain(file.name)
        return context


def make_authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(("Test CA",), key, None, key, days=1, authority=True)
    file = folder / "ca.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(str(file), key, certificate)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate(
    hosts: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    *,
    days: int,
    authority: bool = False,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer.subject if issuer else name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=3))
    builder = builder.not_valid_after(now + dt.timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if not authority:
        names = [_general_name(host) for host in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
