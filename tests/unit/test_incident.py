"""What an incident may do, and how it is spelled."""

from __future__ import annotations

from itertools import product

import pytest

from common.domain.errors import InvalidTransition, ValidationFailed
from common.domain.health import Change, Health
from common.domain.incident import (
    ANNOUNCED,
    MAX_LABELS,
    TOLD_AS,
    TRANSITIONS,
    EventType,
    Priority,
    Severity,
    Status,
    merge_labels,
    move,
    parse_status,
    priority_of,
    severity_for,
    severity_of,
)

#: Every (from, to): True moves, False is the same already, None may not.
MOVES = {
    (Status.OPEN, Status.OPEN): False,
    (Status.OPEN, Status.ACKNOWLEDGED): True,
    (Status.OPEN, Status.RESOLVED): True,
    (Status.ACKNOWLEDGED, Status.OPEN): None,  # an acknowledgement is not taken back
    (Status.ACKNOWLEDGED, Status.ACKNOWLEDGED): False,
    (Status.ACKNOWLEDGED, Status.RESOLVED): True,
    (Status.RESOLVED, Status.OPEN): None,  # final: a new outage is a new incident
    (Status.RESOLVED, Status.ACKNOWLEDGED): None,
    (Status.RESOLVED, Status.RESOLVED): False,
}


@pytest.mark.parametrize(("current", "wanted"), list(product(Status, Status)))
def test_every_move_is_made_ignored_or_refused(current: Status, wanted: Status) -> None:
    expected = MOVES[current, wanted]
    if expected is not None:
        assert move(current, wanted) is expected
        return
    with pytest.raises(InvalidTransition) as refused:
        move(current, wanted)
    assert current in refused.value.message
    for allowed in TRANSITIONS[current]:
        assert allowed in refused.value.message  # it says what would have been possible
    assert refused.value.details[0].field == "status"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("open", Status.OPEN),
        ("ACKNOWLEDGED", Status.ACKNOWLEDGED),
        ("Resolved", Status.RESOLVED),
        ("ack", Status.ACKNOWLEDGED),
        (" Ack\n", Status.ACKNOWLEDGED),
    ],
)
def test_a_status_is_understood_in_any_case_and_as_ack(text: str, status: Status) -> None:
    assert parse_status(text) is status


@pytest.mark.parametrize("text", ["", "closed", "acknowledge", "open resolved", "öpen"])
def test_another_word_is_refused_with_those_that_are_meant(text: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        parse_status(text)
    assert all(status.value in refused.value.message for status in Status)
    assert refused.value.details[0].field == "status"


def test_priority_follows_severity() -> None:
    assert {severity: priority_of(severity) for severity in Severity} == {
        Severity.CRITICAL: Priority.P1,
        Severity.ERROR: Priority.P2,
        Severity.WARNING: Priority.P3,
        Severity.INFO: Priority.P3,
    }


def test_degraded_opens_with_the_milder_of_the_monitors_severity_and_warning() -> None:
    assert {severity: severity_for(severity, Health.DEGRADED) for severity in Severity} == {
        Severity.CRITICAL: Severity.WARNING,
        Severity.ERROR: Severity.WARNING,
        Severity.WARNING: Severity.WARNING,
        Severity.INFO: Severity.INFO,
    }
    assert all(severity_for(severity, Health.DOWN) is severity for severity in Severity)


def test_people_hear_of_everything_but_notes_and_easing() -> None:
    silent = {EventType.COMMENTED, EventType.EASED, EventType.UPDATED, EventType.ASSIGNED, EventType.HELD_BACK}
    assert set(EventType) - ANNOUNCED == silent
    assert set(TOLD_AS) <= ANNOUNCED
    assert set(TOLD_AS.values()) <= ANNOUNCED - set(TOLD_AS)


def test_severity_follows_priority_and_back() -> None:
    assert {priority: severity_of(priority) for priority in Priority} == {
        Priority.P1: Severity.CRITICAL,
        Priority.P2: Severity.ERROR,
        Priority.P3: Severity.WARNING,
    }
    assert all(priority_of(severity_of(priority)) is priority for priority in Priority)


def test_labels_are_merged_up_to_their_limit() -> None:
    labels = {"team": "shop", "env": "prod"}
    assert merge_labels(labels, {"env": None, "zone": "a", "gone": None}) == {"team": "shop", "zone": "a"}
    assert merge_labels(labels, {}) == labels
    assert merge_labels(labels, None) == {}
    full = {str(number): "x" for number in range(MAX_LABELS)}
    assert merge_labels(full, {"0": "y"})["0"] == "y"
    with pytest.raises(ValidationFailed) as refused:
        merge_labels(full, {"one more": "x"})
    assert refused.value.details[0].field == "labels"
    # More than would be allowed today may stay, or become less.
    crowded = full | {"a": "x", "b": "x"}
    assert len(merge_labels(crowded, {"a": None})) == MAX_LABELS + 1


def test_every_change_that_checks_find_has_its_event() -> None:
    assert {EventType(change.value) for change in Change} <= set(EventType)
