"""The timing wheel against a naive model: every monitor's newest slot exactly once, the rest counted exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common.domain.slots import latest_slot, next_slot, phase_ms, slots_between
from common.store.schedule import Timing
from scheduler.wheel import TICK_MS, Due, Wheel

NOW_MS = 1_800_000_000_000
LONG_AGO_MS = NOW_MS - 3_600_000


def timing(
    number: int = 1,
    *,
    interval_s: int = 30,
    version: int = 1,
    check_from_ms: int = LONG_AGO_MS,
    locations: tuple[int, ...] = (1,),
    active: bool = True,
    slow: tuple[int, ...] = (),
) -> Timing:
    return Timing(number, f"monitor-{number}", version, interval_s, check_from_ms, locations, active, frozenset(slow))


def phase_of(item: Timing, location: int) -> int:
    index = item.locations.index(location)
    return phase_ms(item.monitor_id, item.interval_s * 1000, index, len(item.locations))


def turn_until(wheel: Wheel, start_ms: int, end_ms: int, step_ms: int = TICK_MS) -> list[Due]:
    due = []
    for now_ms in range(start_ms, end_ms + 1, step_ms):
        due += wheel.turn(now_ms).due
    return due


@pytest.fixture
def wheel() -> Wheel:
    """Turning since NOW_MS, empty."""
    wheel = Wheel()
    wheel.start(NOW_MS)
    return wheel


def test_a_wheel_that_stands_still_dispatches_nothing() -> None:
    wheel = Wheel()
    wheel.apply(timing(check_from_ms=NOW_MS), NOW_MS)
    assert not wheel.running
    assert wheel.turn(NOW_MS + 60_000).due == []
    assert len(wheel) == 1


def test_each_slot_is_dispatched_once_within_one_tick(wheel: Wheel) -> None:
    item = timing(interval_s=1)
    wheel.apply(item, NOW_MS)
    seen: dict[int, int] = {}
    for now_ms in range(NOW_MS, NOW_MS + 5_000, 7):  # the clock does not tick in our ticks
        for due in wheel.turn(now_ms).due:
            assert due.slot_ms not in seen
            seen[due.slot_ms] = now_ms - due.slot_ms
    assert len(seen) == 5
    assert all(0 <= lag <= TICK_MS + 7 for lag in seen.values())


def test_a_new_monitor_is_checked_at_once_and_then_in_its_slots(wheel: Wheel) -> None:
    created_ms = NOW_MS + 1_234
    item = timing(check_from_ms=created_ms)
    wheel.apply(item, NOW_MS + 1_300)
    due = turn_until(wheel, NOW_MS + 1_350, NOW_MS + 30_000)
    assert [one.slot_ms for one in due] == [created_ms, next_slot(NOW_MS + 1_300, 30_000, phase_of(item, 1))]


def test_the_same_timing_again_changes_nothing(wheel: Wheel) -> None:
    item = timing(check_from_ms=NOW_MS - 1)
    for _ in range(3):
        wheel.apply(item, NOW_MS)
    assert len(turn_until(wheel, NOW_MS, NOW_MS + 29_900)) == 2  # at once, and one slot


def test_a_resume_or_new_interval_is_due_at_once_and_keeps_no_old_slot(wheel: Wheel) -> None:
    wheel.apply(timing(interval_s=60), NOW_MS)
    changed = timing(interval_s=10, version=2, check_from_ms=NOW_MS + 100)
    wheel.apply(changed, NOW_MS + 100)
    due = turn_until(wheel, NOW_MS + 100, NOW_MS + 60_000)
    first, *others = [(one.slot_ms, one.config_version) for one in due]
    assert first == (NOW_MS + 100, 2)
    assert [slot % 10_000 for slot, _ in others] == [phase_of(changed, 1)] * len(others)
    assert len(others) in {5, 6}


def test_an_edit_of_something_else_moves_no_slot_and_uses_the_new_version(wheel: Wheel) -> None:
    wheel.apply(timing(), NOW_MS)
    wheel.apply(timing(version=2), NOW_MS + 50)
    due = turn_until(wheel, NOW_MS + 50, NOW_MS + 30_000)
    assert [(one.config_version, one.slot_ms) for one in due] == [(2, next_slot(NOW_MS, 30_000, phase_of(timing(), 1)))]


def test_an_old_monitor_that_is_seen_late_is_not_checked_at_once(wheel: Wheel) -> None:
    wheel.apply(timing(check_from_ms=NOW_MS - 60_000), NOW_MS)
    assert wheel.turn(NOW_MS + TICK_MS).due == []


@pytest.mark.parametrize(
    "gone",
    [
        timing(active=False),  # paused or deleted
        timing(locations=(2,)),  # moved elsewhere
    ],
)
def test_what_is_paused_or_moved_is_not_dispatched_any_more(wheel: Wheel, gone: Timing) -> None:
    wheel.apply(timing(), NOW_MS)
    wheel.apply(gone, NOW_MS + 50)
    assert [one for one in turn_until(wheel, NOW_MS + 50, NOW_MS + 60_000) if one.location == 1] == []


def test_two_locations_are_due_half_an_interval_apart(wheel: Wheel) -> None:
    wheel.apply(timing(locations=(1, 2)), NOW_MS)
    first, second = turn_until(wheel, NOW_MS, NOW_MS + 29_950)
    assert {first.location, second.location} == {1, 2}
    assert second.slot_ms - first.slot_ms == 15_000


def test_the_lane_is_what_the_last_note_says(wheel: Wheel) -> None:
    wheel.apply(timing(slow=(1,)), NOW_MS)
    assert turn_until(wheel, NOW_MS, NOW_MS + 30_000)[0].slow is True
    wheel.set_lane((1, 1), slow=False)
    wheel.set_lane((99, 1), slow=True)  # unknown: nothing happens
    assert turn_until(wheel, NOW_MS + 30_000, NOW_MS + 60_000)[0].slow is False


def test_a_new_leader_dispatches_the_newest_slot_since_the_old_one_stopped_and_counts_the_rest() -> None:
    wheel, item = Wheel(), timing(interval_s=10)
    wheel.apply(item, NOW_MS)
    phase = phase_of(item, 1)
    since_ms = latest_slot(NOW_MS, 10_000, phase)  # dispatched by the leader before us

    wheel.start(since_ms)
    assert wheel.turn(since_ms + 9_950 - since_ms % TICK_MS).due == []
    later = since_ms + 35_000
    turn = wheel.turn(later)

    assert [one.slot_ms for one in turn.due] == [since_ms + 30_000]
    assert turn.passed_over == 2
    assert wheel.turn(later + TICK_MS).due == []


def test_a_monitor_made_while_nobody_led_is_checked_at_once_by_the_next_leader() -> None:
    wheel = Wheel()
    wheel.apply(timing(1, check_from_ms=NOW_MS - 500), NOW_MS)
    wheel.apply(timing(2, check_from_ms=NOW_MS - 5_000), NOW_MS)
    wheel.start(NOW_MS - 1_000)
    assert [one.monitor_no for one in wheel.turn(NOW_MS).due if one.slot_ms == NOW_MS - 500] == [1]


def test_a_monitor_made_just_before_the_very_first_leader_is_checked_at_once() -> None:
    # The lease's first row says that everything up to now was dispatched; nobody was there to do it.
    wheel = Wheel()
    wheel.apply(timing(1, interval_s=3600, check_from_ms=NOW_MS - 300), NOW_MS)
    wheel.start(NOW_MS, first_ever=True)
    assert [one.slot_ms for one in wheel.turn(NOW_MS + TICK_MS).due] == [NOW_MS - 300]


def test_what_was_answered_is_known_to_the_tick_so_that_a_successor_misses_nothing(wheel: Wheel) -> None:
    # The slot lies between two ticks; we are asked in between, and die: the successor goes on from turned_to_ms.
    item = timing(interval_s=1)
    wheel.apply(item, NOW_MS)
    slot = next_slot(NOW_MS, 1_000, phase_of(item, 1))
    asked = slot if slot % TICK_MS else slot - 1
    ours = [one.slot_ms for one in wheel.turn(asked).due]

    successor = Wheel()
    successor.apply(item, asked)
    successor.start(wheel.turned_to_ms)
    theirs = [one.slot_ms for one in successor.turn(asked + TICK_MS).due]

    assert sorted(ours + theirs) == [slot]


def test_a_clock_that_steps_back_dispatches_nothing_twice(wheel: Wheel) -> None:
    wheel.apply(timing(interval_s=1), NOW_MS)
    first = turn_until(wheel, NOW_MS, NOW_MS + 3_000)
    again = turn_until(wheel, NOW_MS + 1_000, NOW_MS + 3_000)
    assert len(first) == 3
    assert again == []


@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=30), st.integers(1, 60))
def test_every_slot_is_either_dispatched_or_counted_as_passed_over(jumps_ms: list[int], interval_s: int) -> None:
    wheel, item = Wheel(), timing(interval_s=interval_s)
    wheel.apply(item, NOW_MS)
    wheel.start(NOW_MS)
    now_ms, dispatched, passed_over = NOW_MS, 0, 0
    for jump_ms in jumps_ms:
        now_ms += jump_ms
        turn = wheel.turn(now_ms)
        dispatched += len(turn.due)
        passed_over += turn.passed_over
    until_ms = max(NOW_MS, now_ms - now_ms % TICK_MS)
    assert dispatched + passed_over == slots_between(NOW_MS, until_ms, interval_s * 1000, phase_of(item, 1))


class Turning(RuleBasedStateMachine):
    """Random edits, turns, stops and takeovers. The model knows for each entry the last slot that was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = Wheel()
        self.now_ms = NOW_MS
        self.timings: dict[int, Timing] = {}
        self.answered: dict[tuple[int, int], int] = {}
        self.at_once: set[tuple[int, int, int]] = set()

    @initialize()
    def begin(self) -> None:
        self.wheel.start(self.now_ms)

    @rule(
        number=st.integers(1, 4),
        interval_s=st.integers(1, 40),
        locations=st.sampled_from([(1,), (2,), (1, 2), (2, 1), (1, 2, 3)]),
        active=st.booleans(),
        at_once=st.booleans(),
    )
    def apply(self, *, number: int, interval_s: int, locations: tuple[int, ...], active: bool, at_once: bool) -> None:
        old = self.timings.get(number)
        check_from = self.now_ms if at_once or old is None else old.check_from_ms
        new = timing(number, interval_s=interval_s, locations=locations, active=active, check_from_ms=check_from)
        was = set(old.locations) if old and old.active else set()
        self.timings[number] = new
        for location in locations if active else ():
            key = (number, location)
            moved = location not in was or (
                old is not None and (phase_of(old, location), old.interval_s) != (phase_of(new, location), interval_s)
            )
            if moved:
                self.answered[key] = max(self.now_ms, self.wheel.turned_to_ms)
            fresh = location not in was and check_from > self.now_ms - 10_000
            changed = location in was and old is not None and old.check_from_ms != check_from
            if self.wheel.running and (fresh or changed):
                self.at_once.add((number, location, check_from))
        self.wheel.apply(new, self.now_ms)

    @rule(jump_ms=st.integers(1, 90_000))
    def turn(self, jump_ms: int) -> None:
        self.now_ms += jump_ms
        running = self.wheel.running
        turn = self.wheel.turn(self.now_ms)
        if not running:
            assert turn.due == []
            return
        until_ms = self.wheel.turned_to_ms
        assert self.now_ms - until_ms < TICK_MS
        expected, passed_over = set(), 0
        for (number, location), answered_ms in self._entries().items():
            item = self.timings[number]
            interval_ms, phase = item.interval_s * 1000, phase_of(item, location)
            slots = slots_between(answered_ms, until_ms, interval_ms, phase)
            if slots:
                newest = latest_slot(until_ms, interval_ms, phase)
                expected.add((number, location, newest))
                passed_over += slots - 1
                self.answered[number, location] = newest
        got = [(one.monitor_no, one.location, one.slot_ms) for one in turn.due]
        scheduled = [one for one in got if one not in self.at_once]
        assert len(scheduled) == len(set(scheduled))
        assert set(scheduled) == expected - self.at_once
        assert expected <= set(got)
        assert turn.passed_over == passed_over
        self.at_once.clear()

    @rule()
    def stop(self) -> None:
        self.wheel.stop()
        self.at_once.clear()

    @rule(back_ms=st.integers(0, 60_000))
    def take_over(self, back_ms: int) -> None:
        since_ms = self.now_ms - back_ms
        self.wheel.start(since_ms)
        self.at_once = {
            (number, location, self.timings[number].check_from_ms)
            for number, location in self._entries()
            if self.timings[number].check_from_ms > since_ms
        }
        self.answered = dict.fromkeys(self._entries(), since_ms)

    @invariant()
    def it_holds_exactly_the_active_entries(self) -> None:
        assert len(self.wheel) == len(self._entries())

    def _entries(self) -> dict[tuple[int, int], int]:
        return {
            (number, location): self.answered.get((number, location), 0)
            for number, item in self.timings.items()
            if item.active
            for location in item.locations
        }


Turning.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestTheWheelAgainstTheModel = Turning.TestCase


def test_the_model_would_notice_a_lost_entry() -> None:
    machine = Turning()
    machine.begin()
    machine.apply(number=1, interval_s=1, locations=(1,), active=True, at_once=False)
    machine.wheel.apply(replace(machine.timings[1], active=False), machine.now_ms)
    with pytest.raises(AssertionError):
        machine.turn(5_000)
