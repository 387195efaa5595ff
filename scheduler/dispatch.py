"""From due slots to messages: batches by location and lane, a bounded backlog, everything skipped is counted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, Queue

from common import log, telemetry
from common.broker import BATCH_SIZE, QueueBroker, enqueue_checks, new_batch_id, queue_name
from common.clock import DatabaseClock
from common.domain.checks import Check, Kind, Lane
from common.domain.errors import Unavailable
from common.store.schedule import Confirmation, Timing
from scheduler.confirmations import Confirmations
from scheduler.lease import Leadership, Lease
from scheduler.wheel import Turn, Wheel

#: Changes that wait to be applied, at most: a first load of many monitors must not stand in memory twice.
MAX_CHANGES = 20_000

#: A slow lane's message may wait so long to fill (milliseconds).
SLOW_FILL_MS = 200

#: Why a slot that was due is not dispatched.
_WHYS = ("passed_over", "unknown_location", "backlog", "queue_away")

#: Past so much due work in a lane, slots are skipped (milliseconds).
MAX_BACKLOG_MS = 10_000

LaneKey = tuple[Lane, int]
"""(lane, location)"""


@dataclass(frozen=True, slots=True)
class LaneNote:
    """What a writer found out about one monitor's speed."""

    monitor_no: int
    location: int
    slow: bool


Change = Timing | Confirmation | LaneNote | dict[int, str]
"""What the loader hands over: timings, confirmations, lane notes, the locations' names."""


class LaneBacklog:
    """How many milliseconds of due work wait in one lane, from what was sent when and what still waits."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int]] = deque()
        self._total = 0
        self.full = False
        self.shown = False

    def sent(self, now_ms: int, messages: int) -> None:
        """Remember messages put into the lane."""
        self._total += messages
        self._sent.append((now_ms, self._total))

    def waiting(self, now_ms: int, count: Callable[[], int]) -> int:
        """The age of the oldest message that still waits, by the count of those that do (milliseconds)."""
        # The total first: what the dispatcher sends while we count must not pass for taken.
        total = self._total
        messages = count()
        done = total - messages
        while self._sent and self._sent[0][1] <= done:
            self._sent.popleft()
        return max(0, now_ms - self._sent[0][0]) if self._sent and messages else 0


@dataclass(slots=True)
class _Filling:
    checks: list[Check] = field(default_factory=list)
    since_ms: int = 0


class Dispatcher:
    """Turns the wheel while we lead. `step` runs in one thread; other threads hand changes over by `changes`."""

    def __init__(self, wheel: Wheel, lease: Lease, broker: QueueBroker, clock: DatabaseClock) -> None:
        self.changes: Queue[Change] = Queue(maxsize=MAX_CHANGES)
        self.backlogs: dict[LaneKey, LaneBacklog] = {}
        self._wheel = wheel
        self._lease = lease
        self._broker = broker
        self._clock = clock
        self._names: dict[int, str] = {}
        self._confirmations = Confirmations()
        self._slow: dict[int, _Filling] = {}
        self._term: Leadership | None = None
        for why in _WHYS:
            telemetry.CHECKS_SKIPPED.labels(why)  # from zero on, so that the first one is seen as an increase
        self._logger = log.get_logger()

    def step(self) -> bool:
        """One tick: apply what changed, dispatch what is due. False: wait for the next tick."""
        now_ms = self._clock.now_ms()
        self._apply_changes(now_ms)
        term = self._lease.held()
        if term != self._term:
            self._change_term(term)
        if term is None:
            self._confirmations.forget(now_ms)
            return False
        turn = self._wheel.turn(now_ms)
        self._dispatch(turn, term, now_ms)
        for location, checks in self._confirmations.take(now_ms).items():
            self._send(Lane.URGENT, location, checks, term)
        self._flush_slow(term, now_ms)
        self._lease.dispatched(self._sent_to_ms())
        telemetry.MONITORS_SCHEDULED.set(len(self._wheel))
        return False

    @property
    def leads(self) -> bool:
        """Whether it dispatches: only then its backlogs say anything."""
        return self._term is not None

    def location_names(self) -> dict[int, str]:
        """Locations that monitors are checked from."""
        return dict(self._names)

    def _apply_changes(self, now_ms: int) -> None:
        for _ in range(MAX_CHANGES):
            try:
                change = self.changes.get_nowait()
            except Empty:
                return
            match change:
                case Timing():
                    self._wheel.apply(change, now_ms)
                case Confirmation():
                    self._confirmations.note(change)
                case LaneNote():
                    self._wheel.set_lane((change.monitor_no, change.location), slow=change.slow)
                case dict():
                    self._names = change

    def _change_term(self, term: Leadership | None) -> None:
        self._term = term
        if term is None:
            self._wheel.stop()
            self._slow.clear()
            telemetry.MONITORS_SCHEDULED.set(0)
            self._logger.warning("standing_by")
        else:
            self._wheel.start(term.since_ms, first_ever=term.epoch == 1)
            self._logger.info("leading", epoch=term.epoch, entries=len(self._wheel))

    def _dispatch(self, turn: Turn, term: Leadership, now_ms: int) -> None:
        if turn.passed_over:
            telemetry.CHECKS_SKIPPED.labels("passed_over").inc(turn.passed_over)
            self._logger.warning("slots_passed_over", slots=turn.passed_over, epoch=term.epoch)
        fast: dict[int, list[Check]] = {}
        for due in turn.due:
            check = Check(due.monitor_no, due.config_version, due.slot_ms, Kind.SCHEDULED)
            if due.slow:
                filling = self._slow.setdefault(due.location, _Filling())
                filling.since_ms = filling.since_ms or now_ms
                filling.checks.append(check)
            else:
                fast.setdefault(due.location, []).append(check)
        for location, checks in fast.items():
            self._send(Lane.FAST, location, checks, term)

    def _sent_to_ms(self) -> int:
        """How far slots were really sent: those in a slow message that still fills are not."""
        filling = (check.scheduled_at_ms for part in self._slow.values() for check in part.checks)
        return min((at_ms - 1 for at_ms in filling), default=self._wheel.turned_to_ms)

    def _flush_slow(self, term: Leadership, now_ms: int) -> None:
        for location, filling in list(self._slow.items()):
            if len(filling.checks) >= BATCH_SIZE or now_ms - filling.since_ms >= SLOW_FILL_MS:
                del self._slow[location]
                self._send(Lane.SLOW, location, filling.checks, term)

    def _send(self, lane: Lane, location: int, checks: list[Check], term: Leadership) -> None:
        name = self._names.get(location)
        if name is None:
            telemetry.CHECKS_SKIPPED.labels("unknown_location").inc(len(checks))
            return
        backlog = self.backlogs.setdefault((lane, location), LaneBacklog())
        if backlog.full:
            telemetry.CHECKS_SKIPPED.labels("backlog").inc(len(checks))
            return
        batch_id = new_batch_id()
        try:
            messages = enqueue_checks(
                self._broker, lane, name, checks, batch_id=batch_id, epoch=term.epoch, sent_ms=self._clock.now_ms()
            )
        except Unavailable as error:
            telemetry.CHECKS_SKIPPED.labels("queue_away").inc(len(checks))
            self._logger.warning("checks_skipped", why="queue_away", checks=len(checks), error=str(error.__cause__))
            return
        now_ms = self._clock.now_ms()
        backlog.sent(now_ms, messages)
        telemetry.CHECKS_DISPATCHED.labels(lane.label).inc(len(checks))
        # The oldest stands for the batch: they became due in the same tick.
        telemetry.DISPATCH_LAG.observe(max(0, now_ms - min(check.scheduled_at_ms for check in checks)) / 1000)
        if self._logger.is_enabled_for(logging.DEBUG):
            due = [[check.monitor_no, check.config_version, check.scheduled_at_ms] for check in checks]
            self._logger.debug("batch_dispatched", batch_id=batch_id, lane=lane.label, checks=len(checks), due=due)


def watch_backlogs(
    dispatcher: Dispatcher,
    clock: DatabaseClock,
    count_waiting: Callable[[Lane, str], int],
) -> None:
    """Measure every lane's backlog and open or close it; once a second, in the reaper's thread."""
    logger = log.get_logger()
    for location, name in dispatcher.location_names().items():
        for lane in Lane:
            backlog = dispatcher.backlogs.setdefault((lane, location), LaneBacklog())
            waiting_ms = backlog.waiting(clock.now_ms(), partial(count_waiting, lane, name))
            if dispatcher.leads or backlog.shown:
                # Who leads no more says 0 once: another shows it from now on.
                shown_s = waiting_ms / 1000 if dispatcher.leads else 0
                telemetry.QUEUE_WAITING.labels(queue_name(lane, name)).set(shown_s)
                backlog.shown = dispatcher.leads
            full = waiting_ms > MAX_BACKLOG_MS
            if full != backlog.full:
                backlog.full = full
                event = "lane_full" if full else "lane_open"
                logger.warning(event, lane=lane.label, location=name, waiting_ms=waiting_ms)
