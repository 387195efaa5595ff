"""The watched endpoints, in a process of their own: `python -m tests.chaos.endpoints <history>`.

It prints its port and that of its name server, which knows a name for each path. `POST /-/begin` brings the scripts
and starts them, `POST /-/settle` ends them: each endpoint is up from then on, or down for good. Every change is written
into the history as it takes effect, and which checks came.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

from tests.chaos.events import History, Probed, Truth
from tests.chaos.reasons import MACHINE
from tests.chaos.stillness import ENDPOINTS
from tests.chaos.timeline import Script, host_of
from tests.dns_server import DnsServer, Zone

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
_BROKEN = b"HTTP/1.1 503 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_HANG_S = 10.0
#: A path that is slow, and up.
TARPIT, _TARPIT_S = "/tarpit", 2.5
#: So many paths have names, which are to be asked for again after so long.
_NAMES, _TTL_S = 1_000, 2

#: If we ourselves stand still for so long, what our endpoints did meanwhile is not what the history says (seconds).
_LAG_S = 0.4

#: So often the checks that came are written down (seconds).
_NOTE_EVERY_S = 0.25
_TRACE = "\r\ntraceparent: 00-"
_TRACE_CHARS = 16


@dataclass(slots=True)
class Endpoint:
    """One path: how it behaves now."""

    monitor: str
    script: Script
    mode: str = "up"


class Endpoints:
    """All paths, and the tasks that change them."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._paths: dict[str, Endpoint] = {}
        self._players: list[asyncio.Task[None]] = []
        self._came: list[tuple[float, str, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            if path.startswith("/-/"):
                length = next(
                    int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length")
                )
                self._order(path, await reader.readexactly(length))
            elif (found := head.lower().find(_TRACE)) >= 0:
                begin = found + len(_TRACE)
                self._came.append((time.time(), path, head[begin : begin + _TRACE_CHARS].lower()))
            if path == TARPIT:
                await asyncio.sleep(_TARPIT_S)
            await self._answer(self._paths.get(path), writer)
        writer.close()

    async def _answer(self, endpoint: Endpoint | None, writer: asyncio.StreamWriter) -> None:
        mode = endpoint.mode if endpoint else "up"
        if mode == "hang":
            await asyncio.sleep(_HANG_S)
        elif mode == "reset":
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.write(_OK if mode == "up" else _BROKEN)
            await writer.drain()

    def _order(self, path: str, body: bytes) -> None:
        if path == "/-/begin":
            for part in json.loads(body):
                script = Script(**part["script"])
                endpoint = self._paths[script.path] = Endpoint(part["monitor"], script)
                self._history.add(Truth(time.time(), endpoint.monitor, up=True))
        elif path == "/-/play":
            self._players = [asyncio.create_task(self._play(endpoint)) for endpoint in self._paths.values()]
        elif path == "/-/settle":
            for player in self._players:
                player.cancel()
            for endpoint in self._paths.values():
                self._change(endpoint, "status" if endpoint.script.character == "ends_down" else "up")

    async def _play(self, endpoint: Endpoint) -> None:
        at = time.monotonic()
        for wait_s, mode in endpoint.script.changes():
            at += wait_s
            await asyncio.sleep(at - time.monotonic())
            self._change(endpoint, mode)

    def _change(self, endpoint: Endpoint, mode: str) -> None:
        was_up, endpoint.mode = endpoint.mode == "up", mode
        if was_up != (mode == "up"):
            self._history.add(Truth(time.time(), endpoint.monitor, up=mode == "up"))

    async def note_checks(self) -> None:
        """Write down which checks came, some at a time."""
        while True:
            await asyncio.sleep(_NOTE_EVERY_S)
            came, self._came = self._came, []
            if came:
                now = time.time()
                moments, paths, traces = zip(*came, strict=True)
                self._history.add(Probed(now, paths, traces, tuple(round((now - at) * 1000) for at in moments)))

    async def watch_ourselves(self) -> None:
        """Write down when we stood still: then an endpoint may have looked down though it was up."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            lag_s = time.monotonic() - before - 0.1
            if lag_s > _LAG_S:
                self._history.stood_still(MACHINE, ENDPOINTS, time.time() - lag_s, lag_s)


async def _main(history: Path) -> None:
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # who says what is true must not be the one that is late
    endpoints = Endpoints(History(history))
    server = await asyncio.start_server(endpoints.serve, "127.0.0.1", 0, backlog=1024)
    zones = {host_of(f"/m{number}"): Zone(("127.0.0.1",), ttl=_TTL_S) for number in range(_NAMES)}
    names = await DnsServer(zones).start()
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]} {names.address.rpartition(':')[2]}\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        group.create_task(endpoints.watch_ourselves())
        group.create_task(endpoints.note_checks())
        group.create_task(server.serve_forever())


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
