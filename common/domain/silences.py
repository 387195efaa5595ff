"""What a silence may be: what it holds back, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from common.domain.errors import FieldError
from common.domain.labels import Matcher, Op, matches
from common.domain.routing import FIELDS

#: How long a silence lasts at most, and how far ahead it may begin.
LONGEST = timedelta(days=400)

#: Values that have nothing in common but that "everything" holds for them. An absent label is "".
_PROBES = ("", "0", "tocsin", "Any other: value/1!")


def matches_everything(matcher: Matcher) -> bool:
    """Whether no incident escapes it: `*`, `.*` and their like. Of `!=` and `!~` nobody can tell, so they do not."""
    if matcher.op in (Op.NE, Op.NOT_RE):
        return False
    # Every incident has these fields: that one of them is not empty says nothing.
    probes = _PROBES[1:] if matcher.label in FIELDS else _PROBES
    return all(matches(matcher, {matcher.label: probe}) for probe in probes)


def time_problems(starts_at: datetime, ends_at: datetime, now: datetime, end_field: str) -> Iterator[FieldError]:
    """What is wrong with these times; `end_field` is what the client gave the end by."""
    if starts_at > now + LONGEST:
        yield FieldError("starts_at", f"must lie within {LONGEST.days} days")
    elif ends_at <= starts_at:
        yield FieldError(end_field, "must lie after starts_at")
    elif ends_at <= now:
        yield FieldError(end_field, "must lie in the future")
    elif ends_at - starts_at > LONGEST:
        yield FieldError(end_field, f"must lie within {LONGEST.days} days of starts_at")
