"""An API that answers by script, for what no healthy server does: breaking off, refusing, redirecting, dripping."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """What to do with one request."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    #: Break off before the answer, or in the middle of its body.
    reset: bool = False
    cut: bool = False

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """A request as it came, and when."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


def problem(status: int, code: str, message: str = "no", **more: Any) -> Answer:
    headers = more.pop("headers", {})
    body = {
        "title": "x",
        "status": status,
        "code": code,
        "message": message,
        "request_id": "r-1",
        "details": [],
        **more,
    }
    return Answer(status, body, {"Content-Type": "application/problem+json", **headers})


class ScriptedApi:
    """Answers with `script` as long as there is any, then with the last of it."""

    def __init__(self, *script: Answer, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.script = deque(script or [Answer()])
        self.asked: list[Asked] = []
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if self.raw_requestline and self.parse_request():
                    api._answer(self)
                else:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
            self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # handshakes fail on purpose
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append(Asked(handler.command, handler.path, headers, body, time.monotonic()))
        answer = self.script.popleft() if len(self.script) > 1 else self.script[0]
        self._stop.wait(answer.wait_s)
        if answer.reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.raw)))
        handler.end_headers()
        handler.wfile.write(answer.raw[: len(answer.raw) // 2] if answer.cut else answer.raw)
        handler.close_connection = answer.cut
