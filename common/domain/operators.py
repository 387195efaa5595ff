"""How values are compared: what each kind can be asked, what may be wanted, how it is made ready, whether it holds."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import re2

from common.domain.jsonpath import ABSENT
from common.domain.patterns import pattern_of
from common.domain.sources import Kind

MAX_VALUE_CHARS = 1_000
MAX_VALUES = 50
_SHOWN_CHARS = 200

_ORDER = ("lt", "lte", "gt", "gte")
_SEARCH = ("contains", "not_contains", "matches", "not_matches")
_TEXT = (*_SEARCH, "eq", "ne", "in", "not_in", "exists")

#: What each kind can be asked; the order is the one of the documentation.
OPS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        Kind.STATUS: ("in", "not_in", "eq", "ne"),
        Kind.BYTES: _TEXT,
        Kind.TEXT: _TEXT,
        Kind.HEADERS: ("exists", "eq", "ne", "in", "not_in", *_SEARCH),
        Kind.ANSWERS: ("exists", "eq", "ne", "in", "not_in", *_SEARCH),
        Kind.NUMBER: (*_ORDER, "eq", "ne", "exists"),
        Kind.MILLISECONDS: (*_ORDER, "exists"),
        Kind.VALUE: ("eq", "ne", *_ORDER, "in", "not_in", *_SEARCH, "exists"),
    }
)
PATTERNS = frozenset({"matches", "not_matches"})


def number_of(value: object) -> float | None:
    """A finite number; JSON's true and false are none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def measured(value: object) -> float | None:
    """A number as a server tells it: databases answer in text."""
    if isinstance(value, str) and len(value) < 100:
        try:
            value = float(value)
        except ValueError:
            return None
    return number_of(value)


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


def status_ranges(value: object) -> tuple[tuple[int, int], ...] | None:
    """One status or range, or a list of them; None when any of it is wrong."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    ranges = [_status_range(item) for item in values]
    found = tuple(item for item in ranges if item is not None)
    return found if found and len(found) == len(ranges) else None


# -- at the API's edge ------------------------------------------------------------------------------------------


def value_problem(kind: Kind, op: str, value: object) -> str | None:
    """Say what is wrong with a wanted value; None when it is good."""
    if op == "exists":
        return None if value is None or isinstance(value, bool) else "value must be true, false or absent"
    if kind is Kind.STATUS:
        return _status_problem(op, value)
    if kind in (Kind.NUMBER, Kind.MILLISECONDS) or op in _ORDER:
        return _number_problem(kind, value)
    listed = kind is Kind.ANSWERS and op in ("eq", "ne") and isinstance(value, (list, tuple))
    if listed or op in ("in", "not_in"):
        return _list_problem(kind, value)
    scalar = kind is Kind.VALUE and op in ("eq", "ne")
    return _scalar_problem(value) if scalar else text_problem(value, pattern=op in PATTERNS)


def _status_problem(op: str, value: object) -> str | None:
    single = op in ("eq", "ne")
    if status_ranges(value) is None or (isinstance(value, (list, tuple)) and (single or len(value) > MAX_VALUES)):
        return f'value must be a status (204) or range ("200-299", "2xx"){"" if single else ", or a list of them"}'
    return None


def _number_problem(kind: Kind, value: object) -> str | None:
    number = number_of(value)
    if kind is Kind.MILLISECONDS:
        return None if number is not None and number > 0 else "value must be a number of milliseconds above 0"
    return None if number is not None else "value must be a number"


def _list_problem(kind: Kind, value: object) -> str | None:
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= MAX_VALUES:
        return f"value must be a list of 1 to {MAX_VALUES} items"
    problems = (_scalar_problem(item) if kind is Kind.VALUE else text_problem(item, pattern=False) for item in value)
    return next((trouble for trouble in problems if trouble is not None), None)


def _scalar_problem(value: object) -> str | None:
    if value is None or isinstance(value, bool) or number_of(value) is not None or value == "":
        return None
    return (
        text_problem(value, pattern=False)
        if isinstance(value, str)
        else "value must be a text, number, boolean or null"
    )


def text_problem(value: object, *, pattern: bool) -> str | None:
    """Say what is wrong with a text or RE2 pattern; None when it is good."""
    if not isinstance(value, str) or not value:
        return "value must be a text that is not empty"
    if len(value) > MAX_VALUE_CHARS:
        return f"value is longer than {MAX_VALUE_CHARS} characters"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "value is not valid Unicode"
    if pattern:
        try:
            pattern_of(value)
        except re2.error as error:
            return f"not a valid RE2 pattern: {_explain(error)}"
    return None


def _explain(error: Exception) -> str:
    detail = error.args[0] if error.args else b""
    return shortened(detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail))


# -- in the worker ----------------------------------------------------------------------------------------------


def wanted_of(kind: Kind, op: str, value: Any) -> Any:
    """A good value, ready to compare with."""
    if op == "exists":
        return value is not False
    if kind is Kind.STATUS:
        return status_ranges(value)
    if op in PATTERNS:
        return pattern_of(value)
    if kind is Kind.BYTES:
        return [item.encode() for item in value] if op in ("in", "not_in") else value.encode()
    if kind is Kind.ANSWERS and op in ("eq", "ne", "in", "not_in"):
        return {folded(item) for item in (value if isinstance(value, (list, tuple)) else [value])}
    return value


def folded(text: str) -> str:
    """One spelling of names and addresses: DNS knows no case, and the dot at the end says nothing."""
    text = text.strip().rstrip(".").casefold()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _in_ranges(wanted: Any, status: int) -> bool:
    return any(low <= status <= high for low, high in wanted)


def _same(wanted: Any, value: Any) -> bool:
    """Equal as people mean it: a database's "5" is 5, JSON's true is not 1."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return (wanted is value) or (isinstance(value, str) and str(wanted).lower() == value.lower())
    number = number_of(wanted)
    return measured(value) == number if number is not None else bool(wanted == value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "null" if value is None else str(value)


def _has(wanted: str, value: Any) -> bool:
    return wanted in value if isinstance(value, list) else wanted in _text(value)


_NUMBERS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda wanted, value: value < wanted,
    "lte": lambda wanted, value: value <= wanted,
    "gt": lambda wanted, value: value > wanted,
    "gte": lambda wanted, value: value >= wanted,
    "eq": lambda wanted, value: value == wanted,
}
_TEXTS: dict[str, Callable[[Any, Any], bool]] = {
    "contains": lambda wanted, text: wanted in text,
    "matches": lambda wanted, text: wanted.search(text) is not None,
    # A final newline is no difference that anybody means.
    "eq": lambda wanted, text: wanted.strip() == text.strip(),
    "in": lambda wanted, text: text.strip() in [item.strip() for item in wanted],
}


def _ordered(op: str) -> Callable[[Any, Any], bool]:
    """A number in any form is compared; what is none is neither more nor less."""
    test = _NUMBERS[op]

    def holds(wanted: Any, value: Any) -> bool:
        number = measured(value)
        return number is not None and test(wanted, number)

    return holds


_BY_KIND: dict[Kind, dict[str, Callable[[Any, Any], bool]]] = {
    Kind.STATUS: {"in": _in_ranges, "eq": _in_ranges},
    Kind.BYTES: _TEXTS,
    Kind.TEXT: _TEXTS,
    # Several headers of one name: one that fits is enough, and for `ne` none may be equal.
    Kind.HEADERS: {
        "eq": lambda wanted, values: wanted in values,
        "in": lambda wanted, values: any(value in wanted for value in values),
        "contains": lambda wanted, values: any(wanted in text for text in values),
        "matches": lambda wanted, values: any(wanted.search(text) for text in values),
    },
    # A set: exactly these, only these, at least one like this.
    Kind.ANSWERS: {
        "eq": lambda wanted, values: {folded(value) for value in values} == wanted,
        "in": lambda wanted, values: bool(values) and {folded(value) for value in values} <= wanted,
        "contains": lambda wanted, values: any(wanted.casefold() in text.casefold() for text in values),
        "matches": lambda wanted, values: any(wanted.search(text) for text in values),
    },
    Kind.NUMBER: _NUMBERS,
    Kind.MILLISECONDS: _NUMBERS,
    Kind.VALUE: {
        "eq": _same,
        "in": lambda wanted, value: any(_same(item, value) for item in wanted),
        "contains": _has,
        "matches": lambda wanted, value: wanted.search(_text(value)) is not None,
        **{op: _ordered(op) for op in _ORDER},
    },
}
_OPPOSITES = {"ne": "eq", "not_in": "in", "not_contains": "contains", "not_matches": "matches"}


def test_of(kind: Kind, op: str) -> Callable[[Any, Any], bool]:
    """(wanted, value) → does it hold? Where there is no value, only `exists: false` and the negations hold."""
    nothing = ABSENT if kind is Kind.VALUE else None
    if op == "exists":
        full = kind in (Kind.BYTES, Kind.TEXT, Kind.HEADERS, Kind.ANSWERS)
        return lambda wanted, value: (value is not nothing and (bool(value) or not full)) is wanted
    opposite = _OPPOSITES.get(op)
    test = _BY_KIND[kind][opposite or op]
    if opposite is not None:
        return lambda wanted, value: value is nothing or not test(wanted, value)
    if kind in (Kind.STATUS, Kind.BYTES, Kind.HEADERS):
        return test  # always there, and the hot path: no further question
    return lambda wanted, value: value is not nothing and test(wanted, value)


def shortened(value: object) -> str:
    """At most 200 characters, as rows and messages hold."""
    return str(value)[:_SHOWN_CHARS]
