"""What browsers are told and refused: headers on every answer, other sites' requests, origins that may read answers.

Nobody is let in by a cookie, so there is nothing for another site to ride on; it is refused all the same.
"""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, request

from api.errors import problem
from common.settings import Settings

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Pages that show something say what they need (docs, acknowledge); answers need nothing.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HSTS = "max-age=31536000"

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: What a form of any site can send without being asked first; the API reads JSON.
_FORMS = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})

_ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE"
_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Request-ID"
_SHOWN_HEADERS = "ETag, Idempotency-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
_PREFLIGHT_S = 600


def guard_browsers(app: Flask, settings: Settings) -> None:
    """Add the headers, and refuse what a browser sends on behalf of another site."""
    headers = dict(_HEADERS)
    if settings.public_url.startswith("https://"):
        headers["Strict-Transport-Security"] = _HSTS
    origins = frozenset(settings.cors_origin_list)

    def check() -> Response | None:
        allowed = request.headers.get("Origin") in origins
        if allowed and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return Response(status=204)
        return None if allowed else _refusal()

    def answer(response: Response) -> Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        if origins:
            _share(response, origins)
        return response

    app.before_request(check)
    app.after_request(answer)


def _refusal() -> Response | None:
    """What is wrong with a request as one that a browser may have been tricked into; None for nothing."""
    if request.method not in _UNSAFE:
        return None
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        return problem(
            HTTPStatus.FORBIDDEN,
            "CROSS_SITE_REQUEST",
            "A browser sent this on behalf of another site; TOCSIN_CORS_ORIGINS says which sites may.",
        )
    if request.path.startswith("/v1/") and request.mimetype in _FORMS:
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "The body must be JSON (application/json)."
        )
    return None


def _share(response: Response, origins: frozenset[str]) -> None:
    """Let pages of these origins read the answer."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in origins or origin is None:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _SHOWN_HEADERS
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = _ALLOWED_METHODS
        response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_S)
