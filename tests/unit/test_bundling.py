"""Which notifications leave together, and what a cap lets go: the tables of the pure core."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from common.domain.bundling import MOST, Bundle, Cap, Waiting, fresh, retried

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def _row(no: int, incident: str, group: str | None = None, *, tried: str | None = None, older: int = 0) -> Waiting:
    return Waiting(str(no), no, incident, group, tried, NOW, older)


def _numbers(bundles: list[Bundle]) -> list[list[int]]:
    return [[row.no for row in bundle] for bundle in bundles]


@pytest.mark.parametrize(
    ("rows", "limit", "expected"),
    [
        # Ungrouped ones leave alone, in order of their numbers.
        ([_row(2, "b"), _row(1, "a")], None, [[1], [2]]),
        # A group leaves together, with what came between left out.
        ([_row(1, "a", "g"), _row(2, "b"), _row(3, "c", "g"), _row(4, "d", "h")], None, [[1, 3], [2], [4]]),
        # Of one incident, in order and without a gap.
        ([_row(1, "a", "g"), _row(2, "a", "g", older=1), _row(3, "a", "g", older=2)], None, [[1, 2, 3]]),
        # The one before it is pending elsewhere (leased, not due): both wait, the other incident does not.
        ([_row(2, "a", "g", older=1), _row(3, "a", "g", older=2), _row(4, "b", "g")], None, [[4]]),
        # A gap in the middle.
        ([_row(1, "a", "g"), _row(3, "a", "g", older=2)], None, [[1]]),
        # The one before it is of another group: it leaves first, alone.
        ([_row(1, "a", "g"), _row(2, "a", "h", older=1)], None, [[1]]),
        # … but together when they have to leave as one message anyway.
        ([_row(1, "a", "g"), _row(2, "a", "h", older=1)], 1, [[1, 2]]),
        # More than the limit: the last takes all that is left, whatever its group.
        ([_row(1, "a"), _row(2, "b"), _row(3, "c", "g"), _row(4, "d")], 2, [[1], [2, 3, 4]]),
        # As many as the limit: each on its own.
        ([_row(1, "a"), _row(2, "b")], 2, [[1], [2]]),
        ([_row(1, "a"), _row(2, "b")], 0, []),
        # What was tried is no part of a new message.
        ([_row(1, "a", "g", tried="m"), _row(2, "b", "g")], None, [[2]]),
        ([], 1, []),
    ],
)
def test_new_messages(rows: list[Waiting], limit: int | None, expected: list[list[int]]) -> None:
    assert _numbers(fresh(rows, limit)) == expected


def test_a_message_holds_a_hundred_and_the_rest_is_the_next() -> None:
    rows = [_row(no, f"incident {no}", "g") for no in range(MOST + 30)]
    assert [len(bundle) for bundle in fresh(rows, None)] == [MOST, 30]
    assert [len(bundle) for bundle in fresh(rows, 1)] == [MOST]


def test_an_incident_that_does_not_fit_into_a_message_goes_on_in_a_later_one() -> None:
    rows = [_row(no, "a", "g", older=no) for no in range(MOST + 2)]
    assert [len(bundle) for bundle in fresh(rows, None)] == [MOST]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # The same notifications as before, whatever else is due.
        ([_row(1, "a", "g", tried="m"), _row(2, "b", "g"), _row(3, "c", "g", tried="m")], [[1, 3]]),
        # Two messages, the one with the oldest first; a lone one goes by its own id.
        ([_row(2, "a", tried="2"), _row(1, "b", tried="m"), _row(3, "c", tried="m")], [[1, 3], [2]]),
        # One of its notifications has to wait for another: so does the message.
        ([_row(1, "a", tried="m"), _row(2, "b", tried="m", older=1)], []),
    ],
)
def test_a_message_that_was_tried_stays_as_it_is(rows: list[Waiting], expected: list[list[int]]) -> None:
    assert _numbers(retried(rows)) == expected


@pytest.mark.parametrize(
    ("cap", "waiting_s", "allowed"),
    [
        # The first window has not begun.
        (Cap(3, MINUTE), 5, 3),
        # Within it: what is left, nothing when none is (or the cap was lowered).
        (Cap(3, MINUTE, NOW - timedelta(seconds=30), 1), 5, 2),
        (Cap(3, MINUTE, NOW - timedelta(seconds=30), 3), 5, 0),
        (Cap(3, MINUTE, NOW - timedelta(seconds=30), 7), 5, 0),
        # After it: all again …
        (Cap(3, MINUTE, NOW - timedelta(seconds=61), 2), 5, 3),
        # … but what it held back leaves as one.
        (Cap(3, MINUTE, NOW - timedelta(seconds=61), 3), 30, 1),
        # It was used up, and nothing waited: the next are as any.
        (Cap(3, MINUTE, NOW - timedelta(hours=1), 3), 5, 3),
    ],
)
def test_how_many_messages_a_cap_allows(cap: Cap, waiting_s: float, allowed: int) -> None:
    row = Waiting("1", 1, "a", None, None, NOW - timedelta(seconds=waiting_s), 0)
    assert cap.allows([row], NOW) == allowed


def test_a_cap_counts_within_its_window_and_then_anew() -> None:
    cap = Cap(3, MINUTE).after(2, NOW)
    assert (cap.started_at, cap.used) == (NOW, 2)
    cap = cap.after(1, NOW + timedelta(seconds=59))
    assert (cap.started_at, cap.used) == (NOW, 3)
    later = NOW + MINUTE
    assert (cap.after(1, later).started_at, cap.after(1, later).used) == (later, 1)
