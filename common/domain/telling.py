"""A failed assertion for people: what was expected, what was seen, in words that hold no secret."""

from __future__ import annotations

from typing import Any

from common.domain.checks import FailedAssertion
from common.domain.jsonpath import ABSENT
from common.domain.monitors import Assertion
from common.domain.operators import shortened
from common.domain.sources import TABLE, Kind, Seen, reader_of

_WORDS = {
    "in": "",
    "eq": "",
    "not_in": "not ",
    "ne": "not ",
    "lt": "under ",
    "lte": "at most ",
    "gt": "over ",
    "gte": "at least ",
    "contains": "containing ",
    "not_contains": "without ",
    "matches": "matching ",
    "not_matches": "not matching ",
}


def told(assertion: Assertion, seen: Seen, where: Any) -> tuple[FailedAssertion, str]:
    """The failed assertion as it is stored, and the message."""
    value = reader_of(assertion.source)(seen, where)
    found = _found(assertion.source, value)
    expected = shortened(expected_text(assertion))
    kept = FailedAssertion(assertion.source, assertion.op, expected, shortened(found))
    return kept, _message(assertion, expected, value, shortened(found))


def expected_text(assertion: Assertion) -> str:
    """What was wanted, for people."""
    value = assertion.value
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _found(source: str, value: Any) -> str:
    kind = TABLE[source].kind
    if value is None or value is ABSENT:
        return "null" if kind is Kind.VALUE and value is None else ""
    if isinstance(value, bytes):
        # Four bytes make one character at most.
        return value[:800].decode("utf-8", "replace")
    if kind in (Kind.HEADERS, Kind.ANSWERS):
        return ", ".join(value)
    if isinstance(value, float) and kind is not Kind.VALUE:
        return f"{value:.1f}"
    return str(value)


def _message(assertion: Assertion, expected: str, value: Any, found: str) -> str:
    source, kind = assertion.source, TABLE[assertion.source].kind
    what = _what(assertion)
    if assertion.op == "exists":
        return f"expected {'no' if assertion.value is False else 'a'} {what}"
    words = _WORDS[assertion.op]
    if kind is Kind.STATUS:
        return f"expected status {words}{expected}, got {found}"
    if source == "latency_ms":
        return f"expected {words}{assertion.value} ms, took {found} ms"
    if kind is Kind.BYTES:
        return f"expected a body {words or 'equal to '}{expected!r}"
    wanted = expected if kind in (Kind.NUMBER, Kind.MILLISECONDS) else repr(expected)
    return f"expected {what} {words}{wanted}, {_got(assertion, value, found)}"


def _got(assertion: Assertion, value: Any, found: str) -> str:
    source = TABLE[assertion.source]
    if value is ABSENT or (source.kind is not Kind.VALUE and value in (None, "", [])):
        return "got none"
    if source.secret:
        # Only that it was there: a header's value may be a secret, and messages travel far.
        return "got another value"
    return f"got {found}" if source.kind in (Kind.NUMBER, Kind.MILLISECONDS) else f"got {found!r}"


def _what(assertion: Assertion) -> str:
    if assertion.source == "header":
        return f"header {shortened(assertion.name)}"
    return f"json {shortened(assertion.path)}" if assertion.source == "json" else assertion.source
