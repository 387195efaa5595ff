"""The HTTP server: gunicorn with threads, configured by our settings and logging through our log.

Threads are few, so nobody may hold one by being slow: a request that is not whole in time (TOCSIN_REQUEST_TIMEOUT) is
read no further, and a client that takes nothing of its answer for 30 s is let go. An answer that goes on for hours
takes its connection along (api/handover.py).
"""

from __future__ import annotations

import resource
import socket
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException, UnsupportedTransferCoding
from gunicorn.workers.gthread import TConn, ThreadWorker
from prometheus_client import multiprocess

from api.errors import PROBLEM_TYPE, code_of, problem_document
from api.handover import OFFERED, Handover
from common.clock import monotonic_s
from common.domain.errors import SettingsError
from common.settings import Settings
from common.spawn import die_with

#: How long requests may go on after SIGTERM.
_DRAIN_S = 20
#: Without a byte of an answer being taken.
_SEND_S = 30
#: The most that gunicorn reads of a request's first line: its address and query.
_LINE_BYTES = 8_190
#: Connections that wait for their next request, to PostgreSQL and Redis, logs …
_OTHER_FILES = 2_048
#: What cannot even be read as a request; anything else is 400.
_UNREADABLE = {LimitRequestLine: 414, LimitRequestHeaders: 431, UnsupportedTransferCoding: 501}


@dataclass(frozen=True, slots=True)
class Served:
    """An app, and how what it keeps beside requests ends: `stop` is told soon after SIGTERM, `close` at the end."""

    app: Flask
    stop: Callable[[], None]
    close: Callable[[], None]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, or give its connection away."""
        environ[OFFERED] = True
        return self.app(environ, start_response)


def serve(make_app: Callable[[Settings], Served], settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Raises SettingsError when the address cannot be had."""
    _raise_file_limit(settings)
    with _listen(settings) as listener:
        # The descriptor's number changes hands: gunicorn closes it.
        _Server(make_app, settings, listener.detach()).run()
    return 0


class _Server(BaseApplication):  # type: ignore[misc]
    """Each process makes the app for itself after the fork: nothing that is open is shared."""

    def __init__(self, make_app: Callable[[Settings], Served], settings: Settings, descriptor: int) -> None:
        self._make_app = make_app
        self._settings = settings
        self._descriptor = descriptor
        super().__init__()

    def load_config(self) -> None:
        ImpatientWorker.patience_s = self._settings.request_timeout
        options: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "workers": self._settings.api_workers,
            "threads": self._settings.api_threads,
            "worker_class": f"{__name__}.{ImpatientWorker.__name__}",
            "graceful_timeout": _DRAIN_S,
            "limit_request_line": _LINE_BYTES,
            "keepalive": 75,
            "logger_class": _Log,
            "control_socket_disable": True,
            # A killed master would leave them with the port for as long as a client keeps its connection.
            "post_fork": lambda _server, worker: die_with(worker.ppid),
            "child_exit": _forget if self._settings.metrics_dir is not None else lambda _server, _worker: None,
            # The heartbeat file belongs in memory: a slow disk must not look like a dead worker.
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - gunicorn makes it private
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Served:
        return self._make_app(self._settings)


class ImpatientWorker(ThreadWorker):  # type: ignore[misc]
    """Reads no further from whoever takes too long to say what they want, and lets go of connections that are wanted.

    A request that has been read is not touched by that: its answer goes out, however long it takes to make.
    """

    patience_s = 20

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._began: dict[TConn, float] = {}
        self._gone: set[TConn] = set()
        self.wsgi: Served | None = None

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

    def handle(self, conn: TConn) -> Any:
        """One request, in one of the threads."""
        self._began[conn] = monotonic_s()
        try:
            return super().handle(conn)
        finally:
            self._began.pop(conn, None)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer, unless somebody else takes the connection over: then nothing of it is ours any more."""
        try:
            return super().handle_request(req, conn)
        except Handover as handover:
            self._gone.add(conn)
            # The descriptor changes hands, so that it is closed once, whoever still holds the old socket.
            handover.take(socket.socket(fileno=conn.sock.detach()), handover.head)
            return False

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """In gunicorn's main thread, after a request."""
        if conn not in self._gone:
            super().finish_request(conn, fs)
            return
        self._gone.discard(conn)
        self.nr_conns -= 1

    def murder_pending(self) -> None:
        """Where gunicorn's main thread, once a second, drops connections that never said anything."""
        super().murder_pending()
        late = monotonic_s() - self.patience_s
        for conn in [conn for conn, began in self._began.copy().items() if began < late]:
            # To the thread that reads, this is the end of the stream; to one that writes, nothing.
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RD)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no request in the form of all other errors."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = HTTPStatus(_UNREADABLE.get(type(exc), 400))
        body = problem_document(status, code_of(status), str(exc)[:200], str(uuid4())).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {PROBLEM_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with suppress(OSError):
            client.sendall(head.encode() + body)


class _Log(Logger):  # type: ignore[misc]
    """Gunicorn's own lines go where all others go; requests are logged by api.requests."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.access_log.propagate = False
        self.error_log.setLevel("WARNING" if cfg.loglevel == "info" else cfg.loglevel.upper())


def _raise_file_limit(settings: Settings) -> None:
    """Each stream and connection is a file, and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.streams + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def _forget(_server: Any, worker: Any) -> None:
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _listen(settings: Settings) -> socket.socket:
    """Take the address before gunicorn would try it for five seconds and exit in its own way."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_S, 0))
    try:
        listener.bind((settings.bind, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {settings.bind} port {settings.port}: {error.strerror}; set TOCSIN_BIND or TOCSIN_PORT"
        ) from None
    return listener
