"""An answer that takes its connection with it: what goes on for hours must not hold one of the server's few threads.

Everything up to the answer is as for any other route: who calls, limits, headers, the log line. Then, instead of
writing the answer, the server gives the connection away, with the head that would have been sent (api/http_worker.py).
Elsewhere, as in tests without a server, the answer is its beginning, and ends.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: In the environ of a server that can give a connection away.
OFFERED = "tocsin.handover"

Take = Callable[[socket.socket, bytes], None]


class Handover(Exception):
    """The connection is `take`'s from now on, the head of the answer still to be sent; `take` closes it."""

    def __init__(self, head: bytes, take: Take) -> None:
        super().__init__("the connection changes hands")
        self.head = head
        self.take = take


class EndlessResponse(Response):
    """An answer of this kind: `beginning` where it cannot go on."""

    def __init__(self, beginning: str, take: Take, content_type: str) -> None:
        super().__init__(beginning, 200, content_type=content_type)
        self._take = take

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Raises Handover where the server can do that."""
        if not environ.get(OFFERED) or environ["REQUEST_METHOD"] != "GET":
            return super().__call__(environ, start_response)
        raise Handover(self._head(environ), self._take)

    def _head(self, environ: Any) -> bytes:
        headers = self.get_wsgi_headers(environ)
        # Until the connection ends: that is older than chunks, and every proxy knows it.
        headers.remove("Content-Length")
        headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")
