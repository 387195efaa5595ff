"""Alerts: what makes two the same, how a batch is ordered, how others' words for severity are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest

from common.domain.alerts import (
    DERIVED_IDS,
    Alert,
    AlertStatus,
    Lifetime,
    Outcome,
    badness,
    fingerprint,
    in_rounds,
    label_fingerprint,
    overall,
    severity_of,
    shortened,
)
from common.domain.incident import Severity

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DISK = Alert("Disk full", "node", Severity.ERROR, AlertStatus.FIRING, "disk", labels={"host": "a"}, starts_at=AT)
OVER = replace(DISK, status=AlertStatus.RESOLVED)

#: (what changes, whether it is another alert)
IDENTITIES: list[tuple[dict[str, Any], bool]] = [
    ({"dedup_key": "cpu"}, True),
    ({"status": AlertStatus.RESOLVED}, True),
    ({"starts_at": AT + timedelta(microseconds=1)}, True),
    ({"starts_at": AT.astimezone(timezone(timedelta(hours=5)))}, False),  # the same moment elsewhere
    ({"severity": Severity.CRITICAL}, True),  # it may make what is open worse
    ({"summary": "97 %"}, False),
    ({"labels": {}}, False),
]


def test_an_end_is_one_however_bad_it_was() -> None:
    assert replace(OVER, severity=Severity.CRITICAL).identity == OVER.identity
    assert OVER.told_as == ()


def test_a_problem_is_told_by_the_identities_of_all_severities() -> None:
    assert set(DISK.told_as) == {replace(DISK, severity=severity).identity for severity in Severity}
    assert DISK.identity in DISK.told_as
    assert replace(DISK, alert_id="x").told_as == replace(DISK, starts_at=None).told_as == ()


def test_an_alert_lasts_until_its_stated_end_or_the_resolve_timeout() -> None:
    assert Lifetime(AT).ends_at(AT - timedelta(hours=1)) == AT
    assert Lifetime().ends_at(AT) == AT + timedelta(minutes=5)


#: (text, what 12 characters hold of it)
SHORTENED = [
    ("", ""),
    ("x" * 12, "x" * 12),
    ("x" * 13, "xxx…" + sha256(b"x" * 13).hexdigest()[:8]),
]


@pytest.mark.parametrize(("text", "short"), SHORTENED)
def test_a_text_that_is_too_long_ends_in_a_hash_of_the_whole(text: str, short: str) -> None:
    assert shortened(text, 12) == short
    assert len(short) <= 12


@pytest.mark.parametrize(("change", "is_another"), IDENTITIES)
def test_without_an_alert_id_key_status_severity_and_start_are_it(change: dict[str, Any], is_another: bool) -> None:
    assert (replace(DISK, **change).identity != DISK.identity) is is_another
    assert str(DISK.identity).startswith(DERIVED_IDS)


def test_an_alert_id_is_the_identity_whatever_else_is_said() -> None:
    assert replace(DISK, alert_id="x").identity == replace(OVER, alert_id="x", starts_at=None).identity == "x"


def test_without_id_and_start_only_the_open_incident_can_tell() -> None:
    assert replace(DISK, starts_at=None).identity is None


#: (name, source, labels, whether the fingerprint is that of ("a", "s", {"x": "1", "y": "2"}))
FINGERPRINTS = [
    ("a", "s", {"y": "2", "x": "1"}, True),
    ("a", "s", {"y": "2", "x": "1", "severity": "critical"}, True),  # may rise while it is the same problem
    ("b", "s", {"x": "1", "y": "2"}, False),
    ("a", "t", {"x": "1", "y": "2"}, False),
    ("a", "s", {"x": "1"}, False),
    ("a", "s", {"x": "1", "y": "3"}, False),
    ("a", "s", {"x": '1", "y": "2'}, False),  # what separates cannot be forged
    ("s", "a", {"x": "1", "y": "2"}, False),
]


@pytest.mark.parametrize(("name", "source", "labels", "same"), FINGERPRINTS)
def test_the_fingerprint_is_of_name_source_and_labels(
    name: str, source: str, labels: dict[str, str], same: bool
) -> None:
    assert (fingerprint(name, source, labels) == fingerprint("a", "s", {"x": "1", "y": "2"})) is same


def test_the_label_fingerprint_is_prometheus_own() -> None:
    # The values of prometheus/common's own signature_test.go.
    assert int(label_fingerprint({}), 16) == 14695981039346656037
    assert int(label_fingerprint({"name": "garland, briggs", "fear": "love is not enough"}), 16) == 5799056148416392346


#: (what a tool says, what it means to us)
SEVERITIES = [
    ("critical", Severity.CRITICAL),
    ("Page", Severity.CRITICAL),
    ("P1", Severity.CRITICAL),
    ("error", Severity.ERROR),
    ("major", Severity.ERROR),
    (" WARN ", Severity.WARNING),
    ("ticket", Severity.ERROR),  # unknown
    ("", Severity.ERROR),  # none
    ("none", Severity.INFO),  # Prometheus' Watchdog
    ("info", Severity.INFO),
]


@pytest.mark.parametrize(("said", "meant"), SEVERITIES)
def test_severities_of_other_tools_are_understood(said: str, meant: Severity) -> None:
    assert severity_of(said) is meant


def test_the_worse_severity_has_the_larger_badness() -> None:
    assert sorted(Severity, key=badness) == [Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.CRITICAL]


def test_the_labels_that_routes_see_hold_the_fields_whatever_labels_claim() -> None:
    alert = replace(DISK, labels={"team": "db", "severity": "info", "name": "x", "source": "y"})
    assert alert.matched == {"team": "db", "severity": "error", "name": "Disk full", "source": "node"}


def test_a_round_has_one_run_per_key_and_keeps_the_order_of_its_alerts() -> None:
    cpu = replace(DISK, dedup_key="cpu")
    rounds = in_rounds([DISK, cpu, DISK, OVER, DISK, DISK])
    assert [[(run.dedup_key, run.status.value, run.places) for run in runs] for runs in rounds] == [
        [("disk", "firing", (0, 2)), ("cpu", "firing", (1,))],
        [("disk", "resolved", (3,))],
        [("disk", "firing", (4, 5))],
    ]


def test_a_flood_of_one_key_is_one_round() -> None:
    assert len(in_rounds([replace(DISK, alert_id=str(number)) for number in range(1_000)])) == 1


#: (outcomes in single organizations, the alert's)
OVERALL = [
    ([], Outcome.UNMATCHED),
    ([Outcome.DEDUPLICATED, Outcome.OPENED], Outcome.OPENED),
    ([Outcome.DEDUPLICATED, Outcome.RESOLVED], Outcome.RESOLVED),
    ([Outcome.DEDUPLICATED] * 3, Outcome.DEDUPLICATED),
]


@pytest.mark.parametrize(("single", "whole"), OVERALL)
def test_of_several_organizations_the_most_telling_outcome_counts(single: list[Outcome], whole: Outcome) -> None:
    assert overall(single) is whole
