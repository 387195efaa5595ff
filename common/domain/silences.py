"""What a silence may be: what it holds back, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from common.domain.errors import FieldError
from common.domain.incident import Severity
from common.domain.labels import Matcher, Op, matches
from common.domain.patterns import pattern_of
from common.domain.routing import FIELDS

#: How long a silence lasts at most, and how far ahead it may begin.
LONGEST = timedelta(days=400)

#: Values that have nothing in common but that "everything" holds for them.
_PROBES = (
    "0",
    "tocsin",
    "Any other: value/1!",
    "node-7.b_2@x",
    "9d3f1c4e-7a60-4b1e-8f52-c1d0e6a7b833",
    "Ünïcödé ☃",
    "x" * 200,
)
#: Of what a pattern may match at most, enough to tell "" from anything else.
_RANGE_BYTES = 8


def matches_everything(matcher: Matcher) -> bool:
    """Whether no incident escapes it: `*`, `.*` and their like, and what excludes only what no incident has."""
    if matcher.label == "severity":
        return all(matches(matcher, {"severity": severity}) for severity in Severity)
    # A label may be absent, which is ""; every incident has the fields, so that one of them is not empty says nothing.
    probes = _PROBES if matcher.label in FIELDS else ("", *_PROBES)
    return all(matches(matcher, {matcher.label: probe}) for probe in probes) and not _spares_some(matcher)


def _spares_some(matcher: Matcher) -> bool:
    """Whether a negation excludes anything that could be: more than "", which nothing but a label is."""
    if matcher.op is Op.NE:
        return matcher.value != ""
    if matcher.op is Op.NOT_RE:
        # RE2's upper bound of all that the pattern matches: b"" where that is "" or nothing at all.
        return bool(pattern_of(matcher.value).possiblematchrange(_RANGE_BYTES)[1])
    return False


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
