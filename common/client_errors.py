"""What can go wrong between a client and the API.

ClientError                message; never holds a secret
├── BadAddress             the URL or the token cannot be one: nothing was sent
├── Unreachable            no answer, or not all of it; `permanent`: the same again will not help
├── Foreign                an answer, but not from Tocsin: a redirect, a page, no JSON
└── Refused                Tocsin's own refusal: status, code, details, request_id, retry_after_s
    ├── NotLetIn               401, 403
    ├── Missing                404
    ├── Collision              409
    ├── Stale                  412
    ├── TooMany                429
    └── ServerTrouble          5xx
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from common.domain.errors import FieldError, TocsinError


class ClientError(TocsinError):
    """Base of all that a client raises."""

    code = "CLIENT_ERROR"


class BadAddress(ClientError):
    """The URL or the token is not one."""

    code = "BAD_ADDRESS"


class Unreachable(ClientError):
    """No answer came, or it broke off; whether the request was done is unknown."""

    code = "UNREACHABLE"

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class Foreign(ClientError):
    """Something answers there, but it is not Tocsin's API."""

    code = "FOREIGN_ANSWER"


@dataclass(frozen=True, slots=True)
class Problem:
    """What an application/problem+json says; `retry_after_s` is from the header beside it."""

    status: int
    code: str
    message: str
    details: Sequence[FieldError] = ()
    request_id: str = ""
    retry_after_s: float | None = None


class Refused(ClientError):
    """The API answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message, code=problem.code, details=problem.details)
        self.status = problem.status
        self.request_id = problem.request_id
        self.retry_after_s = problem.retry_after_s


class NotLetIn(Refused):
    """No credentials, none that are good, or none that allow this."""


class Missing(Refused):
    """There is no such thing in the caller's organization."""


class Collision(Refused):
    """It does not go together with what is there; `code` says with what."""


class Stale(Refused):
    """What the caller has seen is no longer how things are."""


class TooMany(Refused):
    """Too many requests."""


class ServerTrouble(Refused):
    """The server cannot answer at the moment, or failed."""


_BY_STATUS: Mapping[int, type[Refused]] = MappingProxyType(
    {401: NotLetIn, 403: NotLetIn, 404: Missing, 409: Collision, 412: Stale, 429: TooMany}
)


def refusal(problem: Problem) -> Refused:
    """The error of a problem's status."""
    return _BY_STATUS.get(problem.status, ServerTrouble if problem.status >= 500 else Refused)(problem)
