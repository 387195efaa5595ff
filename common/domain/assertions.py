"""Judge a response against a monitor's assertions: checked at the API, compiled once per config, decided here.

All assertions must hold; "down" beats "degraded"; without one on the status, 200-299 is required. Patterns run on
RE2, so no pattern can hold the process (`(a+)+$` is linear there) and each has a bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from common.domain.checks import FailedAssertion, Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.patterns import pattern_of
from common.domain.sources import (
    DESCRIBE,
    OPS,
    SOURCES,
    TESTS,
    Seen,
    expected_text,
    number_of,
    shortened,
    status_ranges,
)

KEEP_BODY_BYTES = 1024 * 1024
MAX_VALUE_CHARS = 1_000
MAX_STATUSES = 50

_REASONS = {
    "status": Reason.STATUS_MISMATCH,
    "body": Reason.BODY_MISMATCH,
    "header": Reason.HEADER_MISMATCH,
    "latency_ms": Reason.LATENCY_EXCEEDED,
}
_VERDICTS = {"down": Verdict.DOWN, "degraded": Verdict.DEGRADED}


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


_WANT_2XX = _Compiled(Assertion("status", "in", "200-299"), ((200, 299),), TESTS["status", "in"], Verdict.DOWN)


# -- at the API's edge ------------------------------------------------------------------------------------------


def problem(assertion: Assertion, monitor_type: str = "http") -> str | None:
    """Say what is wrong with one assertion, for a 400; None when it is good."""
    sources = SOURCES.get(monitor_type, ())
    if assertion.source not in sources:
        return f"unknown source {shortened(assertion.source)!r}; a {monitor_type} monitor has: {', '.join(sources)}"
    ops = OPS[assertion.source]
    if assertion.op not in ops:
        return f"unknown op {shortened(assertion.op)!r}; {assertion.source} has: {', '.join(ops)}"
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
        listed = isinstance(value, (list, tuple))
        if status_ranges(value) is None or (listed and (single or len(value) > MAX_STATUSES)):
            return f'value must be a status (204) or range ("200-299", "2xx"){"" if single else ", or a list of them"}'
        return None
    if assertion.source == "latency_ms":
        number = number_of(value)
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
            pattern_of(value)
        except re2.error as error:
            return f"not a valid RE2 pattern: {_explain(error)}"
    return None


def _explain(error: Exception) -> str:
    detail = error.args[0] if error.args else b""
    return shortened(detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail))


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
        holds=TESTS[assertion.source, assertion.op],
        verdict=_VERDICTS[assertion.on_fail],
    )


def _wanted(assertion: Assertion) -> Any:
    if assertion.source == "status":
        return status_ranges(assertion.value)
    if assertion.op in ("matches", "not_matches"):
        return pattern_of(assertion.value)
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
    found, message = DESCRIBE[assertion.source](assertion, seen)
    return Judgement(
        verdict=item.verdict,
        reason=_REASONS[assertion.source],
        failed=FailedAssertion(assertion.source, assertion.op, shortened(expected_text(assertion)), shortened(found)),
        message=message,
    )
