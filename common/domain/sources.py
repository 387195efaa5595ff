"""What a monitor can be asked about a response: each source's operators, how they test, how a failure is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from common.domain.monitors import Assertion

_SHOWN_CHARS = 200

#: What each source can be asked; the order is the one of the documentation.
OPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "status": ("in", "not_in", "eq", "ne"),
        "body": ("contains", "not_contains", "matches", "not_matches", "eq"),
        "header": ("exists", "eq", "ne", "contains", "matches"),
        "latency_ms": ("lt", "lte", "gt", "gte"),
    }
)
#: Which sources a monitor of a type has at all.
SOURCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "http": ("status", "body", "header", "latency_ms"),
        "tcp": ("latency_ms",),
    }
)

Ranges = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Seen:
    """What assertions look at. `headers` may stay empty unless `needs_headers`, `body` unless `needs_body`."""

    status: int = 0
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    latency_ms: float = 0.0


def number_of(value: object) -> float | None:
    """A finite number; JSON's true and false are none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _status_range(value: object) -> tuple[int, int] | None:
    """Read 204, "204", "200-299" or "2xx" as an inclusive range."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip().lower()
    if len(text) == 3 and text.endswith("xx") and text[0] in "12345":
        return int(text[0]) * 100, int(text[0]) * 100 + 99
    low, dash, high = text.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) == 3 for part in (low, high if dash else low)):
        return None
    first, last = int(low), int(high if dash else low)
    return (first, last) if 100 <= first <= last <= 599 else None


def status_ranges(value: object) -> Ranges | None:
    """One status or range, or a list of them; None when any of it is wrong."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    ranges = [_status_range(item) for item in values]
    found = tuple(item for item in ranges if item is not None)
    return found if found and len(found) == len(ranges) else None


def _in_ranges(wanted: Ranges, seen: Seen, _name: str) -> bool:
    status = seen.status
    return any(low <= status <= high for low, high in wanted)


def _values(seen: Seen, name: str) -> list[str]:
    wanted = name.lower()
    return [value for key, value in seen.headers if key.lower() == wanted]


#: (source, op) → does it hold? Several headers of one name: one that fits is enough, and for `ne` none may be equal.
TESTS: dict[tuple[str, str], Callable[[Any, Seen, str], bool]] = {
    ("status", "in"): _in_ranges,
    ("status", "eq"): _in_ranges,
    ("status", "not_in"): lambda wanted, seen, name: not _in_ranges(wanted, seen, name),
    ("status", "ne"): lambda wanted, seen, name: not _in_ranges(wanted, seen, name),
    ("body", "contains"): lambda wanted, seen, _name: wanted in seen.body,
    ("body", "not_contains"): lambda wanted, seen, _name: wanted not in seen.body,
    ("body", "matches"): lambda wanted, seen, _name: wanted.search(seen.body) is not None,
    ("body", "not_matches"): lambda wanted, seen, _name: wanted.search(seen.body) is None,
    # A final newline is no difference that anybody means.
    ("body", "eq"): lambda wanted, seen, _name: wanted.strip() == seen.body.strip(),
    ("header", "exists"): lambda wanted, seen, name: bool(_values(seen, name)) is wanted,
    ("header", "eq"): lambda wanted, seen, name: wanted in _values(seen, name),
    ("header", "ne"): lambda wanted, seen, name: wanted not in _values(seen, name),
    ("header", "contains"): lambda wanted, seen, name: any(wanted in text for text in _values(seen, name)),
    ("header", "matches"): lambda wanted, seen, name: any(wanted.search(text) for text in _values(seen, name)),
    ("latency_ms", "lt"): lambda wanted, seen, _name: seen.latency_ms < wanted,
    ("latency_ms", "lte"): lambda wanted, seen, _name: seen.latency_ms <= wanted,
    ("latency_ms", "gt"): lambda wanted, seen, _name: seen.latency_ms > wanted,
    ("latency_ms", "gte"): lambda wanted, seen, _name: seen.latency_ms >= wanted,
}
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


def _describe_status(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    wanted = _WORDS[assertion.op] + shortened(expected_text(assertion))
    return str(seen.status), f"expected status {wanted}, got {seen.status}"


def _describe_body(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    found = seen.body[: _SHOWN_CHARS * 4].decode("utf-8", "replace")
    word = _WORDS[assertion.op] or "equal to "
    return found, f"expected a body {word}{shortened(expected_text(assertion))!r}"


def _describe_header(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    found = ", ".join(_values(seen, assertion.name))
    name = shortened(assertion.name)
    if assertion.op == "exists":
        return found, f"expected {'no header' if assertion.value is False else 'a header'} {name}"
    # Only whether it was there: a header's value may be a secret, and messages travel far.
    state = "got another value" if found else "got none"
    return found, f"expected header {name} {_WORDS[assertion.op]}{shortened(expected_text(assertion))!r}, {state}"


def _describe_latency(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    found = f"{seen.latency_ms:.1f}"
    return found, f"expected {_WORDS[assertion.op]}{assertion.value} ms, took {found} ms"


DESCRIBE: dict[str, Callable[[Assertion, Seen], tuple[str, str]]] = {
    "status": _describe_status,
    "body": _describe_body,
    "header": _describe_header,
    "latency_ms": _describe_latency,
}


def expected_text(assertion: Assertion) -> str:
    """What was wanted, for people."""
    value = assertion.value
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def shortened(value: object) -> str:
    """At most 200 characters, as rows and messages hold."""
    return str(value)[:_SHOWN_CHARS]
