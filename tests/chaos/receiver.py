"""The receiver of the run's webhooks: writes each request down, and answers the hostile path as badly as it likes."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import threading
import time
from contextlib import suppress
from hashlib import sha256
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self

from tests.chaos.events import History, Webhook

FRIENDLY = ("/friendly-1", "/friendly-2")
HOSTILE = "/hostile"
#: Takes messages that tell of several incidents; refuses all there is for good; hears what that one refuses.
GROUPED, REFUSING, FALLBACK = "/grouped", "/refusing", "/fallback"
#: Takes so many messages at a time; hears of the same problem once in a while.
CAPPED, COOLED = "/capped", "/cooled"

#: How a request may be treated; weights for the hostile path. `hang` outlasts the product's patience.
TREATMENTS = {"take": 50, "error": 20, "busy": 12, "reset": 8, "torn": 8, "hang": 2}
_REFUSE = {"refuse": 1}
_HANG_S = 25.0


class Receiver:
    """Listens on a free loopback port while used with `with`."""

    def __init__(self, history: History, seed: int) -> None:
        self._history = history
        self._chance = random.Random(f"receiver {seed}")
        self._weights: dict[str, dict[str, int]] = {HOSTILE: TREATMENTS, REFUSING: _REFUSE}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="receiver", daemon=True)
        self.port = 0
        self.received = 0
        #: How many requests to well-meaning paths were not taken.
        self.mistreated = 0

    def __enter__(self) -> Self:
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(60)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def treat(self, path: str, weights: dict[str, int] | None) -> None:
        """From now on treat a path so; None: take everything."""
        if weights is None:
            self._weights.pop(path, None)
        else:
            self._weights[path] = weights

    async def _close(self) -> None:
        self._server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(fields["content-length"]))
            await self._receive(head[0].split(" ")[1], fields["webhook-id"], body, writer)
        writer.close()

    async def _receive(self, path: str, webhook_id: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        at = time.time()
        self.received += 1
        weights = self._weights.get(path, {"take": 1})
        treatment = self._chance.choices(list(weights), list(weights.values()))[0]
        told: Any = json.loads(body)
        entries = told["data"].get("incidents") or [{"type": told["type"], **told["data"]}]
        monitor = entries[0]["monitor"]
        received = Webhook(
            at,
            path,
            webhook_id,
            told["type"],
            entries[0]["incident"]["id"],
            monitor["id"] if monitor else "",
            accepted=treatment == "take",
            ambiguous=treatment == "torn",
            entries=tuple((entry["incident"]["id"], entry["type"]) for entry in entries),
            digest=sha256(body).hexdigest()[:16],
        )
        self.mistreated += not received.accepted and path not in (HOSTILE, REFUSING)
        if received.accepted:
            await _take(writer)  # it is accepted when all of the answer is out
        self._history.add(received)
        if not received.accepted:
            await _TREATMENTS[treatment](writer)


async def _take(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()


async def _error(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def _refuse(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Never\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def _busy(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 429 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _torn(writer: asyncio.StreamWriter) -> None:
    """It begins to say that all is well."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\no")
    await writer.drain()
    await asyncio.sleep(0.02)
    await _reset(writer)


async def _hang(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(_HANG_S)


_TREATMENTS = {
    "error": _error, "refuse": _refuse, "busy": _busy, "reset": _reset, "torn": _torn, "hang": _hang,
}  # fmt: skip
