"""The dispatcher with a wheel, a lease and a queue that are moved by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from common.broker import Batch
from common.domain.checks import Check, Kind, Lane
from common.domain.errors import Unavailable
from common.store.schedule import Confirmation, Timing
from scheduler import dispatch
from scheduler.dispatch import MAX_BACKLOG_MS, SLOW_FILL_MS, Dispatcher, LaneBacklog, LaneNote, watch_backlogs
from scheduler.lease import Leadership
from scheduler.wheel import TICK_MS, Wheel

NOW_MS = 1_800_000_000_000


class Clock:
    ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


class Lease:
    """Held while `term` is set; notes how far we say to have dispatched."""

    term: Leadership | None = None
    dispatched_to_ms = 0

    def held(self) -> Leadership | None:
        return self.term

    def dispatched(self, to_ms: int) -> None:
        self.dispatched_to_ms = max(self.dispatched_to_ms, to_ms)


class Bench:
    """A dispatcher and all that was sent: (lane, location's name, checks)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.lease, self.sent = Clock(), Lease(), []
        self.away = False
        self.dispatcher = Dispatcher(Wheel(), self.lease, None, self.clock)  # type: ignore[arg-type]
        self.dispatcher.changes.put({1: "local", 2: "eu"})
        monkeypatch.setattr(dispatch, "enqueue_checks", self._enqueue)

    def _enqueue(
        self,
        _broker: None,
        lane: Lane,
        location: str,
        checks: Sequence[Check],
        *,
        batch_id: str,
        epoch: int,
        sent_ms: int,
    ) -> int:
        if self.away:
            raise Unavailable("The queue cannot be reached.")
        self.sent.append((lane, location, Batch(batch_id, epoch, tuple(checks), sent_ms)))
        return 1

    def lead(self, since_ms: int | None = None) -> None:
        self.lease.term = Leadership(1, self.clock.ms if since_ms is None else since_ms)

    def run(self, for_ms: int) -> None:
        """Tick by tick."""
        for _ in range(for_ms // TICK_MS):
            self.clock.ms += TICK_MS
            self.dispatcher.step()

    def checks(self, lane: Lane) -> list[Check]:
        return [check for sent, _, batch in self.sent if sent is lane for check in batch.checks]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def timing(number: int = 1, *, locations: tuple[int, ...] = (1,), slow: bool = False, interval_s: int = 1) -> Timing:
    slow_at = frozenset(locations if slow else ())
    return Timing(number, f"m-{number}", 1, interval_s, NOW_MS - 60_000, locations, active=True, slow=slow_at)


def test_a_standby_dispatches_nothing(bench: Bench) -> None:
    bench.dispatcher.changes.put(timing())
    bench.run(3_000)
    assert bench.sent == []


def test_checks_due_in_one_tick_travel_together_by_location(bench: Bench) -> None:
    for number in range(1, 500):
        bench.dispatcher.changes.put(timing(number, locations=(1, 2)))
    bench.lead()
    bench.run(1_000)
    assert len(bench.checks(Lane.FAST)) == 2 * 499
    assert len(bench.sent) <= 2 * 1_000 // TICK_MS
    assert {name for _, name, _ in bench.sent} == {"local", "eu"}


def test_slow_checks_wait_to_fill_a_message_and_are_not_reported_as_dispatched_before(bench: Bench) -> None:
    bench.dispatcher.changes.put(timing(slow=True))
    bench.lead()
    while not bench.sent:
        bench.run(TICK_MS)
        if filling := bench.dispatcher._slow:
            # Should we die now, our successor goes on from here and dispatches it.
            assert bench.lease.dispatched_to_ms < filling[1].checks[0].scheduled_at_ms
    (check,) = bench.checks(Lane.SLOW)
    assert SLOW_FILL_MS <= bench.clock.ms - check.scheduled_at_ms <= SLOW_FILL_MS + 2 * TICK_MS
    assert bench.lease.dispatched_to_ms == bench.clock.ms


def test_a_note_moves_a_monitor_to_the_other_lane(bench: Bench) -> None:
    bench.dispatcher.changes.put(timing())
    bench.dispatcher.changes.put(LaneNote(1, 1, slow=True))
    bench.lead()
    bench.run(1_500)
    assert bench.checks(Lane.FAST) == [] and bench.checks(Lane.SLOW)


def test_a_confirmation_is_dispatched_once_however_often_it_is_read(bench: Bench) -> None:
    bench.lead()
    for _ in range(20):
        bench.dispatcher.changes.put(Confirmation(1, 1, 3, NOW_MS + 500))
        bench.run(100)
    assert bench.checks(Lane.URGENT) == [Check(1, 3, NOW_MS + 500, Kind.CONFIRM)]


def test_a_standby_remembers_only_confirmations_that_a_dying_leader_may_leave_behind(bench: Bench) -> None:
    bench.dispatcher.changes.put(Confirmation(1, 1, 1, NOW_MS + 100))
    bench.run(MAX_BACKLOG_MS + 200)
    bench.dispatcher.changes.put(Confirmation(2, 1, 1, bench.clock.ms + 100))
    bench.run(2_000)
    bench.lead()
    bench.run(100)
    assert [check.monitor_no for check in bench.checks(Lane.URGENT)] == [2]
    assert bench.dispatcher._confirmations._known.keys() == {(2, 1)}


def test_a_confirmation_that_is_due_while_the_lease_lapses_is_dispatched_afterwards(bench: Bench) -> None:
    bench.lead()
    bench.dispatcher.changes.put(Confirmation(1, 1, 1, NOW_MS + 1_000))
    bench.run(500)
    term, bench.lease.term = bench.lease.term, None
    bench.run(3_000)
    bench.lease.term = term
    bench.run(100)
    assert len(bench.checks(Lane.URGENT)) == 1


def test_a_monitor_at_an_unknown_location_harms_no_other(bench: Bench) -> None:
    for number, location in ((1, 9), (2, 1)):
        bench.dispatcher.changes.put(timing(number, locations=(location,)))
    bench.lead()
    bench.run(5_000)
    assert {check.monitor_no for check in bench.checks(Lane.FAST)} == {2}
    assert len(bench.checks(Lane.FAST)) == 5


def test_without_a_queue_slots_are_skipped_and_the_next_ones_go_on(bench: Bench) -> None:
    bench.dispatcher.changes.put(timing())
    bench.lead()
    bench.away = True
    bench.run(3_000)
    bench.away = False
    back_ms = bench.clock.ms
    bench.run(2_000)
    assert [check.scheduled_at_ms > back_ms for check in bench.checks(Lane.FAST)] == [True, True]


def test_a_lane_with_ten_seconds_of_due_checks_is_closed_until_they_are_gone(bench: Bench) -> None:
    bench.dispatcher.changes.put(timing())
    bench.lead()
    waiting = {Lane.FAST: 0}

    def measure() -> None:
        watch_backlogs(bench.dispatcher, bench.clock, lambda lane, _name: waiting.get(lane, 0))  # type: ignore[arg-type]

    for _ in range(14):  # nobody takes anything
        bench.run(1_000)
        waiting[Lane.FAST] = len(bench.sent)
        measure()
    assert 10 <= len(bench.sent) <= 12
    closed_at = len(bench.sent)
    waiting[Lane.FAST] = 0
    measure()
    bench.run(1_000)
    assert len(bench.sent) == closed_at + 1


def test_a_backlogs_age_is_that_of_the_oldest_message_that_waits() -> None:
    backlog = LaneBacklog()
    for second in range(5):
        backlog.sent(second * 1_000, messages=2)
    assert backlog.waiting(5_000, lambda: 10) == 5_000
    assert backlog.waiting(5_000, lambda: 3) == 2_000  # one of the fourth second, two of the fifth
    assert backlog.waiting(5_000, lambda: 0) == 0
    backlog.sent(6_000, messages=1)
    assert backlog.waiting(6_500, lambda: 1) == 500


def test_what_is_sent_while_a_backlog_is_counted_does_not_make_it_look_younger() -> None:
    backlog = LaneBacklog()
    backlog.sent(0, messages=3)
    backlog.sent(4_000, messages=2)

    def count() -> int:
        backlog.sent(5_000, messages=3)  # by the dispatcher's thread, after the queue has answered
        return 5

    assert backlog.waiting(5_000, count) == 5_000
    assert backlog.waiting(6_000, lambda: 8) == 6_000
