"""Schedules of maintenance windows: by the clock on the wall, through every change of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.accounting import HealthSince, History, Times, Watch, account, merged
from common.domain.health import Health
from common.domain.maintenance import (
    APART,
    Cron,
    Once,
    Schedule,
    Weekly,
    beginnings,
    check_schedule,
    occurrence,
    read,
    stored,
)

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")
HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

moments = st.integers(1_704_067_200_000, 1_893_456_000_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
times = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))
weeklies = st.builds(
    Weekly,
    st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    times,
    st.timedeltas(timedelta(minutes=1), timedelta(hours=20)),
    st.sampled_from(ZONES),
)


def _exists(moment: datetime) -> bool:
    return moment.astimezone(UTC).astimezone(moment.tzinfo).replace(fold=0) == moment.replace(fold=0)


@given(weeklies, moments)
def test_weekly_windows_begin_on_their_days_at_their_time_of_the_wall_s_clock(weekly: Weekly, since: datetime) -> None:
    zone = ZoneInfo(weekly.zone)
    for begin in islice(beginnings(weekly, since), 20):
        assert begin >= since
        local = begin.astimezone(zone)
        wanted = datetime.combine(local.date(), weekly.at, tzinfo=zone)
        if _exists(wanted) and local.weekday() in weekly.days and local.time() == weekly.at:
            assert begin == wanted.astimezone(UTC)  # the first of two
            continue
        # Its time was jumped over: as much later as the clock jumped, at most a day (Samoa once left one out).
        assert any(
            datetime.combine(local.date() - timedelta(days=back), weekly.at, tzinfo=zone).astimezone(UTC) == begin
            and not _exists(datetime.combine(local.date() - timedelta(days=back), weekly.at, tzinfo=zone))
            for back in (0, 1)
        )


@given(weeklies, moments)
def test_no_week_is_left_out_and_none_comes_twice(weekly: Weekly, since: datetime) -> None:
    begins = list(islice(beginnings(weekly, since), 4 * len(weekly.days)))
    assert all(earlier < later for earlier, later in pairwise(begins))
    zone = ZoneInfo(weekly.zone)
    days = [begin.astimezone(zone).date() for begin in begins]
    for first, after in zip(days, days[len(weekly.days) :], strict=False):
        assert timedelta(days=6) <= after - first <= timedelta(days=8)


@given(weeklies, moments)
def test_an_occurrence_is_on_now_or_the_next_and_lasts_as_long_as_it_says(weekly: Weekly, now: datetime) -> None:
    found = occurrence(weekly, now)
    assert found is not None
    assert found.ends_at > now
    assert found.ends_at - found.begins_at == weekly.duration  # elapsed, whatever the clock did
    following = occurrence(weekly, now, not_before=found.ends_at)
    assert following is not None and following.begins_at >= found.ends_at
    if found.begins_at > now:
        before = [begin for begin in islice(beginnings(weekly, now - weekly.duration), 2) if begin < found.begins_at]
        assert all(begin + weekly.duration <= now for begin in before)


@pytest.mark.parametrize(
    ("day", "at", "wanted"),
    [
        (date(2026, 3, 29), time(2, 30), "2026-03-29T01:30:00+00:00"),  # 02:30 does not exist: 03:30
        (date(2026, 10, 25), time(2, 30), "2026-10-25T00:30:00+00:00"),  # comes twice: the first
        (date(2026, 3, 30), time(2, 30), "2026-03-30T00:30:00+00:00"),
        (date(2026, 10, 24), time(2, 30), "2026-10-24T00:30:00+00:00"),
        (date(2026, 10, 26), time(2, 30), "2026-10-26T01:30:00+00:00"),
    ],
)
def test_the_clocks_of_berlin(day: date, at: time, wanted: str) -> None:
    weekly = Weekly((day.weekday(),), at, HOUR, "Europe/Berlin")
    begin = next(beginnings(weekly, datetime.combine(day, time(0), tzinfo=UTC) - timedelta(hours=3)))
    assert begin.isoformat() == wanted
    cron = Cron(f"{at.minute} {at.hour} * * *", HOUR, "Europe/Berlin")
    assert begin - next(beginnings(cron, begin - timedelta(minutes=90))) <= HOUR


def test_a_cron_window_follows_its_expression_and_zone() -> None:
    cron = Cron("0 2 * * 6", 2 * HOUR, "Europe/Berlin")
    found = occurrence(cron, NOW)  # a Saturday noon
    assert found is not None
    assert found.begins_at == datetime(2026, 11, 28, 1, tzinfo=UTC)
    assert occurrence(cron, found.begins_at) == occurrence(cron, found.ends_at - timedelta(milliseconds=1)) == found
    assert occurrence(cron, found.ends_at) != found


def test_a_cron_window_in_an_hour_that_comes_twice_does_not_come_again_after_its_first() -> None:
    cron = Cron("30 2 * * *", HOUR / 2, "Europe/Berlin")
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 for the first time; the second is an hour later
    tomorrow = datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    for minutes in (1, 30, 59, 60, 61, 90):
        since = first + timedelta(minutes=minutes)
        assert next(beginnings(cron, since)) == tomorrow, minutes
    assert next(beginnings(cron, first)) == first
    # Ended early after ten minutes: it is not to come again.
    found = occurrence(cron, first + HOUR / 6, not_before=first + HOUR / 2)
    assert found is not None and found.begins_at == tomorrow


def test_a_single_window_comes_once() -> None:
    once = Once(NOW, NOW + HOUR)
    assert occurrence(once, NOW - HOUR) == occurrence(once, NOW) is not None
    assert occurrence(once, NOW + HOUR) is None
    assert occurrence(once, NOW, not_before=NOW + HOUR) is None


@given(st.one_of(weeklies, st.builds(Once, moments, moments)))
def test_what_is_kept_is_read_back(schedule: Schedule) -> None:
    kept = stored(schedule)
    again = read(kept)
    assert stored(again) == kept
    if isinstance(schedule, Weekly):
        assert isinstance(again, Weekly)
        assert (again.days, again.at, again.zone) == (schedule.days, schedule.at, schedule.zone)


def weekly(*, days: tuple[int, ...] = (5,), duration: timedelta = HOUR, zone: str = "UTC") -> Weekly:
    return Weekly(days, time(2), duration, zone)


def cron(expression: str, duration: timedelta = HOUR) -> Callable[[], Schedule]:
    return lambda: Cron(expression, duration, "Europe/Berlin")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (weekly, None),
        (lambda: weekly(zone="Europe/Nowhere"), "time_zone"),
        (lambda: weekly(zone="../../etc/passwd"), "time_zone"),
        (lambda: weekly(zone="Europe"), "time_zone"),  # a folder
        (lambda: weekly(zone="\x00"), "time_zone"),
        (lambda: weekly(days=()), "days"),
        (lambda: weekly(duration=timedelta(seconds=59)), "duration_seconds"),
        (lambda: weekly(duration=timedelta(days=31)), "duration_seconds"),
        (lambda: weekly(days=(0, 1), duration=timedelta(hours=24)), "duration_seconds"),  # no time between
        (lambda: weekly(days=(0, 2), duration=timedelta(hours=24)), None),
        (lambda: weekly(days=tuple(range(7)), duration=timedelta(hours=23, minutes=59)), None),
        # In spring a day has 23 hours there.
        (lambda: weekly(days=tuple(range(7)), duration=timedelta(hours=23, minutes=30), zone="Europe/Berlin"),
         "duration_seconds"),
        (cron("0 2 * * 6"), None),
        (cron("0 2 * *"), "cron"),
        (cron("0 0 2 * * 6"), "cron"),  # seconds
        (cron("61 2 * * 6"), "cron"),
        (cron("x y * * *"), "cron"),
        (cron("0 0 30 2 *"), "cron"),  # never
        (cron("0 0 29 2 *"), "cron"),  # not within 400 days of NOW
        (cron("*/5 * * * *"), "duration_seconds"),
        (cron("*/5 * * * *", timedelta(minutes=4)), None),
        (lambda: Once(NOW - 2 * HOUR, NOW - HOUR), "ends_at"),
        (lambda: Once(NOW, NOW), "ends_at"),
        (lambda: Once(NOW, NOW + timedelta(days=31)), "ends_at"),
        (lambda: Once(NOW + timedelta(days=401), NOW + timedelta(days=402)), "starts_at"),
        (lambda: Once(NOW - HOUR, NOW + HOUR), None),
    ],
)  # fmt: skip
def test_what_a_schedule_may_be(make: Callable[[], Schedule], field: str | None) -> None:
    wrong = check_schedule(make(), NOW)
    assert [one.field for one in wrong] == ([field] if field else []), wrong


def test_windows_are_apart_from_each_other() -> None:
    [wrong] = check_schedule(weekly(days=(0, 1), duration=timedelta(hours=24)), NOW)
    assert (
        wrong.message
        == f"must be at most {int((timedelta(days=1) - APART).total_seconds())}: the next window begins by then"
    )


spans = st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 1_000)).map(lambda pair: (min(pair), max(pair))))


@given(spans, st.integers(-5, 1_005))
def test_merged_spans_hold_the_same_moments_apart_from_each_other(given_spans: list[tuple[int, int]], at: int) -> None:
    found = merged(given_spans)
    assert any(begin <= at < end for begin, end in found) is any(begin <= at < end for begin, end in given_spans)
    assert all(before[1] < after[0] for before, after in pairwise(found))
    assert all(begin < end for begin, end in found)


@given(spans, st.lists(st.integers(0, 900), max_size=20))
def test_every_millisecond_has_one_category_with_windows_that_overlap(
    given_spans: list[tuple[int, int]], seen: list[int]
) -> None:
    history = History([Watch(0, enabled=True, interval_ms=50)], [HealthSince(0, Health.DOWN)], merged(given_spans))
    times = account(history, seen, (0, 1_000))
    covered = sum(any(begin <= at < end for begin, end in given_spans) for at in range(1_000))
    assert times.total == 1_000
    assert times.maintenance == covered
    assert account(history, seen, (0, 400)) + account(history, seen, (400, 1_000)) == times
    assert isinstance(times, Times)
