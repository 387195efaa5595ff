"""So many successes in any period: held to a model that counts them, to clients of every habit, and to our deafness."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.domain.checks import Kind, Reason, Verdict
from common.domain.heartbeat_schedules import NOTHING_COUNTED, Schedule, Tally
from common.domain.heartbeats import Course, Ping, PingKind, Setting, Standing, follow

S = 1000
T0 = 1_800_000_000 * S
DAY = 86_400
SUCCESS, START, FAIL = PingKind.SUCCESS, PingKind.START, PingKind.FAIL
MISSED = Reason.HEARTBEAT_MISSED


class Counted:
    """One heartbeat that counts, in seconds since T0, whose slots never come unless a test wants them."""

    def __init__(self, at_least: int, period_s: int, *, grace_s: int = 10, tolerant: bool = False) -> None:
        self.standing = Standing()
        self.schedule = Schedule(period_s * S, grace_s * S, at_least=at_least, tolerant=tolerant)
        self.interval_ms = 10**9 * S
        self.deaf: list[tuple[int, int]] = []
        self.watched_from = T0
        self.version = 1
        self.up = False

    def go(self, to_s: float, *pings: Ping, heard_to_s: float | None = None) -> Course:
        """Judge everything up to a moment, as the votes would have it settled."""
        now = T0 + int(to_s * S)
        heard_to = now if heard_to_s is None else T0 + int(heard_to_s * S)
        setting = Setting(
            self.schedule, self.interval_ms, T0 % self.interval_ms, self.watched_from, self.version, heard_to,
            tuple(self.deaf), self.up,
        )  # fmt: skip
        course = follow(self.standing, pings, setting, now)
        self.standing = course.standing
        for one in course.said:
            if one.verdict is not Verdict.UNKNOWN:
                self.up = one.verdict is Verdict.UP
        return course

    def spells(self, *spells_s: tuple[float, float]) -> None:
        self.deaf = [(T0 + int(begin * S), T0 + int(end * S)) for begin, end in spells_s]


def ping(at_s: float, kind: PingKind = SUCCESS, code: int | None = None) -> Ping:
    return Ping(kind, T0 + int(at_s * S), code)


def turns(told: list[tuple[int, Verdict]]) -> list[tuple[int, Verdict]]:
    """Without what says no more than the one before: votes settle between judgements only."""
    return [one for n, one in enumerate(told) if n == 0 or told[n - 1][1] is not one[1]]


def said(course: Course) -> list[tuple[float, Verdict]]:
    return [((one.at_ms - T0) / S, one.verdict) for one in course.said]


# Against a model that counts ----------------------------------------------------------------------------------------


def counted_by_hand(
    at_least: int, lasting_ms: int, signals: list[tuple[int, bool]], until_ms: int
) -> list[tuple[int, Verdict]]:
    """What is said of tolerated failures and successes: at each moment that may matter, everything is counted anew."""
    begin = signals[0][0]
    successes = [at for at, success in signals if success]
    # As if all had come with the first signal, which is one of them if it is a success.
    marks = [begin] * (at_least - (begin in successes)) + successes
    moments = sorted({*successes, *(mark + lasting_ms for mark in marks)})
    found: list[tuple[int, Verdict]] = []
    for moment in (each for each in moments if each <= until_ms):
        enough = sum(mark <= moment < mark + lasting_ms for mark in marks) >= at_least
        now = Verdict.UP if enough else Verdict.DOWN
        told = found[-1][1] if found else None
        if now is not told and (now is Verdict.DOWN or moment in successes):
            found.append((moment, now))
    return found


@given(
    at_least=st.integers(1, 6),
    period_s=st.integers(1, 120),
    grace_s=st.integers(1, 30),
    gaps=st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=30),
    steps_s=st.lists(st.integers(1, 90), min_size=1, max_size=8),
)
@settings(max_examples=600, deadline=None)
def test_it_is_down_exactly_while_fewer_have_come_and_whoever_judges_when(
    at_least: int, period_s: int, grace_s: int, gaps: list[tuple[int, bool]], steps_s: list[int]
) -> None:
    beat = Counted(at_least, period_s, grace_s=grace_s, tolerant=True)
    # A millisecond that no ping has: a deadline and a ping never fall together.
    beat.schedule = replace(beat.schedule, grace_ms=grace_s * S + 1)
    signals, at = [], T0
    for gap_s, success in gaps:
        at += gap_s * S
        signals.append((at, success))
    until = at + 3 * (period_s + grace_s) * S
    told: list[tuple[int, Verdict]] = []
    now, turn = T0, 0
    while now < until:
        before, now = now, min(until, now + steps_s[turn % len(steps_s)] * S)
        turn += 1
        came = [Ping(SUCCESS if success else FAIL, at) for at, success in signals if before < at <= now]
        told += [(one.at_ms, one.verdict) for one in beat.go((now - T0) / S, *came).said]
    lasting_ms = beat.schedule.period_ms + beat.schedule.grace_ms
    # What passed in the last second is judged in the next.
    assert turns(told) == counted_by_hand(at_least, lasting_ms, signals, until - S)


@given(
    period_s=st.integers(1, 120),
    signals=st.lists(st.tuples(st.integers(1, 200), st.sampled_from([SUCCESS, START, FAIL])), max_size=25),
    spells=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 60)), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_one_in_a_period_is_what_it_was_and_keeps_nothing(
    period_s: int, signals: list[tuple[int, PingKind]], spells: list[tuple[int, int]]
) -> None:
    """`at_least` 1 is not another way of judging; and who counts one success, and no failure, sees the same."""
    plain, counting = Counted(1, period_s), Counted(1, period_s, tolerant=True)
    at, pings, deaf, end = 0, [], [], 0
    for gap_s, kind in signals:
        at += gap_s
        pings.append(ping(at, kind))
    for silence_s, length_s in spells:
        deaf.append((end + silence_s, end + silence_s + length_s))
        end = deaf[-1][1]
    plain.spells(*deaf)
    counting.spells(*deaf)
    until = max(at, end) + 500
    first = plain.go(until, *pings)
    assert plain.standing.tally == NOTHING_COUNTED
    if FAIL not in [kind for _, kind in signals]:
        assert counting.go(until, *pings).said == first.said


# What is told -------------------------------------------------------------------------------------------------------


def test_it_is_down_when_the_third_last_success_is_too_old_and_says_what_came() -> None:
    beat = Counted(3, DAY, grace_s=3600)
    assert said(beat.go(10, ping(1))) == [(1, Verdict.UP)]
    beat.go(50_000, ping(20_000), ping(40_000))
    assert (beat.standing.expected_ms, beat.standing.deadline_ms) == (T0 + 86_401 * S, T0 + 90_001 * S)
    course = beat.go(90_003)
    assert said(course) == [(90_001, Verdict.DOWN)]
    assert course.said[0].reason is MISSED
    assert course.said[0].message == (
        "2 of 3 successes in 1 d; the next was expected by 2027-01-16T08:00:01Z with 1 h of grace;"
        " last heard 2027-01-15T19:06:40Z"
    )


def test_it_is_up_again_with_as_many_as_are_asked_for_and_not_before() -> None:
    beat = Counted(3, 100)
    beat.go(10, ping(1), ping(2), ping(3))
    assert said(beat.go(200)) == [(111, Verdict.DOWN)]
    assert said(beat.go(220, ping(210), ping(215))) == []
    assert (beat.standing.trouble, beat.standing.message[:7]) == (MISSED, "2 of 3 ")
    assert said(beat.go(230, ping(225))) == [(225, Verdict.UP)]
    # And goes when the first of these is too old.
    assert said(beat.go(400, ping(300))) == [(325, Verdict.DOWN)]


def test_a_failure_is_down_at_once_and_takes_no_success_away() -> None:
    beat = Counted(2, 100)
    beat.go(10, ping(1), ping(5))
    assert said(beat.go(20, ping(15, FAIL, 3))) == [(15, Verdict.DOWN)]
    assert said(beat.go(30, ping(25))) == [(25, Verdict.UP)]
    # After too long a failure a single success is not enough.
    assert said(beat.go(40, ping(35, FAIL))) == [(35, Verdict.DOWN)]
    assert said(beat.go(300, ping(290))) == []
    assert said(beat.go(310, ping(305))) == [(305, Verdict.UP)]


def test_a_tolerated_failure_is_only_no_success() -> None:
    beat = Counted(1, 100, tolerant=True)
    assert said(beat.go(10, ping(1))) == [(1, Verdict.UP)]
    assert said(beat.go(100, ping(30, FAIL, 3), ping(60, FAIL), ping(90, FAIL))) == []
    course = beat.go(120)
    assert said(course) == [(111, Verdict.DOWN)]
    assert course.said[0].message.endswith("last heard 2027-01-15T08:00:01Z")
    assert said(beat.go(130, ping(125, FAIL))) == []
    assert said(beat.go(140, ping(135))) == [(135, Verdict.UP)]


def test_a_tolerated_failure_ends_its_run_and_one_that_does_not_end_is_down() -> None:
    beat = Counted(1, 1000, tolerant=True)
    beat.go(10, ping(1))
    assert beat.go(20, ping(12, START), ping(15, FAIL)).durations_ms == (None, 3 * S)
    assert said(beat.go(60, ping(30, START))) == [(40, Verdict.DOWN)]
    assert said(beat.go(80, ping(70, FAIL))) == []
    assert said(beat.go(100, ping(90))) == [(90, Verdict.UP)]


def test_one_that_only_ever_fails_is_pending_for_a_period_and_then_down() -> None:
    beat = Counted(2, 100, tolerant=True)
    beat.interval_ms = 20 * S
    course = beat.go(105, *(ping(n, FAIL) for n in range(1, 100, 10)))
    assert course.said == ()
    found = beat.go(115).said
    assert [(one.at_ms, one.verdict, one.kind) for one in found] == [(T0 + 111 * S, Verdict.DOWN, Kind.CONFIRM)]
    assert [one.verdict for one in beat.go(125).said] == [Verdict.DOWN]
    assert beat.standing.heard_ms is None


def test_failures_before_each_time_of_cron_may_be_tolerated() -> None:
    beat = Counted(1, 60, grace_s=1800, tolerant=True)
    beat.schedule = replace(beat.schedule, cron="0 3 * * *")
    beat.go(10, ping(1))  # 2027-01-15T08:00:01Z
    due = 19 * 3600
    assert said(beat.go(due + 1700, ping(due + 5, FAIL), ping(due + 600, FAIL), ping(due + 900))) == []
    assert said(beat.go(due + DAY + 1900, ping(due + DAY + 5, FAIL))) == [(due + DAY + 1800, Verdict.DOWN)]


# Beginnings and changes ---------------------------------------------------------------------------------------------


def test_what_begins_has_a_whole_period_to_get_as_many() -> None:
    beat = Counted(3, 100)
    beat.go(60, ping(50))
    assert beat.standing.deadline_ms == T0 + 160 * S
    beat.go(120, ping(110))
    assert beat.standing.deadline_ms == T0 + 160 * S
    beat.go(130, ping(125))
    assert beat.standing.deadline_ms == T0 + 160 * S  # 50, 110, 125
    assert said(beat.go(170)) == [(160, Verdict.DOWN)]


def test_one_that_is_resumed_counts_anew_from_there() -> None:
    beat = Counted(2, 100)
    beat.go(10, ping(1), ping(5))
    beat.go(200)
    beat.watched_from, beat.version, beat.up = T0 + 500 * S, 2, False
    assert said(beat.go(505)) == []
    assert beat.standing.deadline_ms == T0 + 610 * S
    assert said(beat.go(560, ping(550))) == [(550, Verdict.UP)]
    assert said(beat.go(620)) == [(610, Verdict.DOWN)]


def test_more_that_are_asked_for_count_as_come_with_the_oldest_that_is_known() -> None:
    beat = Counted(2, 100)
    beat.go(90, ping(1), ping(40), ping(80))
    beat.schedule, beat.version = replace(beat.schedule, at_least=4), 2
    beat.go(95)
    assert beat.standing.deadline_ms == T0 + 111 * S
    assert said(beat.go(145, ping(100), ping(105))) == []  # 40, 80, 100, 105
    assert said(beat.go(160)) == [(150, Verdict.DOWN)]


def test_fewer_that_are_asked_for_may_take_a_miss_back() -> None:
    beat = Counted(3, 100)
    beat.go(10, ping(1))
    beat.go(60, ping(50))
    assert said(beat.go(115)) == [(111, Verdict.DOWN)]
    beat.schedule, beat.version = replace(beat.schedule, at_least=1), 2
    assert said(beat.go(120)) == []
    assert (beat.standing.trouble, beat.standing.deadline_ms) == (Reason.NONE, T0 + 160 * S)


def test_one_that_begins_to_count_begins_with_what_was_heard_last() -> None:
    beat = Counted(1, 100)
    beat.go(50, ping(1), ping(40))
    beat.schedule, beat.version = replace(beat.schedule, at_least=3), 2
    beat.go(60)
    assert beat.standing.deadline_ms == T0 + 150 * S
    beat.go(70, ping(65))
    assert beat.standing.tally == Tally((T0 + 65 * S,), T0 + 40 * S)


def test_a_success_that_the_version_before_has_heard_is_not_missed() -> None:
    beat = Counted(3, 100)
    beat.go(10, ping(1), ping(2), ping(3))
    # It knows nothing of the tally, and takes at_least for one.
    beat.standing = replace(beat.standing, heard_ms=T0 + 100 * S)
    assert said(beat.go(150)) == []
    assert beat.standing.deadline_ms == T0 + 210 * S
    beat.go(160, ping(155))
    assert beat.standing.tally == Tally((T0 + 155 * S,), T0 + 100 * S)


def test_what_is_judged_again_after_a_death_says_the_same() -> None:
    beat = Counted(2, 100, tolerant=True)
    beat.go(10, ping(1), ping(5))
    before, up = beat.standing, beat.up
    first = beat.go(300, ping(60), ping(90, FAIL), ping(250))
    beat.standing, beat.up = before, up
    assert beat.go(300, ping(60), ping(90, FAIL), ping(250)) == first


# Our own deafness ---------------------------------------------------------------------------------------------------


def spells_of(gaps: list[tuple[int, int]], from_s: int) -> list[tuple[int, int]]:
    found, at = [], from_s
    for silence_s, length_s in gaps:
        found.append((at + silence_s, at + silence_s + length_s))
        at = found[-1][1]
    return found


def test_the_success_that_nobody_may_have_heard_is_the_one_that_is_dropped_last() -> None:
    schedule = Schedule(100 * S, 10 * S, at_least=3)
    spell = (T0 + 105 * S, T0 + 130 * S)
    tally = Tally((T0 + 5 * S, T0 + 40 * S, T0 + 60 * S))
    followed = schedule.followed(tally, T0 + 140 * S, [spell])
    assert followed == Tally((T0 + 5 * S, T0 + 40 * S, T0 + 60 * S, T0 + 140 * S))
    assert schedule.due(followed, [spell]) == T0 + 160 * S
    assert schedule.due(followed) == T0 + 140 * S
    more = [T0 + at * S for at in (141, 142, 143, 144)]
    for at_ms in more:
        followed = schedule.followed(followed, at_ms, [spell])
    assert followed.successes == (T0 + 5 * S, T0 + 60 * S, T0 + 140 * S, *more)


@given(
    at_least=st.integers(1, 6),
    tolerant=st.booleans(),
    gaps=st.lists(st.tuples(st.integers(1, 3_000), st.integers(3, 700)), max_size=8),
    looks_s=st.integers(20, 300),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_who_sends_as_many_in_each_period_is_never_down_whatever_we_sleep_through(
    at_least: int, tolerant: bool, gaps: list[tuple[int, int]], looks_s: int, seed: int
) -> None:
    """Machines that each ping once a period, 9 s early or late, and do not retry; what falls into a spell is lost."""
    period_s, chance = 600, Random(seed)
    bases = sorted(chance.sample(range(period_s), at_least))
    sent = sorted(
        base + cycle * period_s + chance.randint(-9, 9) + n / 1000
        for cycle in range(1, 17)
        for n, base in enumerate(bases)
    )
    # The first period is heard: who has been heard of once is expected again.
    spells = spells_of(gaps, 2 * period_s + 20)
    heard = [at for at in sent if not any(begin <= at <= end for begin, end in spells)]
    beat = Counted(at_least, period_s, grace_s=20, tolerant=tolerant)
    now = 0
    while now < 16 * period_s:
        came = [ping(at) for at in heard if now < at <= now + looks_s]
        now += looks_s
        known = [(begin, min(end, now)) for begin, end in spells if begin < now - 2]
        beat.spells(*known)
        open_since = next((begin for begin, end in spells if begin < now <= end), None)
        course = beat.go(now, *came, heard_to_s=open_since)
        assert Verdict.DOWN not in [verdict for _, verdict in said(course)], now


def test_what_was_lost_in_a_spell_stays_excused_when_others_have_come_since() -> None:
    beat = Counted(2, DAY, grace_s=60)
    beat.go(10, ping(5))
    beat.go(50_000, ping(43_200))
    beat.go(100_000, ping(86_405))
    beat.spells((129_590, 129_620))  # the other one was due at 129,600
    assert said(beat.go(180_000, ping(172_805))) == []
    assert said(beat.go(216_000)) == []
    assert said(beat.go(220_000)) == [(129_620 + DAY + 60, Verdict.DOWN)]


def test_a_spell_before_anything_has_come_begins_counting_anew() -> None:
    beat = Counted(3, 1000, tolerant=True)
    beat.go(10, ping(5, FAIL))
    beat.spells((300, 400))
    assert said(beat.go(1_300)) == []
    assert said(beat.go(1_420)) == [(1_410, Verdict.DOWN)]


@pytest.mark.parametrize("first", [SUCCESS, FAIL])
def test_one_that_never_gets_as_many_is_told_however_often_we_are_away(first: PingKind) -> None:
    beat = Counted(20, 30 * DAY, tolerant=True)
    beat.go(600, ping(500, first))
    beat.spells(*((day * DAY, day * DAY + 5) for day in range(1, 200)))
    found = said(beat.go(100 * DAY))
    assert [verdict for _, verdict in found] == [Verdict.DOWN]


def test_one_that_has_died_is_told_within_a_period_however_often_we_are_away() -> None:
    beat = Counted(20, 30 * DAY, grace_s=3600)
    beat.go(40 * DAY, *(ping(day * DAY + 500) for day in range(1, 40)))
    beat.spells(*((day * DAY + 40_000, day * DAY + 40_005) for day in range(1, 200)))
    found = said(beat.go(50 * DAY + 5_000))
    assert found == [(50 * DAY + 500 + 3600, Verdict.DOWN)]


def test_slots_of_what_a_spell_excuses_are_unknown() -> None:
    beat = Counted(2, 100)
    beat.interval_ms = 10 * S
    beat.go(60, ping(1), ping(50))
    beat.spells((95, 105))
    assert [verdict for _, verdict in said(beat.go(116))] == [Verdict.UP]  # the slot at 110
    assert [verdict for _, verdict in said(beat.go(126))] == [Verdict.UNKNOWN]
    assert said(beat.go(136, ping(130))) == [(130, Verdict.UP)]


@pytest.mark.parametrize("at_least", [1, 2, 50])
def test_the_tally_never_grows_beyond_what_is_asked_for(at_least: int) -> None:
    beat = Counted(at_least, 100, tolerant=True)
    beat.go(2_000, *(ping(n) for n in range(1, 2_000)))
    assert len(beat.standing.tally.successes) == 3 * at_least - 2
    assert beat.standing.tally.since_ms is None
