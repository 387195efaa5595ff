"""Judge what a probe saw against a monitor's assertions: checked at the API, compiled once per config, decided here.

All assertions must hold; "down" beats "degraded"; an http monitor without one on the status requires 200-299.
Patterns run on RE2, so no pattern can hold the process (`(a+)+$` is linear there) and each has a bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.domain import jsonpath
from common.domain.checks import FailedAssertion, Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.operators import MAX_VALUE_CHARS, OPS, shortened, test_of, value_problem, wanted_of
from common.domain.sources import SOURCES, TABLE, Seen, reader_of
from common.domain.telling import told

KEEP_BODY_BYTES = 1024 * 1024
_OF_BODY = frozenset({"body", "json"})
_OF_CERTIFICATE = frozenset({"cert_days", "chain_days"})
#: What `Seen` has fields for.
_OF_SEEN = _OF_BODY | {"status", "header", "latency_ms", "dns_ms", "connect_ms", "tls_ms", "ttfb_ms"}
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
    """One assertion, ready to run; `where` is a header's name or a path."""

    assertion: Assertion
    where: Any
    holds: Callable[[Seen], bool]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CompiledAssertions:
    """A monitor's assertions, ready to judge; worth keeping as long as its config_version stands."""

    items: tuple[_Compiled, ...]
    wants_2xx: bool
    needs_body: bool
    needs_headers: bool
    needs_certificate: bool
    needs_values: bool
    sources: frozenset[str]


# -- at the API's edge ------------------------------------------------------------------------------------------


def problem(assertion: Assertion, monitor_type: str = "http") -> str | None:
    """Say what is wrong with one assertion, for a 400; None when it is good."""
    sources = SOURCES.get(monitor_type, ())
    if assertion.source not in sources:
        there = ", ".join(sources) or "none"
        return f"unknown source {shortened(assertion.source)!r}; a {monitor_type} monitor has: {there}"
    source = TABLE[assertion.source]
    if assertion.op not in OPS[source.kind]:
        return f"unknown op {shortened(assertion.op)!r}; {assertion.source} has: {', '.join(OPS[source.kind])}"
    if assertion.on_fail not in _VERDICTS:
        return "on_fail must be down or degraded"
    return (
        _name_problem(assertion)
        or _path_problem(assertion)
        or value_problem(source.kind, assertion.op, assertion.value)
    )


def _name_problem(assertion: Assertion) -> str | None:
    if TABLE[assertion.source].needs != "name":
        return None if not assertion.name else "only a header assertion has a name"
    if not isinstance(assertion.name, str) or not assertion.name:
        return "a header assertion needs the header's name"
    if len(assertion.name) > MAX_VALUE_CHARS or not assertion.name.isascii() or not assertion.name.isprintable():
        return "the header's name is not valid"
    return None


def _path_problem(assertion: Assertion) -> str | None:
    if TABLE[assertion.source].needs != "path":
        return None if not assertion.path else "only a json assertion has a path"
    if not isinstance(assertion.path, str) or not assertion.path:
        return "a json assertion needs a path, like $.db.status"
    path = jsonpath.parse(assertion.path)
    return path if isinstance(path, str) else None


# -- in the worker ----------------------------------------------------------------------------------------------


def compile_assertions(assertions: Sequence[Assertion], monitor_type: str = "http") -> CompiledAssertions:
    """Compile assertions that `problem` has passed; one that it would refuse raises ValueError."""
    items = tuple(_compile(assertion, monitor_type) for assertion in assertions)
    sources = frozenset(item.assertion.source for item in items)
    return CompiledAssertions(
        items=items,
        wants_2xx=monitor_type == "http" and "status" not in sources,
        needs_body=not sources.isdisjoint(_OF_BODY),
        needs_headers="header" in sources,
        needs_certificate=not sources.isdisjoint(_OF_CERTIFICATE),
        needs_values=not sources <= _OF_SEEN,
        sources=sources,
    )


def needs_body(assertions: Sequence[Assertion]) -> bool:
    """Must the probe keep the body (its first KEEP_BODY_BYTES), or is counting it enough?"""
    return any(assertion.source in _OF_BODY for assertion in assertions)


def _compile(assertion: Assertion, monitor_type: str) -> _Compiled:
    trouble = problem(assertion, monitor_type)
    if trouble is not None:
        raise ValueError(trouble)
    where = jsonpath.parse(assertion.path) if assertion.path else assertion.name
    return _Compiled(assertion, where, _test(assertion, where), _VERDICTS[assertion.on_fail])


def _test(assertion: Assertion, where: Any) -> Callable[[Seen], bool]:
    """What decides: read the source, compare."""
    source, op = assertion.source, assertion.op
    wanted = wanted_of(TABLE[source].kind, op, assertion.value)
    if (source, op) in _USUAL:
        return _USUAL[source, op](wanted)
    read, holds = reader_of(source), test_of(TABLE[source].kind, op)
    return lambda seen: holds(wanted, read(seen, where))


def _status_in(wanted: Any) -> Callable[[Seen], bool]:
    if len(wanted) == 1:
        ((low, high),) = wanted
        return lambda seen: low <= seen.status <= high
    return lambda seen: any(low <= seen.status <= high for low, high in wanted)


#: What nearly every monitor asks, in one call: they run thousands of times a second.
_USUAL: dict[tuple[str, str], Callable[[Any], Callable[[Seen], bool]]] = {
    ("status", "in"): _status_in,
    ("status", "eq"): _status_in,
    ("body", "contains"): lambda wanted: lambda seen: wanted in seen.body,
    ("latency_ms", "lt"): lambda wanted: lambda seen: seen.latency_ms < wanted,
}


_WANT_2XX = _compile(Assertion("status", "in", "200-299"), "http")


def judge_response(compiled: CompiledAssertions, seen: Seen) -> Judgement:
    """Judge what was seen. The first "down" decides; else the first "degraded"; else the monitor is up."""
    if compiled.wants_2xx and not 200 <= seen.status <= 299:
        return _failure(_WANT_2XX, seen)
    milder: _Compiled | None = None
    for item in compiled.items:
        if item.holds(seen):
            continue
        if item.verdict is Verdict.DOWN:
            return _failure(item, seen)
        milder = milder or item
    return Judgement(Verdict.UP) if milder is None else _failure(milder, seen)


def _failure(item: _Compiled, seen: Seen) -> Judgement:
    failed, message = told(item.assertion, seen, item.where)
    return Judgement(item.verdict, TABLE[item.assertion.source].reason, failed, message)
