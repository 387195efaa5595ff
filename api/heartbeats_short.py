"""The short way of a ping: taken before Flask, since most of what a ping costs is the way of a request through it.

Whatever is not a plain ping that a monitor takes goes the long way, to api/heartbeats_ping.py, which words refusals;
so does what a browser sends, and what wants to be traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from api import heartbeats_words
from api.heartbeats_intake import PingIntake
from common import telemetry
from common.clock import monotonic_s
from common.domain.errors import Throttled, Unavailable
from common.domain.heartbeats import PingKind
from common.store.heartbeats_intake import Heard

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

#: What the long way is told in the request's environment of a ping that was not taken: its secret is nobody's, or why.
ASKED = "tocsin.ping"
UNKNOWN = "unknown"


_METHODS = frozenset({"GET", "HEAD", "POST"})
_LONG = ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_X_REQUEST_ID", "HTTP_TRANSFER_ENCODING")
#: Of a longer body the long way says what is wrong.
_MAX_BODY_BYTES = 65_536
_PINGED = b"OK"
_PUSHED = b'{"ok":true}'
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]
_PING_HEADERS = [
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Content-Length", str(len(_PINGED))),
    ("Access-Control-Allow-Origin", "*"),
    ("Ping-Body-Limit", str(heartbeats_words.BODY_BYTES)),
    *_HEADERS,
]
_PUSH_HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(_PUSHED))), *_HEADERS]


class ShortWay:
    """Stands before the app's own WSGI."""

    def __init__(self, app: Wsgi, intake: PingIntake) -> None:
        self._app = app
        self._intake = intake

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Take a ping, or let the app answer."""
        path: str = environ["PATH_INFO"]
        if not path.startswith(("/ping/", "/api/push/")) or environ["REQUEST_METHOD"] not in _METHODS:
            return self._app(environ, start_response)
        began_s = monotonic_s()
        heard = None if any(name in environ for name in _LONG) else _read(path.split("/"), environ)
        if heard is None:
            return self._app(environ, start_response)
        try:
            if not self._intake.take(heard):
                environ[ASKED] = UNKNOWN
                return self._app(environ, start_response)
        except (Throttled, Unavailable) as error:
            environ[ASKED] = error
            return self._app(environ, start_response)
        return _answer(environ, path, start_response, began_s)


def _read(parts: list[str], environ: Environ) -> Heard | None:
    """The ping, or None where the long way has something to say about it."""
    query = dict(reversed(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)))
    source = heartbeats_words.network(environ.get("REMOTE_ADDR", ""))
    if parts[1] == "api":
        if len(parts) != 4 or not heartbeats_words.possible(query.get("ping", "")):
            return None
        return heartbeats_words.push(parts[3], query, source)
    act = heartbeats_words.action(parts[3]) if len(parts) == 4 else (PingKind.SUCCESS, None)
    rid = query.get("rid")
    if len(parts) > 4 or act is None or (act[1] or 0) > heartbeats_words.MAX_EXIT:
        return None
    if rid is not None and heartbeats_words.uuid_of(rid) is None:
        return None
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
        return None
    body = environ["wsgi.input"].read(int(length)) if length != "0" else b""
    return heartbeats_words.ping(parts[2], act[0], exit_code=act[1], rid=rid, body=body, source=source)


def _answer(environ: Environ, path: str, start_response: Any, began_s: float) -> Iterable[bytes]:
    pinged = path.startswith("/ping/")
    headers = [*(_PING_HEADERS if pinged else _PUSH_HEADERS), ("X-Request-ID", str(uuid4()))]
    start_response("200 OK", headers)
    method = environ["REQUEST_METHOD"]
    route = "/api/push/<token>" if not pinged else "/ping/<code>/<action>" if path.count("/") == 3 else "/ping/<code>"
    telemetry.API_REQUESTS.labels(method, route, 200).inc()
    telemetry.API_DURATION.labels(method, route).observe(monotonic_s() - began_s)
    return [b"" if method == "HEAD" else _PINGED if pinged else _PUSHED]
