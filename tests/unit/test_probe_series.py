"""What /probe says of an observation, in whatever state the worker that made it was."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from api import probe_series
from bench.packages import find
from common.domain.checks import Facts, Observation, Phases, Reason, Verdict
from common.domain.sources import TYPES
from common.probe_requests import Detail, ProbeRequest, _asked, _read, told_of

FACTS: Facts = {
    "redirects": 2, "http_version": "1.1", "body_bytes": 5, "content_length": "5", "tls_version": "TLSv1.3",
    "tls_cipher": "TLS_AES_256_GCM_SHA384", "sent_expiry_s": 1_800_000_000, "fingerprint_sha256": "ab",
    "subject": "CN=x", "issuer": 'CN="y"\n', "subjectalternative": "x,y",
}  # fmt: skip
WELL = Observation(
    Verdict.UP, code=200, phases=Phases(2, 3, 5, 20, 31), address="192.0.2.7", expires_s=1_800_000_000, facts=FACTS
)
DOWN = Observation(Verdict.DOWN, Reason.CONNECT_REFUSED, "refused", phases=Phases(total_ms=4), facts={"redirects": 0})
REQUEST = ProbeRequest("org", "http", "http://192.0.2.7/", 1.0, {}, {}, [])


def text(type_: str, seen: Observation) -> str:
    return "".join(probe_series.told(type_, seen))


def told(type_: str, seen: Observation) -> dict[str, float]:
    """{name and labels: value}."""
    return {
        " ".join([sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))]): sample.value
        for family in parse_text(text(type_, seen))
        for sample in family.samples
    }


def test_what_was_seen_is_told_in_blackbox_words() -> None:
    found = told("http", WELL)
    assert found["probe_http_duration_seconds phase=transfer"] == pytest.approx(0.001)
    assert {name: value for name, value in found.items() if "duration" not in name} == {
        "probe_success": 1, "probe_dns_lookup_time_seconds": 0.002, "probe_ip_protocol": 4,
        "probe_ip_addr_hash": 0x736B986E, "probe_http_status_code": 200, "probe_http_version": 1.1,
        "probe_http_redirects": 2, "probe_http_ssl": 1, "probe_http_content_length": 5,
        "probe_http_uncompressed_body_length": 5, "probe_failed_due_to_regex": 0,
        "probe_tls_version_info version=TLS 1.3": 1, "probe_tls_cipher_info cipher=TLS_AES_256_GCM_SHA384": 1,
        "probe_ssl_earliest_cert_expiry": 1_800_000_000,
        'probe_ssl_last_chain_info fingerprint_sha256=ab issuer=CN="y"\n subject=CN=x subjectalternative=x,y': 1,
    }  # fmt: skip


def test_what_was_not_reached_is_zero_as_there() -> None:
    found = told("http", DOWN)
    assert {value for name, value in found.items() if name.startswith("probe_http_")} == {0}
    assert len([name for name in found if name.startswith("probe_http_duration_seconds")]) == 5
    assert (found["probe_success"], found["probe_ip_protocol"], found["probe_ip_addr_hash"]) == (0, 0, 0)
    assert found["tocsin_probe_failure_info reason=connect_refused"] == 1
    assert not any(name.startswith(("probe_tls", "probe_ssl")) for name in found)


def test_a_worker_that_notes_no_facts_leaves_out_what_only_they_say() -> None:
    found = told("http", replace(WELL, facts=None))
    assert found["probe_http_status_code"] == 200
    assert not {"probe_http_version", "probe_http_redirects", "probe_http_ssl", "probe_http_content_length"} & set(
        found
    )
    assert set(told("icmp", replace(WELL, facts=None))) >= {"probe_icmp_duration_seconds phase=rtt"}


#: What a response says → (probe_http_content_length, probe_http_uncompressed_body_length, probe_http_version).
SAID: list[tuple[Mapping[str, float | str], tuple[float | None, ...]]] = [
    ({"http_version": "2", "body_bytes": 7}, (-1, 7, 2)),
    ({"http_version": "1.0", "body_bytes": 7, "content_length": "7, 7"}, (-1, 7, 1)),
    ({"http_version": "1.1", "body_bytes": 7, "content_length": "9" * 19}, (-1, 7, 1.1)),
    ({"http_version": "evil", "body_bytes": 0, "content_length": "0"}, (0, 0, 0)),
    ({"http_version": "1.1", "body_bytes": 7, "content_encoding": "gzip"}, (-1, None, 1.1)),
    ({"http_version": "1.1", "body_bytes": 7, "content_encoding": "Identity"}, (-1, 7, 1.1)),
]


@pytest.mark.parametrize(("facts", "expected"), SAID)
def test_a_response_is_not_believed_more_than_it_says(facts: Facts, expected: tuple[float | None, ...]) -> None:
    found = told("http", replace(WELL, facts=facts))
    names = ("probe_http_content_length", "probe_http_uncompressed_body_length", "probe_http_version")
    assert tuple(found.get(name) for name in names) == expected


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1_445_412_480),
        ("Wed Oct 21 07:28:00 2015", 1_445_412_480),  # ANSI C, without a zone
        ("yesterday", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_a_last_modification_is_told_where_it_is_a_date(said: str, moment: int | None) -> None:
    found = told("http", replace(WELL, facts={**FACTS, "last_modified": said}))
    assert found.get("probe_http_last_modified_timestamp_seconds") == moment


@pytest.mark.parametrize(
    ("type_", "reason", "verdict", "due"),
    [
        ("http", Reason.BODY_MISMATCH, Verdict.DOWN, 1),
        ("http", Reason.HEADER_MISMATCH, Verdict.DOWN, 1),
        ("http", Reason.STATUS_MISMATCH, Verdict.DOWN, 0),
        ("http", Reason.BODY_MISMATCH, Verdict.DEGRADED, 0),  # it did not fail
        ("tcp", Reason.ANSWER_MISMATCH, Verdict.DOWN, 1),
        ("dns", Reason.ANSWER_MISMATCH, Verdict.DOWN, None),
    ],
)
def test_a_failure_due_to_what_was_sent_is_told_apart(
    type_: str, reason: Reason, verdict: Verdict, due: int | None
) -> None:
    assert told(type_, Observation(verdict, reason, phases=Phases(total_ms=1))).get("probe_failed_due_to_regex") == due


def test_a_name_server_that_refuses_has_answered_and_a_mute_one_has_not() -> None:
    refused = Observation(Verdict.DOWN, Reason.DNS_FAILED, code=5, phases=Phases(ttfb_ms=3, total_ms=3))
    mute = Observation(Verdict.DOWN, Reason.DNS_TIMEOUT, phases=Phases(total_ms=2_000))
    denied = Observation(Verdict.DOWN, Reason.EGRESS_DENIED, phases=Phases(total_ms=1))
    succeeded = [told("dns", seen)["probe_dns_query_succeeded"] for seen in (refused, mute, denied)]
    assert succeeded == [1, 0, 0]


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("seen", [WELL, DOWN])
def test_every_type_says_it_in_both_formats(type_: str, seen: Observation) -> None:
    said = text(type_, seen)
    assert list(parse_openmetrics(said + "# EOF\n"))
    promtool = find("promtool", "prometheus", print)
    if promtool is None:
        pytest.skip("Debian's package prometheus is not installed")
    checked = subprocess.run([promtool, "check", "metrics"], input=said.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_no_more_is_told_than_was_asked_for() -> None:
    assert [(told_of(WELL, detail).expires_s, told_of(WELL, detail).facts) for detail in Detail] == [
        (None, None), (1_800_000_000, None), (1_800_000_000, FACTS),
    ]  # fmt: skip


def test_what_is_asked_is_read_by_the_version_before_and_the_other_way_round() -> None:
    before = set(asdict(REQUEST)) - {"detail"}
    assert set(_asked(REQUEST)) == before  # which knew nothing of certificates
    asked = _asked(replace(REQUEST, detail=Detail.FACTS))
    assert set(asked) == before | {"certificate"} and asked["certificate"]
    plain = _asked(REQUEST)
    read = [_read(dict(plain)), *(_read({**plain, "certificate": said}) for said in (True, False, 2, 9))]
    assert [request.detail for request in read] == [
        Detail.RESULT, Detail.CERTIFICATE, Detail.RESULT, Detail.FACTS, Detail.FACTS,
    ]  # fmt: skip
