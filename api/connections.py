"""A connection as its client uses it: what has come of a request so far, and what of an answer is still to go.

Nothing here waits. gunicorn's parser is given a head once it is whole, and the app a body once all of it is there.
"""

from __future__ import annotations

import re
import socket
from io import BytesIO
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, LimitRequestHeaders
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn

from common.clock import monotonic_s

#: No route takes more: of a longer body nothing is read, and the app says so.
BODY_BYTES = 20 * 1024 * 1024
_HEAD_BYTES = 64 * 1024
_READ_BYTES = 16 * 1024
_BODY_READ_BYTES = 256 * 1024
#: The longest line that says how long a chunk is.
_CHUNK_LINE_BYTES = 8_190
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?")


class Wire(socket.socket):
    """A socket that keeps what its client does not take at once, instead of waiting."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self.unsent = bytearray()

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send what goes now. Raises OSError when nothing ever will."""
        sent = 0
        if not self.unsent:
            try:
                sent = self.send(data, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
        if sent < len(data):
            self.unsent += memoryview(data)[sent:]


class Connection(TConn):  # type: ignore[misc]
    """One client. `began` is when its present request began, None between requests; `ended`: no more will come."""

    sock: Wire

    def __init__(self, cfg: Any, sock: Wire, client: Any, server: Any) -> None:
        super().__init__(cfg, sock, client, server)
        self.held = bytearray()
        self.began: float | None = None
        self.ended = False
        # gunicorn asks for neither again.
        self.data_ready = True
        self.parser = _Parser(self)
        self._body = bytearray()

    @property
    def size(self) -> int:
        """What it takes of our memory, in bytes."""
        return len(self.held) + len(self._body) + len(self.sock.unsent)

    def advance(self) -> bool:
        """Take what is there, if anything is missing. Whether there is a head. Raises OSError: the connection broke."""
        if self.parser.begun is None and self.has_head():
            return True
        self._take()
        return self.parser.begun is not None or self.has_head()

    def _take(self) -> None:
        size = _READ_BYTES if self.parser.begun is None else _BODY_READ_BYTES
        try:
            data = self.sock.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        self.ended = not data
        self.held += data
        if self.began is None and self.held:
            self.began = monotonic_s()

    def has_head(self) -> bool:
        """Whether there is a head to be parsed, or more than any head may have."""
        return b"\r\n\r\n" in self.held or len(self.held) > _HEAD_BYTES

    def cut_head(self) -> bytes:
        """Raises LimitRequestHeaders when it has no end."""
        end = self.held.find(b"\r\n\r\n") + 4
        if end < 4:
            raise LimitRequestHeaders(f"the head has more than {_HEAD_BYTES} bytes")
        head = bytes(self.held[:end])
        del self.held[:end]
        return head

    def has_body(self, request: Request) -> bool:
        """Whether the body is here, and then it is the request's; a client that asks whether to send it may.

        Raises ParseException when it can never be.
        """
        reader = request.body.reader
        if isinstance(reader, LengthReader):
            wanted, whole = reader.length, self._cut_length(reader.length)
        else:
            whole = self._cut_chunks()
            wanted = len(self._body) + len(self.held)
        if not whole and wanted > BODY_BYTES:
            # Where the next request would begin is never known.
            request.force_close()
            self._body += self.held
            self.held.clear()
        elif not whole:
            # gunicorn would say so when the app begins, which here waits for the body.
            if request._expected_100_continue:  # noqa: SLF001
                request._expected_100_continue = False  # noqa: SLF001
                self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        request._expected_100_continue = False  # noqa: SLF001
        request.body = BytesIO(self._body)
        self._body = bytearray()
        self.parser.begun = None
        return True

    def _cut_length(self, length: int) -> bool:
        if len(self.held) < length:
            return False
        if length:
            self._body += self.held[:length]
            del self.held[:length]
        return True

    def _cut_chunks(self) -> bool:
        """Whether the last one is here. Raises ParseException when these are no chunks."""
        while (line := self.held.find(b"\r\n", 0, _CHUNK_LINE_BYTES)) >= 0:
            found = _CHUNK_LINE.fullmatch(bytes(self.held[:line]))
            if found is None:
                raise InvalidChunkSize(bytes(self.held[: min(line, 100)]))
            end = line + 2 + int(found[1], 16)
            if end == line + 2:
                return self._cut_trailers(line)
            if not b"\r\n".startswith(self.held[end : end + 2]):
                raise ChunkMissingTerminator(bytes(self.held[end : end + 2]))
            if len(self.held) < end + 2:
                return False
            self._body += self.held[line + 2 : end]
            del self.held[: end + 2]
        if len(self.held) >= _CHUNK_LINE_BYTES:
            raise InvalidChunkSize(b"a line without an end")
        return False

    def _cut_trailers(self, line: int) -> bool:
        end = self.held.find(b"\r\n\r\n", line, line + _HEAD_BYTES)
        if end >= 0:
            del self.held[: end + 4]
        elif len(self.held) - line >= _HEAD_BYTES:
            raise LimitRequestHeaders(f"the trailers have more than {_HEAD_BYTES} bytes")
        return end >= 0


class _Parser(RequestParser):  # type: ignore[misc]
    """gunicorn's, without a socket: it knows heads alone. `begun` is a request without its body."""

    def __init__(self, conn: Connection) -> None:
        super().__init__(conn.cfg, (), conn.client)
        self.begun: Request | None = None
        self._conn = conn

    def __next__(self) -> Request:
        if self.begun is None:
            # Of the request before nothing is left to be read.
            self.mesg = None
            self.unreader.unread(self._conn.cut_head())
            self.begun = super().__next__()
        return self.begun
