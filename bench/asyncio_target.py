"""The target where nginx cannot be had: a small HTTP server on uvloop. `python -m bench.asyncio_target PORT TOGGLES`.

Answers 200 to everything; /flaky/<n> is 503 while the file TOGGLES/<n> exists.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

ADDRESSES = tuple(f"127.0.0.{n}" for n in range(1, 17))

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ndown"


class Answerer(asyncio.Protocol):
    """One connection; requests are small enough to come in one piece, or are answered at their end."""

    def __init__(self, toggles: Path) -> None:
        self._toggles = toggles
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._seen += data
        while b"\r\n\r\n" in self._seen:
            request, self._seen = self._seen.split(b"\r\n\r\n", 1)
            self._transport.write(self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        path = request.split(b" ", 2)[1]
        if path.startswith(b"/flaky/") and (self._toggles / path[7:].decode("ascii", "ignore")).exists():
            return _DOWN
        return _OK


async def serve(port: int, toggles: Path) -> None:
    """Serve on all addresses until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answerer(toggles), list(ADDRESSES), port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
