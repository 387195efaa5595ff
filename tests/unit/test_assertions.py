"""Assertions: what the API refuses, what holds, which failure decides, and that patterns stay cheap."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.assertions import Judgement, compile_assertions, judge_response, needs_body, problem
from common.domain.checks import Phases, Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.operators import OPS
from common.domain.sources import SOURCES, TABLE, Kind, Seen


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
    (Assertion("magic", "eq", 1), "unknown source"),
    (Assertion("json", "eq", 1), "path"),
    (Assertion("json", "eq", 1, path="db"), "$"),
    (Assertion("json", "eq", 1, path="$.a[*]"), "character 4"),
    (Assertion("json", "eq", 1, path="$.a[?(@.b)]"), "character 4"),
    (Assertion("json", "eq", 1, path="$" + ".a" * 51), "steps"),
    (Assertion("json", "eq", {"a": 1}, path="$"), "text, number"),
    (Assertion("json", "lt", "5", path="$"), "number"),
    (Assertion("json", "in", [], path="$"), "list"),
    (Assertion("json", "in", list(range(51)), path="$"), "list"),
    (Assertion("json", "matches", "(", path="$"), "RE2"),
    (Assertion("status", "eq", 200, path="$"), "path"),
    (Assertion("cert_days", "gt", True), "number"),
    (Assertion("dns_ms", "lt", -1), "number"),
    (Assertion("status", "lt", 300), "unknown op"),
    (Assertion("latency_ms", "matches", "1"), "unknown op"),
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


def test_each_type_has_only_its_own_sources() -> None:
    assert "a tcp monitor has: banner, latency_ms" in (problem(Assertion("body", "contains", "x"), "tcp") or "")
    compiled = compile_assertions([Assertion("latency_ms", "lt", 5)], "tcp")
    assert judge_response(compiled, Seen(latency_ms=1)).verdict is Verdict.UP
    for type_, sources in SOURCES.items():
        for source in set(TABLE) - set(sources):
            assert problem(Assertion(source, "exists", True), type_) is not None


JSON = b'{"db": {"up": true, "n": "12", "list": [1, {"x y": "z"}], "none": null}, "v": 3.5}'

#: source, type, op, wanted, what is seen, does it hold?
MORE: list[tuple[str, str, str, Any, dict[str, Any], bool]] = [
    ("json $.db.up", "http", "eq", True, {"body": JSON}, True),
    ("json $.db.up", "http", "eq", 1, {"body": JSON}, False),  # true is not 1
    ("json $.db.n", "http", "eq", 12, {"body": JSON}, True),  # a number in a text is the number
    ("json $.db.n", "http", "gt", 11.5, {"body": JSON}, True),
    ("json $.db.up", "http", "gt", 0, {"body": JSON}, False),
    ("json $['db'].list[1][\"x y\"]", "http", "eq", "z", {"body": JSON}, True),
    ("json $.db.list[-2]", "http", "eq", 1, {"body": JSON}, True),
    ("json $.db.list", "http", "contains", "1", {"body": JSON}, False),  # the list holds a number, no such text
    ("json $.db.none", "http", "eq", None, {"body": JSON}, True),
    ("json $.db.none", "http", "exists", True, {"body": JSON}, True),
    ("json $.db.gone", "http", "exists", False, {"body": JSON}, True),
    ("json $.db.gone", "http", "eq", None, {"body": JSON}, False),  # nothing is not null
    ("json $.db.gone", "http", "ne", 1, {"body": JSON}, True),
    ("json $.v", "http", "in", [1, 3.5], {"body": JSON}, True),
    ("json $.v", "http", "matches", "^3", {"body": JSON}, True),
    ("json $", "http", "exists", True, {"body": b"[" * 100_000}, False),  # nested as only an attack is
    ("json $.a", "http", "exists", True, {"body": b"not json"}, False),
    ("http_version", "http", "eq", "2", {"values": {"http_version": "1.1"}}, False),
    ("cert_days", "http", "gt", 14, {"values": {"cert_days": 14.5}}, True),
    ("cert_days", "http", "gt", 14, {"values": {"cert_days": None}}, False),  # no certificate, no days
    ("cert_days", "http", "exists", False, {}, True),
    ("connect_ms", "tcp", "lt", 5, {"phases": Phases(connect_ms=4.0)}, True),
    ("tls_ms", "tcp", "lt", 5, {"phases": Phases(connect_ms=4.0)}, False),  # was not reached
    ("banner", "tcp", "matches", "^220 ", {"values": {"banner": "220 hi\r\n"}}, True),
    ("banner", "tcp", "in", ["hi", "ho"], {"values": {"banner": "ho\n"}}, True),
    ("answer", "dns", "eq", "192.0.2.1", {"values": {"answer": ["192.0.2.1"]}}, True),
    ("answer", "dns", "eq", "192.0.2.1", {"values": {"answer": ["192.0.2.1", "192.0.2.2"]}}, False),  # exactly
    ("answer", "dns", "eq", ["192.0.2.2", "192.0.2.1"], {"values": {"answer": ["192.0.2.1", "192.0.2.2"]}}, True),
    ("answer", "dns", "eq", "2001:DB8:0::1", {"values": {"answer": ["2001:db8::1"]}}, True),  # one address
    ("answer", "dns", "eq", "WWW.test.", {"values": {"answer": ["www.test"]}}, True),  # one name
    ("answer", "dns", "in", ["a", "b"], {"values": {"answer": ["a"]}}, True),
    ("answer", "dns", "in", ["a", "b"], {"values": {"answer": ["a", "c"]}}, False),
    ("answer", "dns", "in", ["a", "b"], {"values": {"answer": []}}, False),
    ("answer", "dns", "contains", "spf1", {"values": {"answer": ["v=spf1 -all"]}}, True),
    ("answer", "dns", "not_contains", "spf1", {"values": {"answer": ["v=spf1 -all"]}}, False),
    ("answer", "dns", "exists", False, {"values": {"answer": []}}, True),
    ("answer_count", "dns", "gte", 2, {"values": {"answer_count": 2}}, True),
    ("rcode", "dns", "eq", "NXDOMAIN", {"values": {"rcode": "NXDOMAIN"}}, True),
    ("packet_loss", "icmp", "lte", 33.4, {"values": {"packet_loss": 100 / 3}}, True),
    ("value", "postgres", "eq", 1, {"values": {"value": "1"}}, True),
    ("value", "postgres", "lt", 10, {"values": {"value": "9.5"}}, True),
    ("value", "postgres", "lt", 10, {"values": {"value": "many"}}, False),
    ("value", "postgres", "eq", True, {"values": {"value": "true"}}, True),
    ("value", "redis", "eq", "PONG", {"values": {"value": "PONG"}}, True),
    ("value", "redis", "exists", True, {"values": {}}, False),
    ("rows", "postgres", "eq", 0, {"values": {"rows": 0}}, True),
    ("extension", "smtp", "contains", "STARTTLS", {"values": {"extension": ["SIZE 1", "STARTTLS"]}}, True),
]


@pytest.mark.parametrize(("source", "type_", "op", "value", "seen", "holds"), MORE)
def test_every_source_is_judged_by_its_kind(
    source: str, type_: str, op: str, value: Any, seen: dict[str, Any], holds: bool
) -> None:
    name, _, path = source.partition(" ")
    assertion = Assertion(name, op, value, path=path)
    found = judge_response(compile_assertions([assertion], type_), Seen(**({"status": 200} | seen)))
    assert (found.verdict is Verdict.UP) is holds
    if not holds:
        assert found.failed is not None
        assert found.message.startswith("expected ")
        assert found.reason is TABLE[name].reason


def test_what_a_failure_says_is_meant_for_people() -> None:
    def message(assertion: Assertion, type_: str, **values: Any) -> str:
        return judge_response(compile_assertions([assertion], type_), Seen(values=values)).message

    assert message(Assertion("cert_days", "gt", 14), "tls", cert_days=3.21) == "expected cert_days over 14, got 3.2"
    assert message(Assertion("cert_days", "gt", 14), "tls") == "expected cert_days over 14, got none"
    assert message(Assertion("answer", "eq", ["a", "b"]), "dns", answer=["c"]) == "expected answer 'a, b', got 'c'"
    assert message(Assertion("value", "eq", "x"), "redis", value=None) == "expected value 'x', got 'null'"


def test_every_op_of_every_source_has_a_test_and_words() -> None:
    values: dict[str, Any] = {"in": ["x"], "not_in": ["x"], "exists": True}
    for name, source in TABLE.items():
        for op in OPS[source.kind]:
            number = source.kind in (Kind.NUMBER, Kind.MILLISECONDS) or op in ("lt", "lte", "gt", "gte")
            value = "2xx" if source.kind is Kind.STATUS else 5 if number and op != "exists" else values.get(op, "x")
            extra = {"name": "X"} if source.needs == "name" else {"path": "$.a"} if source.needs == "path" else {}
            assertion = Assertion(name, op, value, **extra)
            assert problem(assertion, source.types[0]) is None
            judge_response(compile_assertions([assertion], source.types[0]), Seen(status=503))


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
    started = time.process_time()
    judge_response(compiled, Seen(200, (), b"a" * 100_000 + b"!"))
    assert time.process_time() - started < 0.5


@given(st.text(), st.text(), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text())), st.text())
def test_any_assertion_either_has_a_problem_or_compiles(source: str, op: str, value: object, name: str) -> None:
    assertion = Assertion(source, op, value, name)
    if problem(assertion) is None:
        compile_assertions([assertion])
