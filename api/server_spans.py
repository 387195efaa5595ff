"""A server span for each request worth one: in its caller's trace where it names one, else in one of its own.

What a request brings about (a check by hand, an incident, its notifications) is told in the trace that the request's
id stands for; a caller's trace and that one are linked.
"""

from __future__ import annotations

from flask import Flask, Response, g, request

from api.context import request_id
from api.requests import METHODS, QUIET
from common.clock import to_ms, utc_now
from common.tracing import Span, SpanKind, SpanRef, Tracing, Value, in_share, part_of, read_traceparent, trace_of

#: Requests that bring nothing about.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def tell_requests(app: Flask, tracing: Tracing) -> None:
    """Tell of every request that the sampling wants."""

    def begin() -> None:
        g.span_began_ms = to_ms(utc_now())

    def end(response: Response) -> Response:
        came = read_traceparent(request.headers.get("traceparent", ""))
        own = part_of(trace_of(request_id()), "request")
        if _wanted(tracing, own, came, response.status_code):
            tracing.tell(_spans(own, came[0] if came else None, g.span_began_ms, response))
        return response

    app.before_request(begin)
    app.after_request(end)


def _wanted(tracing: Tracing, own: SpanRef, came: tuple[SpanRef, bool] | None, status: int) -> bool:
    if status >= 500:
        return True
    if came is not None and tracing.sampling.by_parent:
        return came[1]
    if _route() in QUIET:
        return False
    return in_share((came[0] if came else own).trace_id, tracing.sampling.requests)


def _spans(own: SpanRef, caller: SpanRef | None, began_ms: int, response: Response) -> list[Span]:
    method = request.method if request.method in METHODS else "_OTHER"
    name, ended_ms = f"{method} {_route()}", to_ms(utc_now())
    # The route, never the path or the query: parts of those may be secrets.
    about: dict[str, Value] = {
        "http.request.method": method,
        "http.route": _route(),
        "http.response.status_code": response.status_code,
        "url.scheme": request.scheme,
        "tocsin.request.id": request_id(),
    }
    error = str(response.status_code) if response.status_code >= 500 else ""
    if caller is None:
        return [Span(own, name, began_ms, ended_ms, kind=SpanKind.SERVER, attributes=about, error=error)]
    theirs = part_of(caller.trace_id, "request", request_id(), caller.span_id)
    links = () if method in _READING else (own,)
    told = [Span(theirs, name, began_ms, ended_ms, caller.span_id, SpanKind.SERVER, about, error, links=links)]
    if links:
        told.append(Span(own, name, began_ms, ended_ms, attributes=about, error=error, links=(theirs,)))
    return told


def _route() -> str:
    return request.endpoint.partition(" ")[2] if request.endpoint else "unmatched"
