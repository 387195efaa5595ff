"""Every error as the one shape: application/problem+json with code, message, request_id and details.

Foreign errors are translated here and nowhere else: Werkzeug's by their status, the database's by what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from api.context import request_id
from common import log, telemetry
from common.domain.errors import (
    Contended,
    FieldError,
    Full,
    NotMigrated,
    RequestError,
    StillRunning,
    Throttled,
    Unavailable,
)
from common.store.engine import Trouble, classify

PROBLEM_TYPE = "application/problem+json"

_CODES = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    414: "URI_TOO_LONG",
    415: "UNSUPPORTED_MEDIA_TYPE",
    431: "HEADERS_TOO_LARGE",
}
_MESSAGES = {
    404: "There is nothing under this path.",
    405: "This path does not have that method.",
}


def register_errors(app: Flask) -> None:
    """Handle every error of the app here."""
    app.register_error_handler(RequestError, _request_error)
    app.register_error_handler(Unavailable, _unavailable)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def code_of(status: int) -> str:
    """The code of an error that has none of its own."""
    return _CODES.get(status) or HTTPStatus(status).phrase.upper().replace(" ", "_")


def problem(status: int, code: str, message: str, details: Sequence[FieldError] = ()) -> Response:
    """The answer to a request that failed."""
    body = problem_document(status, code, message, request_id(), details)
    return Response(body, status, content_type=PROBLEM_TYPE)


def problem_document(status: int, code: str, message: str, request_id: str, details: Sequence[FieldError] = ()) -> str:
    """That answer's body."""
    return json.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": code,
            "message": message,
            "request_id": request_id,
            "details": [asdict(detail) for detail in details],
        }
    )


def _request_error(error: RequestError) -> Response:
    response = problem(error.status, error.code, error.message, error.details)
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Throttled | StillRunning):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _unavailable(error: Unavailable) -> Response:
    if isinstance(error, Full):
        # Nothing is wrong, and those who come in vain are many: a line for each would say no more.
        telemetry.API_FULL.labels(error.code).inc()
    elif not isinstance(error, NotMigrated):  # which is said once, by the first loop that finds out
        event = "contended" if isinstance(error, Contended) else "dependency_away"
        log.get_logger().warning(event, error=str(error.__cause__ or error))
    response = problem(error.status, error.code, error.message)
    response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        # A redirect that Werkzeug raises: it is an answer already.
        return error.get_response()  # type: ignore[return-value]
    message = _MESSAGES.get(error.code) or error.description or HTTPStatus(error.code).phrase
    if isinstance(error, RequestEntityTooLarge):
        message = f"The body is larger than {request.max_content_length} bytes."
    response = problem(error.code, code_of(error.code), message)
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    if isinstance(error, RequestEntityTooLarge):
        # What is left of the body was not read: the connection cannot carry another request.
        response.headers["Connection"] = "close"
    return response


def _unexpected(error: Exception) -> Response:
    if classify(error) is Trouble.AWAY:
        # A connection that broke between two statements, where nobody could translate it.
        return _unavailable(Unavailable("The database cannot be reached."))
    log.get_logger().error("unexpected_error", exc_info=error)
    return problem(500, "INTERNAL_ERROR", "Something went wrong on our side; the request id leads to the log line.")
