"""The endpoint that breaks and the receiver of webhooks: threads of this process, on loopback."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Request:
    """What the endpoint or the receiver got, when (monotonic seconds), and how it was answered."""

    at: float
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Stage:
    """`status` is how the endpoint answers; `checks` and `webhooks` are what came, oldest first."""

    def __init__(self) -> None:
        self.status = 200
        self.checks: deque[Request] = deque()
        self.webhooks: deque[Request] = deque()
        self.endpoint_url = self.hook_url = ""

    def answer_check(self, _handler: BaseHTTPRequestHandler) -> int:
        """Answer as the endpoint is at the moment."""
        status = self.status
        self.checks.append(Request(time.monotonic(), status))
        return status

    def take_webhook(self, handler: BaseHTTPRequestHandler) -> int:
        """Keep a webhook."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.webhooks.append(Request(time.monotonic(), 204, headers, body))
        return 204


@contextmanager
def serving() -> Iterator[Stage]:
    """Both servers, on free ports."""
    stage = Stage()
    with _server("do_GET", stage.answer_check) as endpoint, _server("do_POST", stage.take_webhook) as receiver:
        stage.endpoint_url, stage.hook_url = f"{endpoint}/health", f"{receiver}/hook"
        yield stage


@contextmanager
def _server(method: str, answer: Callable[[BaseHTTPRequestHandler], int]) -> Iterator[str]:
    """A server that answers every request of this method with a status only; its URL."""

    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(answer(handler))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    members = {method: handle, "log_message": lambda *_: None}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (BaseHTTPRequestHandler,), members))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
