"""Real servers on loopback for probes to look at: nginx, dnsmasq, the embedded databases by a bridge to TCP."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.targets import free_port


def program(name: str) -> str:
    """A program of Debian's, where administrators keep it; the test is skipped without it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"Debian's package of {name} is not installed")
    return found


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the length of a test, ended whatever happens."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something accepts connections there."""
    import socket

    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return
        time.sleep(0.02)
    raise AssertionError(log.read_text())


@contextlib.contextmanager
def nginx(folder: Path, servers: str) -> Iterator[None]:
    """nginx with these server blocks; `folder` is where it keeps everything."""
    binary = program("nginx")
    folder.chmod(0o755)
    paths = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    control = free_port()
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}} "
        f"http {{ access_log off; {paths} {servers} server {{ listen 127.0.0.1:{control}; }} }}"
    )
    log = folder / "nginx.log"
    with running([binary, "-c", str(config), "-e", "stderr"], log) as process:
        await_port(control, process, log)
        yield


@contextlib.contextmanager
def dnsmasq(folder: Path, *records: str) -> Iterator[int]:
    """dnsmasq that knows these records and asks nobody; its port."""
    binary, port, log = program("dnsmasq"), free_port(), folder / "dnsmasq.log"
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll", "--user="]
    options += [f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--local=/test/"]
    with running([binary, *options, *(f"--{record}" for record in records)], log) as process:
        await_port(port, process, log)
        yield port


@contextlib.asynccontextmanager
async def bridge(socket_path: str) -> AsyncIterator[int]:
    """A TCP port that leads to a unix socket, byte for byte."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        there, back = await asyncio.open_unix_connection(socket_path)
        await asyncio.gather(carry(reader, back), carry(there, writer))
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def connect_proxy(password: str = "") -> AsyncIterator[tuple[int, list[str]]]:
    """A proxy that knows CONNECT alone; its port and the lines that it was asked with."""
    asked: list[str] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        asked.append(head)
        if password and f"Proxy-Authorization: Basic {password}" not in head:
            writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        host, _, port = head.split(" ")[1].rpartition(":")
        try:
            there, back = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError:
            writer.write(b"HTTP/1.1 502 Nobody there\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Go on\r\nX-Proxy: yes\r\n\r\n")
        await asyncio.gather(carry(reader, back), carry(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], asked
    server.close()
    await asyncio.sleep(0.01)
