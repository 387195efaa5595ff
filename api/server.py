"""The HTTP server: gunicorn with threads, configured by our settings and logging through our log.

Threads are few, so nobody holds one by being slow (api/http_worker.py), and an answer that goes on for hours takes its
connection along (api/handover.py).
"""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from api.handover import OFFERED
from api.http_worker import PatientWorker
from common.domain.errors import SettingsError
from common.settings import Settings
from common.spawn import die_with

#: How long requests may go on after SIGTERM.
_DRAIN_S = 20
#: The most that gunicorn reads of a request's first line: its address and query.
_LINE_BYTES = 8_190
#: Connections that wait for their next request, to PostgreSQL and Redis, logs …
_OTHER_FILES = 2_048


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
        PatientWorker.request_s = self._settings.request_timeout
        options: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "workers": self._settings.api_workers,
            "threads": self._settings.api_threads,
            "worker_class": f"{PatientWorker.__module__}.{PatientWorker.__name__}",
            "graceful_timeout": _DRAIN_S,
            "limit_request_line": _LINE_BYTES,
            "keepalive": 75,
            # It would go past what keeps the rest of an answer.
            "sendfile": False,
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
    try:
        listener.bind((settings.bind, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {settings.bind} port {settings.port}: {error.strerror}; set TOCSIN_BIND or TOCSIN_PORT"
        ) from None
    return listener
