"""One connection of our own: bounded reading, TLS at any moment, nothing left behind when it is closed.

TLS runs in memory beside the bare socket: no transport or task that could outlive a cancelled check, the certificate
is there for the asking, and a byte beyond the budget ends it, whatever protocol is spoken.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

from common.domain.checks import NOT_REACHED, Phases, Reason
from common.http.dial import Trouble

#: Of one conversation, both TLS records and what is in them (bytes).
MAX_WIRE_BYTES = 256 * 1024
_CHUNK = 16 * 1024


class Wire:
    """A connected socket with a buffer. `where` names it in messages, `waiting` says what a timeout interrupts."""

    def __init__(self, sock: socket.socket, where: str, phases: Phases) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._buffer = bytearray()
        self._budget = MAX_WIRE_BYTES
        self._phases = phases
        self._ready = time.perf_counter()
        self.where = where
        self.waiting = f"no response from {where}"

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, once there is one."""
        return self._tls

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Shake hands; `name` is what the certificate must be for. Raises ssl.SSLError, OSError, Trouble."""
        if self._buffer:
            # Bytes from before would pass for protected ones: the oldest trick against STARTTLS.
            raise Trouble(Reason.PROTOCOL_ERROR, f"{self.where} sent more than its consent before TLS began")
        begun = time.perf_counter()
        waiting, self.waiting = self.waiting, f"TLS handshake with {self.where} not finished"
        session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise Trouble(
                        Reason.TLS_HANDSHAKE, f"TLS handshake with {self.where} failed: connection closed"
                    ) from None
        await self._flush()
        self._tls = session
        self._ready = time.perf_counter()
        self._phases.tls_ms = (self._ready - begun) * 1000
        self.waiting = waiting

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        if self._tls is None:
            await self._loop.sock_sendall(self._sock, data)
        else:
            self._tls.write(data)
            await self._flush()

    async def receive(self) -> bytes:
        """What is there or comes next; b"" at the end."""
        data = bytes(self._buffer) or await self._read()
        self._buffer.clear()
        return data

    async def read_exactly(self, size: int) -> bytes:
        """So many bytes, no fewer. Raises Trouble when the connection ends before, or when it is too much."""
        if size > MAX_WIRE_BYTES:
            raise self.too_large()
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    async def read_line(self, limit: int = 8 * 1024) -> bytes:
        """One line without its end."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit:
                raise Trouble(Reason.PROTOCOL_ERROR, f"{self.where} sent a line longer than {limit} bytes")
            await self._more()
        return self._take(end + 1).rstrip(b"\r\n")

    def too_large(self) -> Trouble:
        """The answer is beyond all bounds."""
        return Trouble(Reason.BODY_TOO_LARGE, f"{self.where} sent more than {MAX_WIRE_BYTES // 1024} KiB")

    def ended(self) -> Trouble:
        """The connection was closed too early."""
        if self._phases.ttfb_ms == NOT_REACHED:
            return Trouble(Reason.EMPTY_REPLY, f"{self.where} closed the connection without an answer")
        return Trouble(Reason.CONNECTION_RESET, f"connection closed by {self.where} before its answer was complete")

    def close(self) -> None:
        """Let go of the socket; what it still had to say is not heard."""
        self._sock.close()

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _more(self) -> None:
        data = await self._read()
        if not data:
            raise self.ended()
        self._buffer += data

    async def _read(self) -> bytes:
        data = await (self._recv() if self._tls is None else self._decrypted(self._tls))
        if data and self._phases.ttfb_ms == NOT_REACHED:
            self._phases.ttfb_ms = (time.perf_counter() - self._ready) * 1000
        return data

    async def _decrypted(self, session: ssl.SSLObject) -> bytes:
        while True:
            try:
                return session.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def _feed(self) -> bool:
        data = await self._recv()
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._loop.sock_sendall(self._sock, data)

    async def _recv(self) -> bytes:
        data = await self._loop.sock_recv(self._sock, _CHUNK)
        self._budget -= len(data)
        if self._budget < 0:
            raise self.too_large()
        return data
