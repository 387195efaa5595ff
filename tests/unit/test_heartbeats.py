"""Heartbeats judged without a database: every kind of ping, every deadline, our own deafness, and changing clocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.domain.checks import Kind, Reason, Verdict
from common.domain.heartbeat_schedules import Schedule, next_cron
from common.domain.heartbeats import MARGIN_MS, MAX_RUNS, Course, Ping, PingKind, Setting, Standing, follow

S = 1000
T0 = 1_800_000_000 * S
PERIOD, GRACE = 60 * S, 10 * S
SUCCESS, START, FAIL, LOG = PingKind.SUCCESS, PingKind.START, PingKind.FAIL, PingKind.LOG


class Beat:
    """One heartbeat and its time; `heard_to` follows it unless a test makes us deaf."""

    def __init__(self, *, period_ms: int = PERIOD, grace_ms: int = GRACE, interval_ms: int = PERIOD) -> None:
        self.standing = Standing()
        self.schedule = Schedule(period_ms, grace_ms)
        self.interval_ms = interval_ms
        self.deaf: list[tuple[int, int]] = []
        self.settled = False
        self.watched_from = T0
        self.version = 1

    def go(self, to_s: float, *pings: Ping, heard_to_s: float | None = None) -> Course:
        """Judge everything up to a moment, in seconds since T0."""
        now = T0 + int(to_s * S)
        heard_to = now if heard_to_s is None else T0 + int(heard_to_s * S)
        setting = Setting(
            self.schedule, self.interval_ms, T0 % self.interval_ms, self.watched_from, self.version, heard_to,
            tuple(self.deaf), self.settled,
        )  # fmt: skip
        course = follow(self.standing, pings, setting, now)
        self.standing = course.standing
        return course


def ping(at_s: float, kind: PingKind = SUCCESS, code: int | None = None, rid: str | None = None, **more: str) -> Ping:
    return Ping(kind, T0 + int(at_s * S), code, rid=rid, **more)


def events(course: Course) -> list[tuple[float, Verdict, Reason]]:
    """What was said apart from slots, in seconds since T0."""
    return [((one.at_ms - T0) / S, one.verdict, one.reason) for one in course.said if one.kind is Kind.CONFIRM]


def slots(course: Course) -> list[tuple[float, Verdict]]:
    return [((one.at_ms - T0) / S, one.verdict) for one in course.said if one.kind is Kind.SCHEDULED]


def test_nothing_is_said_of_one_that_was_never_pinged() -> None:
    beat = Beat()
    course = beat.go(100_000)
    assert course.said == ()
    assert (beat.standing.armed, beat.standing.deadline_ms) == (False, None)


def test_the_first_ping_makes_it_up_and_counts_as_a_slot() -> None:
    course = Beat().go(5, ping(4))
    assert [(one.at_ms, one.verdict, one.kind) for one in course.said] == [(T0 + 4 * S, Verdict.UP, Kind.SCHEDULED)]


def test_a_ping_that_says_nothing_new_says_nothing() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    beat.settled = True
    assert events(beat.go(20, ping(10), ping(15))) == []
    assert beat.standing.heard_ms == T0 + 15 * S


@pytest.mark.parametrize(
    ("now_s", "missed"),
    [
        (70.9, False),  # passed, but what came in time may still be on its way
        (75, True),
        (74.999, False),
    ],
)
def test_a_missed_deadline_is_down_a_second_after_it_and_dated_at_it(now_s: float, missed: bool) -> None:
    beat = Beat()
    beat.go(5, ping(4))
    found = events(beat.go(now_s))
    assert found == ([(74.0, Verdict.DOWN, Reason.HEARTBEAT_MISSED)] if missed else [])


def test_the_message_says_what_was_expected_and_when_it_was_last_heard() -> None:
    beat = Beat()
    beat.go(5, ping(0))
    said = next(one for one in beat.go(80).said if one.reason is Reason.HEARTBEAT_MISSED)
    assert said.message == "expected by 2027-01-15T08:01:00Z with 10 s of grace; last heard 2027-01-15T08:00:00Z"


def test_a_missed_one_stays_down_at_its_slots_until_it_is_pinged() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    beat.go(80)
    assert slots(beat.go(130)) == [(120.0, Verdict.DOWN)]
    assert events(beat.go(140, ping(138))) == [(138.0, Verdict.UP, Reason.NONE)]
    assert slots(beat.go(185)) == [(180.0, Verdict.UP)]


def test_a_late_ping_after_a_standstill_of_ours_still_finds_the_deadline_missed_before_it() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    assert events(beat.go(100, ping(90))) == [
        (74.0, Verdict.DOWN, Reason.HEARTBEAT_MISSED),
        (90.0, Verdict.UP, Reason.NONE),
    ]


@pytest.mark.parametrize(
    ("given", "reason", "message"),
    [
        (ping(20, FAIL), Reason.HEARTBEAT_FAILED, "a failure was reported"),
        (ping(20, FAIL, 3), Reason.HEARTBEAT_FAILED, "exit status 3"),
        (ping(20, FAIL, 3, message="disk full"), Reason.HEARTBEAT_FAILED, "exit status 3: disk full"),
        (ping(20, FAIL, message="disk full"), Reason.HEARTBEAT_FAILED, "disk full"),
    ],
)
def test_a_failure_is_down_at_once_with_what_it_says(given: Ping, reason: Reason, message: str) -> None:
    beat = Beat()
    beat.go(5, ping(4))
    said = beat.go(21, given).said
    assert [(one.verdict, one.reason, one.message, one.code) for one in said] == [
        (Verdict.DOWN, reason, message, given.exit_code or 0)
    ]


def test_a_log_line_changes_nothing() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    before = beat.standing
    assert beat.go(6, ping(5.5, LOG)).said == ()
    assert beat.standing == before


def test_a_run_is_measured_by_its_own_end() -> None:
    beat, one, other = Beat(grace_ms=30 * S), str(uuid4()), str(uuid4())
    course = beat.go(
        20,
        ping(1, START, rid=one), ping(2, START, rid=other), ping(5, SUCCESS, rid=one), ping(9, FAIL, 1, rid=other),
        ping(10, START), ping(12, SUCCESS),
    )  # fmt: skip
    assert course.durations_ms == (None, None, 4 * S, 7 * S, None, 2 * S)
    assert beat.standing.runs == ()


def test_an_end_of_no_known_run_has_no_duration_and_one_without_a_name_ends_them_all() -> None:
    beat, one = Beat(grace_ms=30 * S), str(uuid4())
    assert beat.go(9, ping(1, START, rid=one), ping(2, SUCCESS, rid=str(uuid4()))).durations_ms == (None, None)
    assert len(beat.standing.runs) == 1
    beat.go(10, ping(9.5))
    assert beat.standing.runs == ()


def test_a_run_without_an_end_within_the_grace_is_down() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    assert events(beat.go(25, ping(10, START))) == [(20.0, Verdict.DOWN, Reason.RUN_TOO_LONG)]
    assert events(beat.go(40, ping(38))) == [(38.0, Verdict.UP, Reason.NONE)]


def test_the_very_first_run_may_be_too_long_as_well() -> None:
    assert events(Beat().go(25, ping(10, START))) == [(20.0, Verdict.DOWN, Reason.RUN_TOO_LONG)]


def test_runs_that_are_remembered_are_bounded() -> None:
    beat = Beat(grace_ms=1000 * S)
    beat.go(100, *(ping(n / 100, START, rid=str(uuid4())) for n in range(500)))
    assert len(beat.standing.runs) == MAX_RUNS


def test_pings_of_one_moment_are_judged_one_after_the_other() -> None:
    course = Beat().go(5, ping(4), ping(4, FAIL), ping(4))
    moments = [one.at_ms for one in course.said]
    assert [one.verdict for one in course.said] == [Verdict.UP, Verdict.DOWN, Verdict.UP]
    assert moments == sorted(set(moments))


# Our own deafness ----------------------------------------------------------------------------------------------------


def test_a_deadline_that_passed_while_nobody_heard_is_not_held_against_it() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    # Nobody since 60 s: what is due at 64 s may have come. Nothing is said but that we do not know.
    course = beat.go(200, heard_to_s=60)
    assert [verdict for _, verdict in slots(course)] == [Verdict.UNKNOWN]
    assert events(course) == []
    # Back at 200 s: it has a whole period and its grace from there.
    beat.deaf = [(T0 + 60 * S, T0 + 200 * S)]
    course = beat.go(250)
    assert (slots(course), events(course)) == ([(240.0, Verdict.UNKNOWN)], [])
    assert events(beat.go(272)) == [(270.0, Verdict.DOWN, Reason.HEARTBEAT_MISSED)]


def test_the_next_ping_after_deafness_is_simply_up() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    beat.deaf = [(T0 + 60 * S, T0 + 200 * S)]
    assert events(beat.go(210, ping(205))) == [(205.0, Verdict.UP, Reason.NONE)]
    assert slots(beat.go(245)) == [(240.0, Verdict.UP)]


def test_a_spell_far_from_when_the_ping_is_due_excuses_nothing() -> None:
    beat = Beat(period_ms=86_400 * S, interval_ms=3600 * S)
    beat.go(5, ping(4))
    beat.deaf = [(T0 + 3600 * S, T0 + 3605 * S)]
    beat.go(86_000)
    found = events(beat.go(86_404 + 15))
    assert found == [(86_414.0, Verdict.DOWN, Reason.HEARTBEAT_MISSED)]


def test_a_second_spell_at_the_usual_time_excuses_as_well_as_one_a_period_after_the_first() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    # The pings at 64 s and 124 s are lost; the one at 184 s is not.
    beat.deaf = [(T0 + 60 * S, T0 + 95 * S), (T0 + 120 * S, T0 + 130 * S)]
    assert events(beat.go(183)) == []
    assert events(beat.go(185, ping(184))) == [(184.0, Verdict.UP, Reason.NONE)]


def test_a_run_whose_end_nobody_may_have_heard_is_forgotten() -> None:
    beat = Beat()
    beat.go(5, ping(1))
    beat.go(8, ping(7, START))
    beat.deaf = [(T0 + 10 * S, T0 + 14 * S)]
    assert events(beat.go(30)) == []
    assert beat.standing.runs == ()


def test_no_deadline_is_judged_before_an_api_was_heard_of_after_it() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    assert events(beat.go(75.5, heard_to_s=73.9)) == []
    assert events(beat.go(76.5, heard_to_s=76)) == [(74.0, Verdict.DOWN, Reason.HEARTBEAT_MISSED)]


@given(
    gaps=st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 600)), max_size=8),
    jitter=st.lists(st.integers(-4_900, 4_900), min_size=120, max_size=120),
    looks=st.integers(500, 30_000),
)
@settings(max_examples=150, deadline=None)
def test_who_pings_in_time_is_never_down_whatever_we_sleep_through(
    gaps: list[tuple[int, int]], jitter: list[int], looks: int
) -> None:
    """A client that pings each minute, 5 s early or late, and does not retry: pings that fall into a spell are lost."""
    beat, at = Beat(), 0
    for silence_s, length_s in gaps:
        begin = at + silence_s
        beat.deaf.append((T0 + begin * S, T0 + (begin + length_s) * S))
        at = begin + length_s
    spells, beat.deaf = beat.deaf, []
    sent = [T0 + n * PERIOD + late for n, late in enumerate(jitter, 1)]
    heard = [moment for moment in sent if not any(a <= moment <= b for a, b in spells)]
    now = T0
    while now < T0 + 120 * PERIOD:
        came = [Ping(SUCCESS, moment) for moment in heard if now < moment <= now + looks]
        now += looks
        beat.deaf = [(a, min(b, now)) for a, b in spells if a < now - 2 * S]
        open_since = next((a for a, b in spells if a < now <= b), None)
        course = beat.go((now - T0) / S, *came, heard_to_s=None if open_since is None else (open_since - T0) / S)
        assert not [one for one in course.said if one.verdict is Verdict.DOWN], (now - T0) / S


# Changes of the monitor ---------------------------------------------------------------------------------------------


def test_a_resumed_one_begins_anew_and_is_missed_from_there() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    beat.go(80)
    beat.watched_from, beat.version = T0 + 500 * S, 3
    course = beat.go(545)
    assert course.said == ()  # neither up nor down before something is heard
    assert events(beat.go(575)) == [(570.0, Verdict.DOWN, Reason.HEARTBEAT_MISSED)]


def test_a_longer_grace_takes_a_miss_back_and_judges_it_again() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    beat.go(80)
    beat.schedule, beat.version = Schedule(PERIOD, 600 * S), 2
    assert slots(beat.go(130)) == [(120.0, Verdict.UP)]
    assert events(beat.go(670)) == [(664.0, Verdict.DOWN, Reason.HEARTBEAT_MISSED)]


def test_to_judge_the_same_again_says_the_same() -> None:
    beat = Beat()
    beat.go(5, ping(4))
    before = beat.standing
    first = beat.go(130, ping(80, FAIL, 2))
    beat.standing = before
    assert beat.go(130, ping(80, FAIL, 2)) == first


def test_the_next_look_is_at_the_first_thing_that_may_happen() -> None:
    beat = Beat(period_ms=20 * S, interval_ms=3600 * S)
    course = beat.go(5, ping(4))
    assert course.look_at_ms == T0 + (4 + 20 + 10) * S + MARGIN_MS
    assert beat.go(6, ping(5.5, START)).look_at_ms == T0 + int(15.5 * S) + MARGIN_MS


# Cron and changing clocks -------------------------------------------------------------------------------------------


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * S)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 3 * * *", "2027-01-15T01:00:00+01:00", "2027-01-15T03:00:00+01:00"),
        ("0 3 * * *", "2027-01-15T03:00:00+01:00", "2027-01-16T03:00:00+01:00"),  # strictly after
        ("30 2 * * *", "2027-03-27T12:00:00+01:00", "2027-03-28T03:00:00+02:00"),  # the hour that is skipped
        ("30 2 * * *", "2027-10-30T12:00:00+02:00", "2027-10-31T02:30:00+02:00"),  # its first turn
        ("30 2 * * *", "2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"),  # and not its second
        ("30 2 * * *", "2027-10-31T02:10:00+01:00", "2027-11-01T02:30:00+01:00"),  # asked within the second
        ("*/30 * * * *", "2027-10-31T02:45:00+02:00", "2027-10-31T02:00:00+01:00"),  # by the hour both turns count
        ("0 12 * * MON-FRI", "2027-01-15T13:00:00+01:00", "2027-01-18T12:00:00+01:00"),
    ],
)
def test_a_cron_expression_means_what_cron_means_when_clocks_change(expression: str, after: str, expected: str) -> None:
    assert next_cron(expression, "Europe/Berlin", ms(after)) == ms(expected)


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata", "UTC")


@given(
    zone=st.sampled_from(ZONES),
    minute=st.sampled_from(["0", "17", "59", "*/7", "*"]),
    hour=st.sampled_from(["*", "2", "1,2,3", "*/6", "23"]),
    day=st.sampled_from(["*", "1", "L", "31"]),
    dow=st.sampled_from(["*", "SUN", "MON-FRI"]),
    after_ms=st.integers(ms("2020-01-01T00:00Z"), ms("2035-01-01T00:00Z")),
)
@settings(max_examples=400, deadline=None)
def test_the_next_moment_of_a_cron_expression_lies_ahead_and_reads_as_written(
    zone: str, minute: str, hour: str, day: str, dow: str, after_ms: int
) -> None:
    found_ms = next_cron(f"{minute} {hour} {day} * {dow}", zone, after_ms)
    assert found_ms > after_ms
    local = datetime.fromtimestamp(found_ms / S, ZoneInfo(zone))
    if minute.isdigit() and hour.isdigit():
        # In the hour that is skipped it is the moment after it, which reads otherwise.
        skipped = local.utcoffset() != (local - timedelta(hours=2)).astimezone(UTC).astimezone(local.tzinfo).utcoffset()
        assert (local.hour, local.minute) == (int(hour), int(minute)) or skipped
    # What lies between is no other moment of it: nothing was passed over.
    assert next_cron(f"{minute} {hour} {day} * {dow}", zone, found_ms - 1) == found_ms


@given(
    zone=st.sampled_from(ZONES),
    start_ms=st.integers(ms("2024-01-01T00:00Z"), ms("2030-01-01T00:00Z")),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
)
@settings(max_examples=60, deadline=None)
def test_a_daily_job_that_pings_each_day_is_never_missed_over_a_year_of_clock_changes(
    zone: str, start_ms: int, hour: int, minute: int
) -> None:
    schedule = Schedule(1, 600 * S, f"{minute} {hour} * * *", zone)
    at_ms = schedule.next_after(start_ms)
    for _ in range(366):
        # It ends five minutes after it was due.
        following = schedule.next_after(at_ms + 300 * S)
        assert timedelta(hours=22) < timedelta(milliseconds=following - at_ms) < timedelta(hours=26)
        at_ms = following


def test_a_cron_expression_that_never_comes_is_said_to() -> None:
    with pytest.raises(ValueError, match="Bad day"):
        next_cron("0 0 30 2 *", "UTC", T0)


def test_deadlines_by_cron_leave_a_grace() -> None:
    beat = Beat(interval_ms=3600 * S)
    beat.schedule = replace(beat.schedule, cron="0 3 * * *", timezone="Europe/Berlin")
    beat.go(5, ping(4))  # 2027-01-15T08:00:04Z
    assert beat.standing.expected_ms == ms("2027-01-16T03:00:00+01:00")
    assert beat.standing.deadline_ms == ms("2027-01-16T03:00:10+01:00")


# The beginning ------------------------------------------------------------------------------------------------------


def test_a_start_as_the_very_first_ping_of_one_that_was_made_long_ago_misses_nothing() -> None:
    beat = Beat(grace_ms=300 * S)
    beat.watched_from = T0 - 86_400 * S
    course = beat.go(60, ping(50, START))
    assert (course.said, beat.standing.armed, beat.standing.deadline_ms) == ((), False, None)
    # Its end is awaited all the same, and what it says begins its life.
    assert beat.go(200, ping(150)).durations_ms == (100 * S,)
    assert beat.standing.deadline_ms == T0 + (150 + 60 + 300) * S


def test_a_first_run_that_never_ends_is_down_and_looked_at_in_time() -> None:
    beat = Beat(grace_ms=40 * S, interval_ms=3600 * S)
    beat.watched_from = T0 - 86_400 * S
    course = beat.go(51, ping(50, START))
    assert course.look_at_ms == T0 + 90 * S + MARGIN_MS
    assert events(beat.go(91)) == [(90.0, Verdict.DOWN, Reason.RUN_TOO_LONG)]
