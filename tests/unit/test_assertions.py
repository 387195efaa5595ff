"""Assertions: what the API refuses, what holds, which failure decides, and that patterns stay cheap."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.assertions import Judgement, compile_assertions, judge_response, needs_body, problem
from common.domain.checks import Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.sources import Seen


def judged(*assertions: Assertion, **seen: Any) -> Judgement:
    return judge_response(compile_assertions(assertions), Seen(**({"status": 200} | seen)))


#: assertion, what is seen, does it hold?
HOLDS = [
    (Assertion("status", "in", ["200-299"]), {"status": 204}, True),
    (Assertion("status", "in", ["200-299"]), {"status": 301}, False),
    (Assertion("status", "in", [200, "404", "5xx"]), {"status": 503}, True),  # numbers, texts and classes mix
    (Assertion("status", "not_in", "500-599"), {"status": 404}, True),
    (Assertion("status", "not_in", "500-599"), {"status": 500}, False),
    (Assertion("status", "eq", 204), {"status": 204}, True),
    (Assertion("status", "ne", 204), {"status": 204}, False),
    (Assertion("body", "contains", "grün"), {"body": "alles grün".encode()}, True),
    (Assertion("body", "contains", "ok"), {"body": b"OK"}, False),  # case counts
    (Assertion("body", "not_contains", "error"), {"body": b"no error"}, False),
    (Assertion("body", "matches", r"^v\d+"), {"body": b"v12"}, True),
    (Assertion("body", "matches", "gr(ü|u)n"), {"body": b"\xff\xfe gr\xc3\xbcn"}, True),  # bytes that are no UTF-8
    (Assertion("body", "not_matches", "fail"), {"body": b"fail"}, False),
    (Assertion("body", "eq", "ok"), {"body": b"ok\n"}, True),  # a final newline is no difference
    (Assertion("body", "eq", "ok"), {"body": b"okay"}, False),
    (Assertion("header", "exists", True, "X-Up"), {"headers": [("x-up", "")]}, True),  # names have no case
    (Assertion("header", "exists", None, "X-Up"), {"headers": []}, False),
    (Assertion("header", "exists", False, "X-Up"), {"headers": []}, True),
    (Assertion("header", "eq", "b", "X-A"), {"headers": [("X-A", "a"), ("X-A", "b")]}, True),  # any of several
    (Assertion("header", "ne", "b", "X-A"), {"headers": [("X-A", "a"), ("X-A", "b")]}, False),
    (Assertion("header", "ne", "b", "X-A"), {"headers": []}, True),
    (Assertion("header", "contains", "json", "Content-Type"), {"headers": [("content-type", "a/json")]}, True),
    (Assertion("header", "matches", "^nginx/", "Server"), {"headers": [("Server", "nginx/1")]}, True),
    (Assertion("latency_ms", "lt", 800), {"latency_ms": 800.0}, False),
    (Assertion("latency_ms", "lte", 800), {"latency_ms": 800.0}, True),
    (Assertion("latency_ms", "gt", 0.5), {"latency_ms": 0.6}, True),
    (Assertion("latency_ms", "gte", 2), {"latency_ms": 1.0}, False),
]


@pytest.mark.parametrize(("assertion", "seen", "holds"), HOLDS)
def test_an_assertion_holds_or_not(assertion: Assertion, seen: dict[str, Any], holds: bool) -> None:
    found = judged(assertion, **seen)
    assert (found.verdict is Verdict.UP) is holds
    assert (found.failed is None) is holds


#: assertion → a part of the explanation that the API gives
WRONG = [
    (Assertion("json", "eq", 1), "unknown source"),
    (Assertion("status", "lt", 300), "unknown op"),
    (Assertion("body", "exists", True), "unknown op"),
    (Assertion("status", "in", []), "status"),
    (Assertion("status", "in", ["200-"]), "status"),
    (Assertion("status", "in", ["299-200"]), "status"),  # backwards
    (Assertion("status", "eq", [200]), "status"),  # one value only
    (Assertion("status", "eq", True), "status"),  # JSON's true is no 1
    (Assertion("status", "in", ["99"]), "status"),
    (Assertion("status", "in", {"a": 1}), "status"),
    (Assertion("latency_ms", "lt", "800"), "number"),
    (Assertion("latency_ms", "lt", float("nan")), "number"),
    (Assertion("latency_ms", "lt", 0), "number"),
    (Assertion("body", "contains", ""), "empty"),
    (Assertion("body", "contains", 5), "text"),
    (Assertion("body", "contains", "x" * 1001), "longer"),
    (Assertion("body", "contains", "\ud800"), "Unicode"),
    (Assertion("body", "matches", "("), "RE2"),
    (Assertion("body", "matches", "(?=a)"), "RE2"),  # look-ahead is what RE2 cannot bound
    (Assertion("body", "matches", "((a{100}){100}){100}"), "RE2"),
    (Assertion("header", "eq", "a"), "name"),
    (Assertion("header", "exists", "yes", "X-A"), "true"),
    (Assertion("status", "eq", 200, "X-A"), "name"),
    (Assertion("status", "eq", 200, on_fail="warn"), "on_fail"),
]


@pytest.mark.parametrize(("assertion", "words"), WRONG)
def test_a_wrong_assertion_is_explained_and_does_not_compile(assertion: Assertion, words: str) -> None:
    assert words in (problem(assertion) or "")
    with pytest.raises(ValueError, match=r".+"):
        compile_assertions([assertion])


def test_a_tcp_monitor_has_latency_only_and_no_status() -> None:
    assert problem(Assertion("body", "contains", "x"), "tcp") is not None
    compiled = compile_assertions([Assertion("latency_ms", "lt", 5)], "tcp")
    assert judge_response(compiled, Seen(latency_ms=1)).verdict is Verdict.UP


def test_without_a_status_assertion_2xx_is_required() -> None:
    found = judged(status=503)
    assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.STATUS_MISMATCH)
    assert found.message == "expected status 200-299, got 503"
    assert judged(Assertion("body", "contains", "a"), status=404, body=b"a").reason is Reason.STATUS_MISMATCH


def test_a_status_assertion_replaces_the_2xx_rule() -> None:
    assert judged(Assertion("status", "eq", 404), status=404).verdict is Verdict.UP


def test_down_beats_degraded_whatever_the_order() -> None:
    slow = Assertion("latency_ms", "lt", 1, on_fail="degraded")
    wrong = Assertion("body", "contains", "x")
    for order in ((slow, wrong), (wrong, slow)):
        found = judged(*order, latency_ms=5.0)
        assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.BODY_MISMATCH)


def test_a_milder_failure_alone_degrades() -> None:
    found = judged(Assertion("latency_ms", "lt", 800, on_fail="degraded"), latency_ms=912.34)
    assert (found.verdict, found.reason) == (Verdict.DEGRADED, Reason.LATENCY_EXCEEDED)
    assert found.message == "expected under 800 ms, took 912.3 ms"


def test_what_was_expected_and_seen_is_cut_to_200_characters() -> None:
    found = judged(Assertion("body", "contains", "y" * 999), body=b"x" * 5000)
    assert found.failed is not None
    assert (len(found.failed.expected), len(found.failed.seen)) == (200, 200)


def test_a_message_never_shows_the_value_of_a_header() -> None:
    found = judged(Assertion("header", "eq", "a", "X-Token"), headers=[("X-Token", "s3cret")])
    assert "s3cret" not in found.message


def test_only_body_assertions_need_the_body() -> None:
    assert not needs_body([Assertion("status", "eq", 200)])
    assert needs_body([Assertion("body", "contains", "a")])
    assert not compile_assertions([]).needs_body


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*x", "(x+x+)+y.{900}z"])
def test_a_catastrophic_pattern_takes_no_time_on_a_large_body(pattern: str) -> None:
    compiled = compile_assertions([Assertion("body", "matches", pattern)])
    started = time.perf_counter()
    judge_response(compiled, Seen(200, (), b"a" * 100_000 + b"!"))
    assert time.perf_counter() - started < 0.5


@given(st.text(), st.text(), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text())), st.text())
def test_any_assertion_either_has_a_problem_or_compiles(source: str, op: str, value: object, name: str) -> None:
    assertion = Assertion(source, op, value, name)
    if problem(assertion) is None:
        compile_assertions([assertion])
