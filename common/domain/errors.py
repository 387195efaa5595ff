"""The one error tree.

TocsinError                code, message, details
├── SettingsError          a setting is wrong or missing: one line, exit 2
├── StackError             a server of the embedded stack cannot run: one line, exit 2
├── RequestError           the caller can mend it; has an HTTP status
│   ├── ValidationFailed       400 VALIDATION_ERROR
│   ├── InvalidTransition      400 INVALID_STATUS_TRANSITION
│   ├── Unauthorized           401 UNAUTHORIZED
│   ├── Forbidden              403 FORBIDDEN
│   ├── NotFound               404 <RESOURCE>_NOT_FOUND
│   ├── Conflict               409 CONFLICT (or a more exact code)
│   │   └── StillRunning           409 IDEMPOTENCY_KEY_IN_USE; `retry_after_s`
│   ├── PreconditionFailed     412 PRECONDITION_FAILED
│   ├── UnsupportedMedia       415 UNSUPPORTED_MEDIA_TYPE
│   └── Throttled              429 RATE_LIMIT_EXCEEDED; `retry_after_s`
├── Unavailable            503: a part that we need is away; `retry_after_s`
│   ├── Contended              503 CONTENDED: lost a race for rows (deadlock, lock timeout): the same again, now
│   ├── NotMigrated            503 NOT_MIGRATED: the database is there, and its schema is older than this version
│   ├── Full                   503 <PLACES>_FULL or _BUSY: nothing is away, but every place that we give is taken
│   └── Unanswered             504: it is there, and nobody answers through it in time
└── DomainError            a rule of the pure core was broken: a bug, never user input
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field, named by its dotted path as the client sent it."""

    field: str
    message: str


class TocsinError(Exception):
    """Base of all errors that Tocsin raises on purpose; `code` is stable and may be matched by clients."""

    code = "INTERNAL_ERROR"

    def __init__(self, message: str, *, code: str | None = None, details: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        if code is not None:
            self.code = code


class SettingsError(TocsinError):
    """A setting is wrong or missing; the message says which one and what to do."""

    code = "SETTINGS_ERROR"


class StackError(TocsinError):
    """The embedded stack cannot start or go on; the message is one clear line."""

    code = "STACK_ERROR"


class RequestError(TocsinError):
    """Something the caller can mend; `status` is the HTTP status of the answer."""

    status = 400


class ValidationFailed(RequestError):
    """One or more fields are wrong; `details` names each."""

    code = "VALIDATION_ERROR"


class InvalidTransition(RequestError):
    """The incident cannot go from its status to the wanted one; the message lists what is allowed."""

    code = "INVALID_STATUS_TRANSITION"


class Unauthorized(RequestError):
    """No, wrong, expired or revoked credentials."""

    status = 401
    code = "UNAUTHORIZED"


class Forbidden(RequestError):
    """The credentials are good, but their role or scope does not allow this."""

    status = 403
    code = "FORBIDDEN"


class NotFound(RequestError):
    """No such thing in the caller's organization; code is `<RESOURCE>_NOT_FOUND`."""

    status = 404
    code = "NOT_FOUND"

    def __init__(self, resource: str) -> None:
        code = f"{resource.upper().replace(' ', '_')}_NOT_FOUND"
        super().__init__(f"No such {resource} in this organization.", code=code)


class Conflict(RequestError):
    """The request collides with what is already there."""

    status = 409
    code = "CONFLICT"


class StillRunning(Conflict):
    """Another request with the same idempotency key is under way; `retry_after_s` later its answer is there."""

    code = "IDEMPOTENCY_KEY_IN_USE"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PreconditionFailed(RequestError):
    """What the caller has seen is no longer how things are (If-Match)."""

    status = 412
    code = "PRECONDITION_FAILED"


class UnsupportedMedia(RequestError):
    """The body is of a kind that we do not read."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class Throttled(RequestError):
    """Too often; the caller may try again after `retry_after_s`."""

    status = 429
    code = "RATE_LIMIT_EXCEEDED"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(TocsinError):
    """A part that we need (mostly PostgreSQL) is away; the caller may try again."""

    status = 503
    code = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after_s: int = 5, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Contended(Unavailable):
    """The database chose another transaction over this one; the same again may well succeed at once."""

    code = "CONTENDED"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=1)


class NotMigrated(Unavailable):
    """The database's schema is older than this version of the code needs; whoever runs it has to migrate it."""

    code = "NOT_MIGRATED"


class Full(Unavailable):
    """Every place that this process gives is taken; code says which places."""

    code = "FULL"


class Unanswered(Unavailable):
    """Whoever should have answered did not, in time; code says who."""

    status = 504
    code = "UNANSWERED"


class DomainError(TocsinError):
    """A rule of the pure core was broken by our own code."""

    code = "DOMAIN_ERROR"
