"""Many clients of the event stream in a process of its own: `python -m bench.streams_client`, plan as JSON on stdin.

Says "open" when all have their place; ends when its input does, and tells when each message came and how late: from the
moment of the event itself to the moment its last byte was read.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from datetime import datetime

_AT = re.compile(rb'"event":\{"id":"[^"]*","type":"[^"]*","at":"([^"]+)"')

#: Clients that come at the same time.
_AT_ONCE = 50


class Listeners:
    """All connections; `late` holds (Unix time at which it came, ms since the event)."""

    def __init__(self) -> None:
        self.late: list[tuple[float, float]] = []
        self.ended = 0
        self.bytes = 0

    async def open(self, host: str, port: int, key: str) -> asyncio.Task[None]:
        """One client, with its place in the stream."""
        reader, writer = await asyncio.open_connection(host, port)
        head = f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise SystemExit(f"the stream was refused: {status.decode().strip()}")
        await reader.readuntil(b"event: monitors\n")
        return asyncio.create_task(self._listen(reader, writer))

    async def _listen(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """The writer is kept because nobody else does: without it the connection ends."""
        try:
            while True:
                message = await reader.readuntil(b"\n\n")
                now = time.time()
                self.bytes += len(message)
                if found := _AT.search(message):
                    self.late.append((now, (now - datetime.fromisoformat(found[1].decode()).timestamp()) * 1000))
        except (OSError, asyncio.IncompleteReadError):
            self.ended += 1


async def listen(host: str, port: int, key: str, streams: int) -> Listeners:
    """Open them all, and hear until the input ends."""
    listeners = Listeners()
    few = asyncio.Semaphore(_AT_ONCE)

    async def open_one() -> asyncio.Task[None]:
        async with few:
            return await listeners.open(host, port, key)

    tasks = await asyncio.gather(*(open_one() for _ in range(streams)))
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    return listeners


def main() -> int:
    """Read what is asked, do it, print what was measured."""
    asked = json.loads(sys.stdin.readline())
    found = asyncio.run(listen(**asked))
    json.dump({"late": found.late, "ended": found.ended, "bytes": found.bytes}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
