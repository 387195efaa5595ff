"""The accounting rules of docs/reports.md, each as a property of whatever a monitor may have lived through."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from common.domain.accounting import (
    CATEGORIES,
    HealthSince,
    History,
    Span,
    Times,
    Watch,
    account,
    due,
    known_spans,
)
from common.domain.health import Health
from common.domain.slots import next_slot, phase_ms

HOUR = 3_600_000
ID = "01928e5c-7f3a-7cc1-9d5e-3b1f5a1c2d3e"
MOMENTS = st.integers(0, HOUR)


@st.composite
def watches(draw: st.DrawFn) -> list[Watch]:
    times = sorted(draw(st.lists(MOMENTS, min_size=1, max_size=6)))
    found = [
        Watch(at, draw(st.booleans()), draw(st.sampled_from([1_000, 60_000, 420_000])), draw(st.integers(1, 3)))
        for at in times
    ]
    if draw(st.booleans()):
        found.append(replace(found[-1], at_ms=found[-1].at_ms + draw(st.integers(0, HOUR)), gone=True))
    return found


@st.composite
def histories(draw: st.DrawFn) -> History:
    changes = sorted(draw(st.lists(MOMENTS, max_size=8)))
    healths = [
        HealthSince(at, draw(st.sampled_from([h for h in Health if h is not Health.RELEASED]))) for at in changes
    ]
    ends = sorted(draw(st.lists(MOMENTS, max_size=6, unique=True)))
    return History(draw(watches()), healths, list(zip(ends[::2], ends[1::2], strict=False)))


SEEN = st.lists(MOMENTS, max_size=30)


@st.composite
def windows(draw: st.DrawFn) -> Span:
    begin = draw(st.integers(-1_000, HOUR))
    return begin, draw(st.integers(begin, 2 * HOUR))


def lived(history: History, window: Span) -> int:
    """How much of a window the monitor was there."""
    life = history.life()
    return 0 if life is None else max(0, min(window[1], life[1]) - max(window[0], life[0]))


@given(histories(), SEEN, windows())
def test_the_categories_partition_the_window_to_the_millisecond(
    history: History, seen: list[int], window: Span
) -> None:
    times = account(history, seen, window)
    assert all(part >= 0 for part in times.parts())
    assert times.total == sum(getattr(times, name) for name in CATEGORIES) == lived(history, window)


@given(histories(), SEEN, windows(), st.lists(st.integers(-1_000, 2 * HOUR), max_size=5))
def test_a_window_is_the_sum_of_its_parts(history: History, seen: list[int], window: Span, cuts: list[int]) -> None:
    edges = sorted({*window, *(cut for cut in cuts if window[0] < cut < window[1])})
    parts = [account(history, seen, part) for part in pairwise(edges)]
    assert sum(parts, Times()) == account(history, seen, window)


@given(histories(), SEEN, windows())
def test_a_moment_that_nobody_saw_is_never_up_or_down(history: History, seen: list[int], window: Span) -> None:
    known = sum(
        max(0, min(end, window[1]) - max(begin, window[0])) for begin, end in known_spans(history.watches, seen)
    )
    assert account(history, seen, window).judged <= known
    assert account(history, [], window).judged == 0


@given(histories(), SEEN, windows(), MOMENTS)
def test_seeing_more_never_makes_more_unknown(history: History, seen: list[int], window: Span, slot: int) -> None:
    before, after = account(history, seen, window), account(history, [*seen, slot], window)
    assert after.unknown <= before.unknown
    assert (after.paused, after.maintenance, after.total) == (before.paused, before.maintenance, before.total)


@given(histories(), SEEN, windows())
def test_paused_time_and_maintenance_leave_the_denominator(history: History, seen: list[int], window: Span) -> None:
    times = account(history, seen, window)
    assert times.judged == times.total - times.paused - times.maintenance - times.unknown
    paused = [replace(watch, enabled=False) for watch in history.watches]
    asleep = account(replace(history, watches=paused), seen, window)
    assert (asleep.paused, asleep.judged, asleep.uptime) == (asleep.total, 0, None)


@given(histories(), SEEN, windows(), st.integers(0, 10 * HOUR))
def test_the_rules_do_not_know_what_time_it_is(history: History, seen: list[int], window: Span, shift: int) -> None:
    moved = History(
        [replace(watch, at_ms=watch.at_ms + shift) for watch in history.watches],
        [replace(since, at_ms=since.at_ms + shift) for since in history.healths],
        [(begin + shift, end + shift) for begin, end in history.maintenance],
    )
    later = account(moved, [slot + shift for slot in seen], (window[0] + shift, window[1] + shift))
    assert later == account(history, seen, window)


@given(histories(), windows(), st.lists(st.integers(-1_000, 2 * HOUR), max_size=5))
def test_slots_due_add_up_too(history: History, window: Span, cuts: list[int]) -> None:
    edges = sorted({*window, *(cut for cut in cuts if window[0] < cut < window[1])})
    assert sum(due(history, ID, part) for part in pairwise(edges)) == due(history, ID, window)


def watched(**changes: object) -> History:
    """A monitor of one minute, watched and up since 0."""
    return replace(History([Watch(0, True, 60_000)], [HealthSince(0, Health.UP)]), **changes)  # type: ignore[arg-type]


EVERY_MINUTE = list(range(0, HOUR, 60_000))


def test_a_monitor_that_is_up_all_the_time_is_up_all_the_time() -> None:
    assert account(watched(), EVERY_MINUTE, (0, HOUR)) == Times(up=HOUR)


def test_an_outage_counts_between_its_transitions() -> None:
    outage = [HealthSince(0, Health.UP), HealthSince(600_123, Health.DOWN), HealthSince(900_456, Health.UP)]
    times = account(watched(healths=outage), EVERY_MINUTE, (0, HOUR))
    assert times == Times(up=HOUR - 300_333, down=300_333)
    assert times.uptime == (HOUR - 300_333) / HOUR


def test_a_lost_slot_makes_its_own_minute_unknown_also_while_down() -> None:
    down = watched(healths=[HealthSince(0, Health.DOWN)])
    without = [slot for slot in EVERY_MINUTE if slot != 600_000]
    assert account(down, without, (0, HOUR)) == Times(down=HOUR - 60_000, unknown=60_000)


def test_another_location_that_saw_is_enough() -> None:
    shifted = [slot + 30_000 for slot in EVERY_MINUTE]
    without = [slot for slot in EVERY_MINUTE if slot != 600_000]
    assert account(watched(), [*without, *shifted], (0, HOUR)).unknown == 0


def test_a_monitor_made_inside_the_window_counts_from_then() -> None:
    made = watched(watches=[Watch(1_000_000, True, 60_000)])
    seen = list(range(1_000_000, HOUR, 60_000))
    assert account(made, seen, (0, HOUR)) == Times(up=HOUR - 1_000_000)


def test_a_deleted_monitor_counts_until_then() -> None:
    gone = watched(watches=[Watch(0, True, 60_000), Watch(900_000, True, 60_000, gone=True)])
    assert account(gone, EVERY_MINUTE, (0, HOUR)) == Times(up=900_000)


def test_pending_is_unknown_and_a_pause_is_its_own() -> None:
    history = History(
        [Watch(0, True, 60_000), Watch(600_000, False, 60_000), Watch(1_200_000, True, 60_000)],
        [HealthSince(0, Health.PENDING), HealthSince(5_000, Health.UP), HealthSince(600_000, Health.PENDING)],
    )
    times = account(history, EVERY_MINUTE, (0, HOUR))
    assert times == Times(up=595_000, unknown=5_000 + (HOUR - 1_200_000), paused=600_000)


def test_what_was_seen_before_a_pause_says_nothing_after_it() -> None:
    history = watched(watches=[Watch(0, True, 60_000), Watch(10_000, False, 60_000), Watch(20_000, True, 60_000)])
    assert account(history, [0], (0, 60_000)) == Times(up=10_000, paused=10_000, unknown=40_000)


def test_another_location_set_breaks_no_row_of_slots() -> None:
    history = watched(watches=[Watch(0, True, 60_000, 1), Watch(10_000, True, 60_000, 2)])
    assert account(history, [0], (0, 60_000)) == Times(up=60_000)


def test_maintenance_wins_over_unknown_and_health_and_loses_to_a_pause() -> None:
    history = History(
        [Watch(0, True, 60_000), Watch(40_000, False, 60_000)], [HealthSince(0, Health.DOWN)], [(30_000, 50_000)]
    )
    assert account(history, [0], (0, 60_000)) == Times(down=30_000, maintenance=10_000, paused=20_000)


def test_slots_due_are_those_of_the_schedule_and_the_one_at_once() -> None:
    history = watched(watches=[Watch(0, True, 60_000)])
    phase = phase_ms(ID, 60_000)
    assert phase != 0
    assert due(history, ID, (0, HOUR)) == 61
    assert due(history, ID, (1, HOUR + 1)) == 60
    first = next_slot(0, 60_000, phase)
    assert (due(history, ID, (first, first + 1)), due(history, ID, (first + 1, first + 60_000))) == (1, 0)
    two = watched(watches=[Watch(0, True, 60_000, 2), Watch(60_000, False, 60_000, 2)])
    assert due(two, ID, (0, HOUR)) == 4  # two at once, and one of each in the first minute
