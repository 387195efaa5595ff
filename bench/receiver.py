"""A receiver of webhooks in a process of its own that does as little as possible: `python -m bench.receiver PORT`.

It reads each request whole and answers 200, on as many loopback addresses as the targets have.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import uvloop

from bench.asyncio_target import ADDRESSES
from bench.plan import BenchError
from common.spawn import spawn

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_READY_WITHIN_S = 10.0


class Answerer(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own does not inherit from it

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._seen += data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._seen, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._seen) < whole:
                return
            self._seen = self._seen[whole:]
            self._transport.write(_OK)


@contextmanager
def receiver(env: Mapping[str, str], folder: Path) -> Iterator[int]:
    """A receiver that runs; its port."""
    with socket.socket() as probe:
        probe.bind((ADDRESSES[0], 0))
        port = int(probe.getsockname()[1])
    with (folder / "receiver.log").open("wb") as log:
        process = spawn([sys.executable, "-m", "bench.receiver", str(port)], env=env, cwd=folder, stdout=log.fileno())
    try:
        _await_answer(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()


def url(port: int, number: int) -> str:
    """Where webhook `number` goes: each has its own."""
    return f"http://{ADDRESSES[number % len(ADDRESSES)]}:{port}/hook/{number}"


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            socket.create_connection((ADDRESSES[-1], port), timeout=1).close()
            return
        time.sleep(0.05)
    raise BenchError("the receiver of webhooks did not start")


async def serve(port: int) -> None:
    """Serve on all addresses until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Answerer, list(ADDRESSES), port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
