"""Around every request: its id in logs, answer and errors; one log line; metrics."""

from __future__ import annotations

import re
from uuid import uuid4

from flask import Flask, Response, g, request

from common import log, telemetry
from common.clock import monotonic_s

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

#: As long as an id of ours is.
_ID_CHARS = 36

#: Everything else that a client may write there would be a label of its own.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_PINGS = ("/ping/<code>", "/ping/<code>/<action>", "/api/push/<token>")
#: Asked every few seconds by machines: their success is not worth a line.
QUIET = frozenset({"/livez", "/health", "/healthz", "/readyz", "/ready", "/metrics", *_PINGS})


def watch_requests(app: Flask) -> None:
    """Give every request an id and an end."""
    app.before_request(_begin)
    app.after_request(_end)
    # The thread's next line may be gunicorn's own, about something else.
    app.teardown_request(lambda _error: log.clear())


def _begin() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _ID.fullmatch(given) else str(uuid4())
    g.began_s = monotonic_s()
    # A thread serves many requests: nothing of the one before may stay bound.
    log.clear()
    log.bind(request_id=g.request_id)


def _end(response: Response) -> Response:
    duration_s = monotonic_s() - g.began_s
    # The endpoint's name: method and path.
    route = request.endpoint.partition(" ")[2] if request.endpoint else "unmatched"
    method = request.method if request.method in METHODS else "other"
    telemetry.API_REQUESTS.labels(method, route, response.status_code).inc()
    telemetry.API_DURATION.labels(method, route).observe(duration_s)
    if route not in QUIET or response.status_code >= 500:
        log.get_logger().info(
            "request",
            method=method,
            route=route,
            status=response.status_code,
            duration_ms=round(duration_s * 1000, 1),
            **_ids(),
        )
    response.headers["X-Request-ID"] = g.request_id
    return response


def _ids() -> dict[str, str]:
    """What the path names by id; other parts of a path may be secrets. Anybody may have written it: cut."""
    given = request.view_args or {}
    return {name: value[:_ID_CHARS] for name, value in given.items() if name.endswith("_id")}
