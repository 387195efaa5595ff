"""Which rows make up a window: exactly it, as few as there can be, and none that is not there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.domain.accounting_cover import Level, Rolled, cover

FINE, HOUR, DAY = (level.ms for level in Level)
#: Counting began at 10:25 of some day; it is 20 days later, and five minutes are kept for 7.
SINCE = 1_000 * DAY + 10 * HOUR + 5 * FINE
NOW = SINCE + 20 * DAY
ROLLED = Rolled(
    since_ms=SINCE,
    fine_from_ms=NOW // DAY * DAY - 7 * DAY,
    kept_from_ms=SINCE,
    fine_to_ms=NOW // FINE * FINE,
    hours_to_ms=NOW // HOUR * HOUR,
    days_to_ms=NOW // DAY * DAY,
)
MOMENTS = st.integers(SINCE - DAY, NOW + DAY)


@given(MOMENTS, MOMENTS)
def test_rows_tile_their_window_without_gap_or_overlap(one: int, other: int) -> None:
    found = cover(ROLLED, min(one, other), max(one, other))
    spans = sorted((at, at + level.ms) for level, rows in found.rows.items() for at in rows)
    assert [begin for begin, _ in spans] + [found.end_ms] == [found.begin_ms] + [end for _, end in spans]
    for level, rows in found.rows.items():
        assert all(at % level.ms == 0 and at + level.ms <= ROLLED.to_ms(level) for at in rows)
    assert all(at >= ROLLED.fine_from_ms for at in found.rows[Level.FINE])


@given(MOMENTS, MOMENTS)
def test_a_window_of_any_length_takes_few_rows(one: int, other: int) -> None:
    found = cover(ROLLED, min(one, other), max(one, other))
    assert len(found.rows[Level.FINE]) <= 2 * 11 + 12
    assert len(found.rows[Level.HOUR]) <= 2 * 23 + 24


@given(MOMENTS, MOMENTS)
def test_a_window_begins_and_ends_with_what_was_asked_for_as_far_as_there_are_rows(one: int, other: int) -> None:
    begin, end = min(one, other), max(one, other)
    found = cover(ROLLED, begin, end)
    if begin >= ROLLED.fine_from_ms:
        assert found.begin_ms == begin - begin % FINE
    else:
        assert abs(found.begin_ms - max(begin, SINCE)) < HOUR
    step = FINE if end >= ROLLED.fine_from_ms else HOUR
    assert found.end_ms == max(found.begin_ms, min(end - end % step, ROLLED.fine_to_ms))


def test_thirty_days_are_days_and_the_hours_and_minutes_at_the_ends() -> None:
    found = cover(ROLLED, NOW - 6 * DAY, NOW)
    assert [len(found.rows[level]) for level in Level] == [12, 23, 5]
