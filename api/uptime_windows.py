"""From what was asked for to the window that is counted."""

from __future__ import annotations

from api.schemas_uptime import MAX_WINDOW_DAYS, UptimeQuery, window_ms
from common.clock import to_ms
from common.domain.accounting import Span
from common.domain.errors import FieldError, ValidationFailed

_MAX_MS = MAX_WINDOW_DAYS * 86_400_000
_DEFAULT = "24h"

#: A check needs its time, and its result a moment to be committed: what is younger is not settled yet (milliseconds).
_COMMIT_MS = 2_000


def settled_ms(now_ms: int, timeout_s: float) -> int:
    """Up to where the answers of a monitor's checks are there."""
    return now_ms - int(timeout_s * 1000) - _COMMIT_MS


def asked(query: UptimeQuery, now_ms: int) -> Span:
    """Beginning and end of what was asked for. Raises ValidationFailed."""
    if query.window is not None and (query.from_ is not None or query.to is not None):
        raise _wrong("window", "give either window, or from and to")
    if query.to is not None and query.from_ is None:
        raise _wrong("from", "is required with to")
    end_ms = now_ms if query.to is None else min(now_ms, to_ms(query.to))
    if query.from_ is None:
        return end_ms - length_ms(query.window or _DEFAULT), end_ms
    begin_ms = to_ms(query.from_)
    if begin_ms >= end_ms:
        raise _wrong("from", "must be before to, and in the past")
    if end_ms - begin_ms > _MAX_MS:
        raise _wrong("from", f"must be at most {MAX_WINDOW_DAYS} days before to")
    return begin_ms, end_ms


def length_ms(window: str) -> int:
    """How long a window is. Raises ValidationFailed."""
    length = window_ms(window)
    if length > _MAX_MS:
        raise _wrong("window", f"must be at most {MAX_WINDOW_DAYS}d")
    return length


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("Some parameters are wrong.", details=[FieldError(field, message)])
