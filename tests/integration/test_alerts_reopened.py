"""What somebody resolved by hand while its alert fires on: a repeat after a while opens another incident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.domain.incident import Severity
from tests.integration import test_alert_ends
from tests.integration.test_alert_ends import DEDUPLICATED, DISK, OPENED, OVER, RESOLVED, Intake, at

intake = test_alert_ends.intake
seed = test_alert_ends.seed

ENDLESS = replace(DISK, lifetime=None)


@pytest.fixture
def closed(intake: Intake) -> Intake:
    """Fired at minute 0, resolved by hand at minute 10."""
    assert intake.take(ENDLESS) is OPENED
    intake.resolve_by_hand(10)
    return intake


def reopened(intake: Intake) -> list[tuple[str | None, bool]]:
    """(severity, whether it was opened from another one) of what is open."""
    return [tuple(row) for row in intake.seed.run(
        "SELECT severity, reopened_from IS NOT NULL FROM incidents WHERE status <> 'resolved'"
    )]  # fmt: skip


def test_a_repeat_within_five_minutes_may_have_been_on_its_way_and_changes_nothing(closed: Intake) -> None:
    assert closed.take(ENDLESS, 14.99) is DEDUPLICATED
    assert closed.take(replace(ENDLESS, severity=Severity.CRITICAL), 14.99) is DEDUPLICATED
    assert closed.open_now() == []


def test_a_later_one_says_that_it_still_fires_and_opens_another_once(closed: Intake) -> None:
    assert [closed.take(ENDLESS, minute) for minute in (15, 15, 16, 300)] == [OPENED] + [DEDUPLICATED] * 3
    assert reopened(closed) == [("warning", True)]
    assert closed.seed.run("SELECT type FROM outbox ORDER BY id") == [("opened",), ("resolved",), ("opened",)]
    assert closed.take(OVER, 301) is RESOLVED
    assert closed.take(ENDLESS, 400) is DEDUPLICATED  # its sender knew


def test_so_does_another_severity_since_the_same_start(closed: Intake) -> None:
    worse = replace(ENDLESS, severity=Severity.CRITICAL)
    assert [closed.take(alert, 15) for alert in (worse, ENDLESS, worse)] == [OPENED, DEDUPLICATED, DEDUPLICATED]
    assert reopened(closed) == [("critical", True)]


def test_a_new_start_does_not_wait(closed: Intake) -> None:
    assert closed.take(replace(ENDLESS, starts_at=at(11)), 11) is OPENED
    assert reopened(closed) == [("warning", False)]


def test_it_may_be_resolved_by_hand_again_and_waits_again(closed: Intake) -> None:
    assert closed.take(ENDLESS, 15) is OPENED
    closed.resolve_by_hand(20)
    assert [closed.take(ENDLESS, minute) for minute in (24, 25)] == [DEDUPLICATED, OPENED]
    rows = closed.seed.run("SELECT id::text, reopened_from::text FROM incidents ORDER BY opened_at")
    assert [row[1] for row in rows] == [None, rows[0][0], rows[1][0]]


def test_an_alert_id_is_known_for_ever(intake: Intake) -> None:
    named = replace(ENDLESS, alert_id="a1")
    assert intake.take(named) is OPENED
    intake.resolve_by_hand(10)
    assert intake.take(named, 300) is DEDUPLICATED


def test_what_its_sender_ended_is_known_for_ever(intake: Intake) -> None:
    intake.take(ENDLESS)
    intake.take(OVER, 1)
    assert intake.take(ENDLESS, 300) is DEDUPLICATED


def test_the_end_of_what_was_closed_by_hand_ends_nothing(closed: Intake) -> None:
    assert closed.take(OVER, 12) is DEDUPLICATED
    assert closed.open_now() == []
