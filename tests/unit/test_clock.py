"""Database time between two measurements."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import DatabaseClock, from_ms, to_ms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Machine:
    """A machine whose monotonic and wall clock are moved by hand."""

    def __init__(self) -> None:
        self.up_s = 50.0
        self.wall_s = 1_800_000_000.0

    def answering(self, database_s: float, *, before_s: float = 0.0, after_s: float = 0.0) -> float:
        self.up_s += before_s
        answer = database_s
        self.up_s += after_s
        return answer


def make() -> tuple[Machine, DatabaseClock]:
    machine = Machine()
    return machine, DatabaseClock(lambda: machine.up_s, lambda: machine.wall_s)


def test_until_the_first_measurement_our_own_clock_has_to_do() -> None:
    machine, clock = make()
    machine.up_s += 2.5
    assert clock.now_ms() == 1_800_000_002_500


def test_database_time_wins_over_a_wrong_wall_clock_and_grows_with_the_monotonic_one() -> None:
    machine, clock = make()
    clock.sync(lambda: machine.answering(1_700_000_000.0))
    machine.wall_s += 86_400  # somebody sets the clock
    machine.up_s += 10
    assert clock.now_ms() == 1_700_000_010_000


def test_the_answer_is_taken_to_be_from_the_middle_of_the_round_trip() -> None:
    machine, clock = make()
    clock.sync(lambda: machine.answering(1_700_000_000.0, before_s=0.2, after_s=0.2))
    assert clock.now_ms() == 1_700_000_000_200


def test_a_stop_in_the_middle_of_a_measurement_does_not_move_the_clock() -> None:
    machine, clock = make()
    clock.sync(lambda: machine.answering(1_700_000_000.0))
    clock.sync(lambda: machine.answering(1_700_000_008.0, before_s=8.0))
    clock.sync(lambda: machine.answering(1_700_000_008.0, after_s=8.0))
    assert clock.now_ms() == 1_700_000_016_000


def test_the_first_measurement_counts_however_slow_it_was() -> None:
    machine, clock = make()
    clock.sync(lambda: machine.answering(1_600_000_000.0, before_s=3, after_s=3))
    assert clock.now_ms() == 1_600_000_003_000


def test_a_failed_measurement_changes_nothing() -> None:
    _, clock = make()
    before = clock.now_ms()

    def away() -> float:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        clock.sync(away)
    assert clock.now_ms() == before


@given(st.integers(0, 4_102_444_800_000))
def test_milliseconds_survive_the_way_through_a_datetime(ms: int) -> None:
    assert to_ms(from_ms(ms)) == ms


@given(st.datetimes(EPOCH.replace(tzinfo=None)), st.integers(-12, 12))
def test_a_datetime_of_any_zone_is_rounded_down_to_the_millisecond(moment: datetime, hours: int) -> None:
    aware = moment.replace(tzinfo=UTC)
    exact = (aware - EPOCH) // timedelta(milliseconds=1)
    assert to_ms(aware.astimezone(timezone(timedelta(hours=hours)))) == exact
