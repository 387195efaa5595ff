"""What answers and failures of the wire mean in the client's words."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

import requests

from common.client_errors import Problem, Unreachable
from common.clock import utc_now
from common.domain.errors import FieldError

#: What the system says of a connection that does not come about, in words.
_REASONS: Mapping[int, str] = MappingProxyType(
    {
        errno.ECONNREFUSED: "nothing listens there",
        errno.ECONNRESET: "the connection was reset",
        errno.EHOSTUNREACH: "no way leads there",
        errno.ENETUNREACH: "no way leads there",
        errno.EPIPE: "the connection broke off",
    }
)


def problem_of(response: requests.Response, said: Any, url: str) -> Problem:
    """What a refusal says; one that is not Tocsin's (a proxy's) says its status."""
    wait_s = _retry_after_s(response.headers.get("Retry-After"))
    status = response.status_code
    if not isinstance(said, dict) or not isinstance(said.get("code"), str):
        return Problem(status, "", f"{url} answered {status} {response.reason or ''}".strip(), retry_after_s=wait_s)
    return Problem(
        status,
        said["code"],
        str(said.get("message") or said.get("title") or status),
        tuple(_details(said.get("details"))),
        str(said.get("request_id") or response.headers.get("X-Request-ID", "")),
        wait_s,
    )


def trouble_of(error: requests.RequestException, url: str, timeout_s: float) -> Unreachable:
    """Why there is no answer. What the library says is not shown: it may hold what was sent."""
    if isinstance(error, requests.exceptions.SSLError):
        return Unreachable(f"{url}: no secure connection ({_certificate(error)})", permanent=True)
    if isinstance(error, requests.exceptions.ProxyError):
        return Unreachable(f"{url}: the proxy of this environment does not lead there")
    if isinstance(error, requests.ConnectTimeout):
        return Unreachable(f"{url}: no connection came about in time")
    if isinstance(error, requests.ReadTimeout):
        return Unreachable(f"{url}: no answer within {timeout_s:.0f} s")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return Unreachable(f"{url}: {_reason(error)}")
    return Unreachable(f"{url}: the request could not be sent", permanent=True)


def _reason(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno in _REASONS:
            return _REASONS[cause.errno]
    return "the connection broke off"


def _certificate(error: BaseException) -> str:
    messages = (getattr(cause, "verify_message", "") for cause in _causes(error))
    return next((text for text in messages if text), "TLS failed")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything inside it: urllib3 keeps the cause in `reason`, `args` or as context."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting.extend(one for one in inner if isinstance(one, BaseException))


def _details(given: Any) -> Iterator[FieldError]:
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict):
            yield FieldError(str(item.get("field", "")), str(item.get("message", "")))


def _retry_after_s(text: str | None) -> float | None:
    """Seconds, given as such or as a date."""
    if text is None:
        return None
    if text.strip().isdecimal() and len(text) < 10:
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - utc_now()).total_seconds())
