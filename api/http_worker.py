"""gunicorn's threaded worker, where a thread has a request only while it is answered: nobody holds one by being slow.

Whoever says nothing, has sent half a request, or does not take its answer, waits in the main thread's poller. A place
there is worth little: it is given up after a time, and the oldest is when another client needs it.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException, UnsupportedTransferCoding
from gunicorn.workers.gthread import ThreadWorker

from api.connections import Connection, Wire
from api.errors import PROBLEM_TYPE, code_of, problem_document
from api.handover import Handover
from common.clock import monotonic_s

#: Until the first byte.
_SILENT_S = 10
#: Without a byte of an answer being taken.
_SEND_S = 30
#: After the last answer, for a client that is still sending: closed at once, it would never see it.
_LINGER_S = 2
_LOOK_EVERY_S = 0.5
#: Of all who wait together; a connection counts when it has more than the second.
_HELD_BYTES = 64 * 1024 * 1024
_MUCH_BYTES = 64 * 1024
#: What a thread says of a request that is not whole yet.
_LATER = object()
#: What cannot even be read as a request; anything else is 400.
_UNREADABLE = {LimitRequestLine: 414, LimitRequestHeaders: 431, UnsupportedTransferCoding: 501}


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """`handle…` run in one of the threads; everything else, from `accept` to `finish_request`, in the main thread."""

    #: From a request's first byte to its last.
    request_s = 20

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In the order in which they were last heard of.
        self._waiting: dict[Connection, None] = {}
        self._gone: set[Connection] = set()
        # What is to be done when no event is being handled that may be of a connection that this closes.
        self._crowded = False
        self._much_held = False
        self._next_look = 0.0
        self.wsgi: Any = None

    def run(self) -> None:
        """Serve; then end what the app keeps beside requests."""
        try:
            super().run()
        finally:
            if self.wsgi is not None:
                self.wsgi.close()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: what would never end by itself is told to."""
        super().handle_exit(sig, frame)
        if self.wsgi is not None:
            self.wsgi.stop()

    def accept(self, listener: socket.socket) -> None:
        """A new connection waits until it says something."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._crowded = True
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, Wire(accepted), address, listener.getsockname())
        self._wait(conn, monotonic_s() + _SILENT_S, self._on_arrival)
        self._crowded = self.nr_conns >= self.worker_connections

    def handle(self, conn: Connection) -> Any:
        """One request, or what there is of it."""
        try:
            has_head = conn.advance()
        except OSError:
            return False
        return super().handle(conn) if has_head else self._not_yet(conn)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Answer, unless somebody else takes the connection over: then nothing of it is ours any more."""
        if not conn.has_body(req):
            return self._not_yet(conn)
        try:
            return super().handle_request(req, conn)
        except Handover as handover:
            self._gone.add(conn)
            # The descriptor changes hands, so that it is closed once, whoever still holds the old socket.
            handover.take(socket.socket(fileno=conn.sock.detach()), handover.head)
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no request in the form of all other errors."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        with suppress(OSError):
            client.sendall(_refusal(HTTPStatus(_UNREADABLE.get(type(exc), 400)), str(exc)[:200]))

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """After a thread had it: the rest of the answer first."""
        if conn in self._gone:
            self._gone.discard(conn)
            self.nr_conns -= 1
        elif fs.cancelled() or fs.exception() is not None:
            self.nr_conns -= 1
            conn.close()
        elif conn.sock.unsent:
            self._wait(conn, monotonic_s() + _SEND_S, partial(self._on_room, fs), selectors.EVENT_WRITE)
        else:
            self._go_on(conn, fs)

    def murder_pending(self) -> None:
        """Part with whoever has waited too long, or is in the way. gunicorn calls this after every few events."""
        if self._crowded:
            self._make_room()
        if self._much_held:
            self._save_memory()
        now = monotonic_s()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_S
        for conn in [conn for conn in self._waiting if conn.timeout < now]:
            if conn.began is not None and not conn.sock.unsent:
                message = f"The request was not whole within {self.request_s} s."
                with suppress(OSError):
                    conn.sock.send(_refusal(HTTPStatus.REQUEST_TIMEOUT, message))
            self._drop(conn)

    def _keepalive_after(self, conn: Connection, keepalive: Any) -> Any:  # noqa: ARG002 — gunicorn's
        # Nothing to drain: what the app did not read of the body is in memory.
        return keepalive

    def _cap_keepalive(self, deadline: float) -> None:
        """At SIGTERM: who has asked for nothing is not waited for."""
        super()._cap_keepalive(deadline)
        for conn in self._waiting:
            if conn.began is None:
                conn.timeout = min(conn.timeout, deadline)

    def _not_yet(self, conn: Connection) -> object:
        return False if conn.ended else _LATER

    def _go_on(self, conn: Connection, fs: Future[Any]) -> None:
        result = fs.result()
        if result is _LATER:
            began = monotonic_s() if conn.began is None else conn.began
            self._wait(conn, began + self.request_s, self._on_arrival)
        elif not result:
            self._part(conn)
        else:
            conn.began = monotonic_s() if conn.held else None
            if conn.held:
                self.enqueue_req(conn)
            else:
                super().finish_request(conn, fs)

    def _wait(
        self,
        conn: Connection,
        until_s: float,
        then: Callable[[Connection, Any], None],
        event: int = selectors.EVENT_READ,
    ) -> None:
        conn.sock.setblocking(False)
        conn.timeout = until_s
        self._waiting[conn] = None
        self.poller.register(conn.sock, event, partial(then, conn))
        self._much_held |= conn.size > _MUCH_BYTES

    def _on_arrival(self, conn: Connection, _sock: Any) -> None:
        self._forget(conn)
        self.enqueue_req(conn)

    def _on_room(self, fs: Future[Any], conn: Connection, _sock: Any) -> None:
        try:
            sent = conn.sock.send(bytes(conn.sock.unsent[:_MUCH_BYTES]))
        except BlockingIOError:
            return
        except OSError:
            self._drop(conn)
            return
        del conn.sock.unsent[:sent]
        conn.timeout = monotonic_s() + _SEND_S
        if not conn.sock.unsent:
            self._forget(conn)
            self._go_on(conn, fs)

    def _part(self, conn: Connection) -> None:
        """Say that this was all, and listen a little longer."""
        conn.began = None
        conn.held.clear()
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            conn.ended = True
        if conn.ended:
            self.nr_conns -= 1
            conn.close()
        else:
            self._wait(conn, monotonic_s() + _LINGER_S, self._on_rest)

    def _on_rest(self, conn: Connection, _sock: Any) -> None:
        try:
            rest = conn.sock.recv(_MUCH_BYTES)
        except BlockingIOError:
            return
        except OSError:
            rest = b""
        if not rest:
            self._drop(conn)

    def _forget(self, conn: Connection) -> None:
        self.poller.unregister(conn.sock)
        del self._waiting[conn]

    def _drop(self, conn: Connection) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _make_room(self) -> None:
        """Close the oldest of those who wait for a request, or of those who had one, whichever are more."""
        self._crowded = False
        if self._waiting and len(self._waiting) >= len(self.keepalived_conns):
            self._drop(next(iter(self._waiting)))
        elif self.keepalived_conns:
            # As if its time were over: gunicorn closes from this end.
            self.keepalived_conns[0].timeout = 0.0
            self.murder_keepalived()

    def _save_memory(self) -> None:
        """Close the oldest that hold much, until all together hold little enough."""
        self._much_held = False
        total = sum(conn.size for conn in self._waiting)
        for conn in [conn for conn in self._waiting if conn.size > _MUCH_BYTES]:
            if total <= _HELD_BYTES:
                return
            total -= conn.size
            self._drop(conn)


def _refusal(status: HTTPStatus, message: str) -> bytes:
    """A whole answer, for what never came to the app."""
    body = problem_document(status, code_of(status), message, str(uuid4())).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {PROBLEM_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
