"""A TCP proxy that misbehaves on demand: it stands before PostgreSQL, Redis and the receiver of webhooks.

It runs on a loop and thread of its own; `mode` and `cut` may be called from any thread and act at once, on connections
that are open already, too.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything passes."""


@dataclass(frozen=True, slots=True)
class ResetAfter:
    """So many bytes of answers pass on each connection, then it is reset: in the middle of one, more often than not."""

    size: int


@dataclass(frozen=True, slots=True)
class LoseReplies:
    """What is asked passes; the first byte of an answer resets the connection instead."""


@dataclass(frozen=True, slots=True)
class Blackhole:
    """Connections are accepted and stay open, and nothing moves. What was sent meanwhile is lost at the end."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Each piece is held back, in order, by mean ± jitter seconds (normal distribution)."""

    mean_s: float
    jitter_s: float


@dataclass(frozen=True, slots=True)
class Slice:
    """One byte at a time."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Open connections are reset, new ones as soon as they come."""


Mode = Pass | ResetAfter | LoseReplies | Blackhole | Latency | Slice | Refuse

PASS, LOSE_REPLIES, BLACKHOLE, SLICE, REFUSE = Pass(), LoseReplies(), Blackhole(), Slice(), Refuse()
RESET_AFTER, LATENCY = ResetAfter, Latency

_PIECE = 65_536


class _Link:
    """One client's connection and ours to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.answered = 0

    def reset(self) -> None:
        _reset(self.client)
        _reset(self.server)


class Proxy:
    """Listens on a free loopback port, `port`; `upstream` is host:port or the path of a Unix socket."""

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self._upstream = upstream
        self._chance = random.Random(seed)
        self._mode: Mode = PASS
        self._changed = asyncio.Event()
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0
        #: Pieces, connections and attempts that did not pass as they would have by themselves.
        self.touched = 0

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(60)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    @property
    def open(self) -> int:
        """Connections that pass through us now."""
        return len(self._links)

    def mode(self, mode: Mode) -> None:
        """Behave so from now on; returns when it is in force."""
        asyncio.run_coroutine_threadsafe(self._switch(mode), self._loop).result(60)

    def cut(self) -> None:
        """Reset all open connections."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(60)

    def lead_to(self, upstream: str) -> None:
        """From now on to another server; open connections are reset."""
        self._upstream = upstream
        self.cut()

    async def _switch(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        self._changed.set()
        self._changed = asyncio.Event()
        if isinstance(mode, Refuse) or isinstance(before, Blackhole):
            await self._cut()

    async def _cut(self) -> None:
        for link in list(self._links):
            self.touched += 1
            link.reset()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await self._swallowed() or isinstance(self._mode, Refuse):
            self.touched += 1
            _reset(writer)
            return
        try:
            answers, server = await self._connect()
        except OSError:
            _reset(writer)
            return
        link = _Link(writer, server)
        self._links.add(link)
        try:
            await asyncio.gather(self._carry(reader, server, link), self._carry(answers, writer, link, back=True))
        finally:
            self._links.discard(link)
            writer.close()
            server.close()

    async def _swallowed(self) -> bool:
        """Whether we are in a black hole; returns when it is over."""
        swallowed = False
        while isinstance(self._mode, Blackhole):
            self.touched += not swallowed
            swallowed = True
            await self._changed.wait()
        return swallowed

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, colon, port = self._upstream.rpartition(":")
        if colon:
            return await asyncio.open_connection(host, int(port))
        return await asyncio.open_unix_connection(self._upstream)

    async def _carry(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, link: _Link, *, back: bool = False
    ) -> None:
        """One direction until its end; an end is passed on as an end, a reset as a reset."""
        try:
            while piece := await source.read(_PIECE):
                async for part in self._treat(piece, link, back=back):
                    to.write(part)
                    await to.drain()
            if to.can_write_eof():
                to.write_eof()
        except (OSError, RuntimeError):  # RuntimeError: written to after the transport was closed
            link.reset()

    async def _treat(self, piece: bytes, link: _Link, *, back: bool) -> AsyncIterator[bytes]:
        """What of a piece goes on, and when; nothing more after a reset."""
        if await self._swallowed():
            return
        mode = self._mode
        left = mode.size - link.answered if isinstance(mode, ResetAfter) else 0
        link.answered += len(piece) if back else 0
        if back and (isinstance(mode, LoseReplies) or (isinstance(mode, ResetAfter) and len(piece) > left)):
            if left > 0:
                yield piece[:left]  # half an answer is worse than none
            self.touched += 1
            link.reset()
            return
        self.touched += isinstance(mode, Latency | Slice)
        if isinstance(mode, Latency):
            await asyncio.sleep(max(0.0, self._chance.gauss(mode.mean_s, mode.jitter_s)))
        if not isinstance(mode, Slice):
            yield piece
            return
        for at in range(len(piece)):
            yield piece[at : at + 1]
            await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    held: socket.socket | None = writer.get_extra_info("socket")
    if held is not None and held.fileno() >= 0 and held.family != socket.AF_UNIX:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
