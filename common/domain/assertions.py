"""Judge a response against a monitor's assertions: checked at the API, compiled once per config, decided here.

All assertions must hold; "down" beats "degraded"; without one on the status, 200-299 is required. Patterns run on
RE2, so no pattern can hold the process (`(a+)+$` is linear there) and each has a bounded memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import re2

from common.domain.checks import FailedAssertion, Reason, Verdict
from common.domain.monitors import Assertion

KEEP_BODY_BYTES = 1024 * 1024
MAX_VALUE_CHARS = 1_000
MAX_ASSERTIONS = 50
_SHOWN_CHARS = 200
_PATTERN_MEMORY_BYTES = 4 * 1024 * 1024

#: What each source can be asked; the order is the one of the documentation.
OPS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "status": ("in", "not_in", "eq", "ne"),
    "body": ("contains", "not_contains", "matches", "not_matches", "eq"),
    "header": ("exists", "eq", "ne", "contains", "matches"),
    "latency_ms": ("lt", "lte", "gt", "gte"),
})
#: Which sources a monitor of a type has at all.
SOURCES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "http": ("status", "body", "header", "latency_ms"),
    "tcp": ("latency_ms",),
})
_REASONS = {
    "status": Reason.STATUS_MISMATCH,
    "body": Reason.BODY_MISMATCH,
    "header": Reason.HEADER_MISMATCH,
    "latency_ms": Reason.LATENCY_EXCEEDED,
}
_VERDICTS = {"down": Verdict.DOWN, "degraded": Verdict.DEGRADED}

Ranges = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Seen:
    """What assertions look at. `headers` may stay empty unless `needs_headers`, `body` unless `needs_body`."""

    status: int = 0
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    latency_ms: float = 0.0


@dataclass(slots=True)
class Judgement:
    """The verdict, and for people and rows why it is not up."""

    verdict: Verdict
    reason: Reason = Reason.NONE
    failed: FailedAssertion | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One assertion, ready to run: `wanted` is ranges, bytes, text, a number or an RE2 pattern."""

    assertion: Assertion
    wanted: Any
    holds: Callable[[Any, Seen, str], bool]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CompiledAssertions:
    """A monitor's assertions, ready to judge; worth keeping as long as its config_version stands."""

    items: tuple[_Compiled, ...]
    wants_2xx: bool
    needs_body: bool
    needs_headers: bool


def _number(value: object) -> float | None:
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


def _status_ranges(value: object) -> Ranges | None:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    ranges = [_status_range(item) for item in values]
    found = tuple(item for item in ranges if item is not None)
    return found if found and len(found) == len(ranges) else None


def _pattern(text: str) -> Any:
    """Compile with RE2. Raises re2.error, whose argument is RE2's own explanation."""
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(text, options)


# -- at the API's edge ------------------------------------------------------------------------------------------


def problem(assertion: Assertion, monitor_type: str = "http") -> str | None:
    """Say what is wrong with one assertion, for a 400; None when it is good."""
    sources = SOURCES.get(monitor_type, ())
    if assertion.source not in sources:
        return f"unknown source {_short(assertion.source)!r}; a {monitor_type} monitor has: {', '.join(sources)}"
    ops = OPS[assertion.source]
    if assertion.op not in ops:
        return f"unknown op {_short(assertion.op)!r}; {assertion.source} has: {', '.join(ops)}"
    if assertion.on_fail not in _VERDICTS:
        return "on_fail must be down or degraded"
    return _name_problem(assertion) or _value_problem(assertion)


def _name_problem(assertion: Assertion) -> str | None:
    if assertion.source != "header":
        return None if not assertion.name else "only a header assertion has a name"
    if not isinstance(assertion.name, str) or not assertion.name:
        return "a header assertion needs the header's name"
    if len(assertion.name) > MAX_VALUE_CHARS or not assertion.name.isascii() or not assertion.name.isprintable():
        return "the header's name is not valid"
    return None


def _value_problem(assertion: Assertion) -> str | None:
    value = assertion.value
    if assertion.source == "status":
        single = assertion.op in ("eq", "ne")
        if (isinstance(value, (list, tuple)) and (single or len(value) > MAX_ASSERTIONS)) or _status_ranges(value) is None:
            return 'value must be a status (204) or range ("200-299", "2xx")' + ("" if single else ", or a list of them")
        return None
    if assertion.source == "latency_ms":
        number = _number(value)
        return None if number is not None and number > 0 else "value must be a number of milliseconds above 0"
    if assertion.op == "exists":
        return None if value is None or isinstance(value, bool) else "value must be true, false or absent"
    return _text_problem(value, pattern=assertion.op in ("matches", "not_matches"))


def _text_problem(value: object, *, pattern: bool) -> str | None:
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
            _pattern(value)
        except re2.error as error:
            return f"not a valid RE2 pattern: {_explain(error)}"
    return None


def _explain(error: Exception) -> str:
    detail = error.args[0] if error.args else b""
    return _short(detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail))


# -- in the worker ----------------------------------------------------------------------------------------------


def compile_assertions(assertions: Sequence[Assertion], monitor_type: str = "http") -> CompiledAssertions:
    """Compile assertions that `problem` has passed; one that it would refuse raises ValueError."""
    items = tuple(_compile(assertion, monitor_type) for assertion in assertions)
    sources = {item.assertion.source for item in items}
    return CompiledAssertions(
        items=items,
        wants_2xx="status" in SOURCES.get(monitor_type, ()) and "status" not in sources,
        needs_body="body" in sources,
        needs_headers="header" in sources,
    )


def needs_body(assertions: Sequence[Assertion]) -> bool:
    """Must the probe keep the body (its first KEEP_BODY_BYTES), or is counting it enough?"""
    return any(assertion.source == "body" for assertion in assertions)


def _compile(assertion: Assertion, monitor_type: str) -> _Compiled:
    trouble = problem(assertion, monitor_type)
    if trouble is not None:
        raise ValueError(trouble)
    return _Compiled(
        assertion=assertion,
        wanted=_wanted(assertion),
        holds=_TESTS[assertion.source, assertion.op],
        verdict=_VERDICTS[assertion.on_fail],
    )


def _wanted(assertion: Assertion) -> Any:
    if assertion.source == "status":
        return _status_ranges(assertion.value)
    if assertion.op in ("matches", "not_matches"):
        return _pattern(assertion.value)
    if assertion.source == "body":
        return assertion.value.encode()
    if assertion.op == "exists":
        return assertion.value is not False
    return assertion.value


def judge_response(compiled: CompiledAssertions, seen: Seen) -> Judgement:
    """Judge what was seen. The first "down" decides; else the first "degraded"; else the monitor is up."""
    if compiled.wants_2xx and not 200 <= seen.status <= 299:
        return _failure(_WANT_2XX, seen)
    milder: _Compiled | None = None
    for item in compiled.items:
        if item.holds(item.wanted, seen, item.assertion.name):
            continue
        if item.verdict is Verdict.DOWN:
            return _failure(item, seen)
        milder = milder or item
    return Judgement(Verdict.UP) if milder is None else _failure(milder, seen)


def _failure(item: _Compiled, seen: Seen) -> Judgement:
    assertion = item.assertion
    found, message = _DESCRIBE[assertion.source](assertion, seen)
    return Judgement(
        verdict=item.verdict,
        reason=_REASONS[assertion.source],
        failed=FailedAssertion(assertion.source, assertion.op, _short(_expected(assertion)), _short(found)),
        message=message,
    )


# -- what each source holds and how it tells ---------------------------------------------------------------------


def _in_ranges(wanted: Ranges, seen: Seen, _name: str) -> bool:
    status = seen.status
    return any(low <= status <= high for low, high in wanted)


def _values(seen: Seen, name: str) -> list[str]:
    wanted = name.lower()
    return [value for key, value in seen.headers if key.lower() == wanted]


#: (source, op) → does it hold? Several headers of one name: one that fits is enough, and for `ne` none may be equal.
_TESTS: dict[tuple[str, str], Callable[[Any, Seen, str], bool]] = {
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
    ("header", "contains"): lambda wanted, seen, name: any(wanted in value for value in _values(seen, name)),
    ("header", "matches"): lambda wanted, seen, name: any(wanted.search(value) for value in _values(seen, name)),
    ("latency_ms", "lt"): lambda wanted, seen, _name: seen.latency_ms < wanted,
    ("latency_ms", "lte"): lambda wanted, seen, _name: seen.latency_ms <= wanted,
    ("latency_ms", "gt"): lambda wanted, seen, _name: seen.latency_ms > wanted,
    ("latency_ms", "gte"): lambda wanted, seen, _name: seen.latency_ms >= wanted,
}
_WANT_2XX = _Compiled(Assertion("status", "in", "200-299"), ((200, 299),), _in_ranges, Verdict.DOWN)
_WORDS = {
    "in": "", "eq": "", "not_in": "not ", "ne": "not ", "lt": "under ", "lte": "at most ", "gt": "over ", "gte": "at least ",
    "contains": "containing ", "matches": "matching ", "not_contains": "without ", "not_matches": "not matching ",
}


def _describe_status(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    return str(seen.status), f"expected status {_WORDS[assertion.op]}{_short(_expected(assertion))}, got {seen.status}"


def _describe_body(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    found = seen.body[: _SHOWN_CHARS * 4].decode("utf-8", "replace")
    word = _WORDS[assertion.op] or "equal to "
    return found, f"expected a body {word}{_short(_expected(assertion))!r}"


def _describe_header(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    found = ", ".join(_values(seen, assertion.name))
    name = _short(assertion.name)
    if assertion.op == "exists":
        return found, f"expected {'no header' if assertion.value is False else 'a header'} {name}"
    # Only whether it was there: a header's value may be a secret, and messages travel far.
    state = "got another value" if found else "got none"
    return found, f"expected header {name} {_WORDS[assertion.op]}{_short(_expected(assertion))!r}, {state}"


def _describe_latency(assertion: Assertion, seen: Seen) -> tuple[str, str]:
    return f"{seen.latency_ms:.1f}", f"expected {_WORDS[assertion.op]}{assertion.value} ms, took {seen.latency_ms:.1f} ms"


_DESCRIBE: dict[str, Callable[[Assertion, Seen], tuple[str, str]]] = {
    "status": _describe_status,
    "body": _describe_body,
    "header": _describe_header,
    "latency_ms": _describe_latency,
}


def _expected(assertion: Assertion) -> str:
    value = assertion.value
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _short(value: object) -> str:
    return str(value)[:_SHOWN_CHARS]
