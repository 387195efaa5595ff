"""/v1/stream: what happens, as server-sent events."""

from __future__ import annotations

import secrets
import socket

from flask import Response, request

from api import auth
from api.context import caller, services
from api.handover import EndlessResponse
from api.routing import Routes
from api.schemas_pages import StreamQuery
from api.stream_access import INCIDENTS, of_request
from common.domain.errors import Full

routes = Routes("pages")

#: When a client comes again after its connection broke (milliseconds): at once from all would be a storm.
_RETRY_MS = (2_000, 5_000)


@routes.get("/v1/stream", permission=INCIDENTS, query=StreamQuery, media_type="text/event-stream")
def open_stream(query: StreamQuery) -> Response:
    """Server-sent events: `incident`, for every event of every incident, numbered by `id`; `monitors`, once a second.

    Sent back as Last-Event-ID, a number that is 24 hours old at most makes the stream go on after it, and nothing is
    missed; otherwise it begins with `reset`: read the lists again. `monitors` with `more` says the same of monitors.
    Where there is no room for another stream: 503, and clients ask from time to time instead. See docs/pages.md.
    """
    streams = services().streams
    access = of_request(auth.permissions_of_caller(caller()))
    place = streams.reserve(access)
    if place is None:
        raise Full(
            "This API process has no room for another stream (TOCSIN_STREAMS), or for another one of this key or"
            " session (TOCSIN_STREAMS_PER_CREDENTIAL); ask from time to time instead.",
            code="STREAMS_FULL",
            retry_after_s=30,
        )
    asked = request.headers.get("Last-Event-ID") or query.last_event_id
    retry = f"retry: {_RETRY_MS[0] + secrets.randbelow(_RETRY_MS[1] - _RETRY_MS[0])}\n\n"

    def take(sock: socket.socket, head: bytes) -> None:
        streams.open(sock, head + retry.encode(), place, asked)

    response = EndlessResponse(retry, take, "text/event-stream; charset=utf-8")
    response.call_on_close(lambda: streams.release(place))  # closed here, it has not changed hands
    # Proxies that would wait until an answer is whole: nginx reads this.
    response.headers["X-Accel-Buffering"] = "no"
    return response
