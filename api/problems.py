"""Which errors a route can answer with, as the OpenAPI document says it: derived from the route's facts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from api.routing import Route


@dataclass(frozen=True, slots=True)
class Kind:
    """One status that is an error: its name in the document, what it means, a code that comes with it."""

    name: str
    meaning: str
    code: str
    headers: tuple[str, ...] = ()


KINDS: dict[int, Kind] = {
    400: Kind("BadRequest", "Something in the request is wrong; `details` says what and where.", "VALIDATION_ERROR"),
    401: Kind("Unauthorized", "No credentials, or none that are good.", "UNAUTHORIZED", ("WWW-Authenticate",)),
    403: Kind("Forbidden", "The credentials are good, and do not allow this.", "FORBIDDEN"),
    404: Kind("NotFound", "There is no such thing in the caller's organization.", "MONITOR_NOT_FOUND"),
    409: Kind("Conflict", "The request collides with what is there; `code` says with what.", "CONFLICT"),
    410: Kind("Gone", "It was there once.", "GONE"),
    412: Kind("PreconditionFailed", "It was changed since it was read.", "PRECONDITION_FAILED"),
    414: Kind("UriTooLong", "The address with its query is too long.", "URI_TOO_LONG"),
    413: Kind("PayloadTooLarge", "The body is too large.", "PAYLOAD_TOO_LARGE"),
    415: Kind("UnsupportedMediaType", "The body must be JSON, and say so.", "UNSUPPORTED_MEDIA_TYPE"),
    428: Kind("PreconditionRequired", "If-Match must be sent.", "PRECONDITION_REQUIRED"),
    429: Kind(
        "TooManyRequests",
        "More requests than the rate limit allows.",
        "RATE_LIMIT_EXCEEDED",
        ("Retry-After", "RateLimit", "RateLimit-Policy"),
    ),
    502: Kind("BadGateway", "A service that we asked did not answer as it should.", "BAD_GATEWAY"),
    503: Kind(
        "Unavailable",
        "A part that is needed is away or busy, as `code` says; try again.",
        "UNAVAILABLE",
        ("Retry-After",),
    ),
    504: Kind("GatewayTimeout", "Whoever should answer did not in time.", "PROBE_UNANSWERED", ("Retry-After",)),
}

HEADERS: dict[str, dict[str, Any]] = {
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}},
    "RateLimit": {
        "description": 'What is left of the tightest limit, and the seconds until it is whole: `"default";r=50;t=30`.',
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": 'That limit: requests in a window of seconds, `"default";q=100;w=60`.',
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true`: this was done before, and is answered again.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {"description": "Where what was made is.", "schema": {"type": "string"}},
    "ETag": {"description": "The version, for If-Match and If-None-Match.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page, `rel="next"`.', "schema": {"type": "string"}},
    "X-Request-ID": {"description": "The request's id, in log lines too.", "schema": {"type": "string"}},
}


#: Something that may not be there; a key in a path is made, or lets in.
_NAMED = re.compile(r"<(?!key>)")


def statuses(route: Route) -> list[int]:
    """Every status that the route may answer with, but for the one of success and errors in a form of its own."""
    facts = route.facts
    reads_body = "body" in facts or "items" in facts
    implied: tuple[tuple[bool, set[int]], ...] = (
        (reads_body, {400, 413, 415}),
        ("query" in facts, {400, 414}),
        (route.permission is not None, {401, 403, 429}),
        ("token" in facts, {401}),
        (_NAMED.search(route.path) is not None, {404}),
        (route.idempotent, {200, 400, 409}),
        (facts.get("versioned", False), {412 if route.writes else 304}),
        (route.limit != "", {429}),
        (route.writes, {403}),  # a browser that another site has sent
        (route.writes or route.path.startswith("/v1/"), {503}),
    )
    found = set(facts.get("statuses", ())).union(*(status for holds, status in implied if holds))
    return sorted(found - {route.status, *facts.get("own_errors", ())})


def components(problem: dict[str, Any]) -> dict[str, Any]:
    """Each kind of error as a response to refer to."""
    return {kind.name: _response(status, kind, problem) for status, kind in KINDS.items()}


def _response(status: int, kind: Kind, problem: dict[str, Any]) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": kind.code,
        "message": kind.meaning,
        "request_id": "0d7c5f5e-6a3c-4c5e-9d7e-2f0c1f4b8a11",
        "details": [{"field": "name", "message": "is required"}] if status == 400 else [],
    }
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in kind.headers}
    return {
        "description": kind.meaning,
        **({"headers": headers} if headers else {}),
        "content": {"application/problem+json": {"schema": problem, "example": example}},
    }
