"""Group commit: many results in one transaction, under optimistic locking, lost to nobody.

One transaction does, in this order: write the votes whose version is still the one that was read → store the results
of those that won → conclude the states of monitors whose vote changed, with their incident, timeline and outbox.
A result whose vote lost the race goes back whole and is judged again on top of what won.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from common import log, telemetry
from common.clock import from_ms
from common.domain.errors import Contended, Unavailable
from common.domain.health import Change
from common.store import incidents, result_log, votes
from common.store.engine import Connection, Database, commit_durably
from common.store.schedule import note_lanes
from common.store.votes import StateUpdate, VoteKey
from worker.judge import Fold, Judged, Ruling, correlation_id, fold, rule
from worker.signs import Tally
from worker.spans import Came, CheckSpans, Commit

#: A flush holds at most so many results …
FLUSH_SIZE = 500
#: … and waits at most so long for more (seconds).
FLUSH_AFTER_S = 0.025


class Ticket:
    """A batch's claim on its results: `wait` returns when all that were handed over are committed."""

    __slots__ = ("_future", "_loop", "_open", "batch_id", "came")

    def __init__(self, loop: asyncio.AbstractEventLoop, batch_id: str = "", came: Came | None = None) -> None:
        self.batch_id = batch_id
        self.came = came
        self._loop = loop
        self._open = 0
        self._future: asyncio.Future[None] | None = None

    def add(self) -> None:
        """One more result was handed over. Event loop only."""
        self._open += 1

    async def wait(self) -> None:
        """Until everything handed over so far is committed."""
        if self._open:
            self._future = self._loop.create_future()
            await self._future

    def settle(self, count: int) -> None:
        """So many results are committed. Event loop only."""
        self._open -= count
        if self._open == 0 and self._future is not None and not self._future.done():
            self._future.set_result(None)


@dataclass(slots=True)
class Submission:
    """A judged result and the batch that waits for it."""

    judged: Judged
    ticket: Ticket


class Writer:
    """Commits what the event loop submits. `submit` belongs to the loop, `step` to the writer's thread."""

    def __init__(
        self,
        database: Database,
        loop: asyncio.AbstractEventLoop,
        *,
        sleep: Callable[[float], None] = time.sleep,
        tally: Tally | None = None,
        spans: CheckSpans | None = None,
    ) -> None:
        self._database = database
        self._loop = loop
        self._sleep = sleep
        self._tally = tally or Tally(time.monotonic)
        self._spans = spans
        self._inbox: deque[Submission] = deque()
        self._queue: deque[Submission] = deque()
        self._arrived = threading.Event()
        self._limit = FLUSH_SIZE
        self._trying = 0
        self._logger = log.get_logger()

    @property
    def waiting(self) -> int:
        """Results that are not committed yet."""
        return len(self._inbox) + len(self._queue)

    def submit(self, judged: Judged, ticket: Ticket) -> None:
        """Hand a result over; its ticket is settled when it is committed."""
        ticket.add()
        self._inbox.append(Submission(judged, ticket))
        if not self._arrived.is_set():
            self._arrived.set()

    def step(self) -> bool:
        """Commit one flush; False when there was nothing for a while. What raises stays in the queue."""
        if not self._queue:
            if not self._arrived.wait(0.25):
                return False
            if len(self._inbox) < FLUSH_SIZE:
                self._sleep(FLUSH_AFTER_S)
        self._collect()
        if self._trying:
            self._isolate()
        # Now too: while PostgreSQL is away none of this comes to its end, and that is when somebody wants to know.
        telemetry.WRITER_WAITING.set(self.waiting)
        flush = list(islice(self._queue, self._limit))
        if not flush:
            return False
        started = time.perf_counter()
        self._trying = len(flush)
        try:
            done, again = self._commit(flush)
        except Contended:
            self._trying = 0
            return True  # the same again, now
        except Unavailable:
            self._trying = 0
            raise
        self._finish(done, again, len(flush))
        if not done:
            self._sleep(FLUSH_AFTER_S)  # somebody else holds these very votes: let them finish
        telemetry.WRITER_WAITING.set(self.waiting)
        telemetry.WRITER_BATCH.observe(len(flush))
        telemetry.WRITER_COMMIT.observe(time.perf_counter() - started)
        return True

    def _collect(self) -> None:
        self._arrived.clear()
        while self._inbox:
            self._queue.append(self._inbox.popleft())

    def _finish(self, done: list[Submission], again: list[Submission], size: int) -> None:
        for _ in range(size):
            self._queue.popleft()
        self._queue.extendleft(reversed(again))
        self._trying = 0
        self._limit = min(FLUSH_SIZE, self._limit * 2)
        # A heartbeat speaks for itself: that it was judged does not show that its location sees.
        self._tally.note(s.judged.result.observation for s in done if s.judged.config.type != "heartbeat")
        self._settle(done)

    def _isolate(self) -> None:
        """The last flush failed for a reason of its own: go on one by one, then doubling, and set the culprit aside.

        Halving would fail nine times in a row for a culprit in front, and every failure waits longer than the last.
        """
        if self._trying > 1:
            self._limit = 1
        else:
            culprit = self._queue.popleft()
            telemetry.WRITER_POISONED.inc()
            judged = culprit.judged
            self._logger.error("result_set_aside", check=str(judged.result.check), **_ids(judged))
            self._settle([culprit])
        self._trying = 0

    def _commit(self, flush: list[Submission]) -> tuple[list[Submission], list[Submission]]:
        """Commit what wins: the submissions that are done, and those that lost or have to wait their turn."""
        began_ms = 0 if self._spans is None else self._spans.now_ms()
        by_key: dict[VoteKey, list[Judged]] = {}
        for submission in flush:
            by_key.setdefault(submission.judged.key, []).append(submission.judged)
        with self._database.begin() as connection:
            stored = votes.read(connection, list(by_key))
            folds = {key: fold(key, stored.get(key), group) for key, group in by_key.items()}
            updates = [f.update for f in folds.values() if f.update is not None]
            winners = votes.commit(connection, updates) if updates else set()
            won = [f for key, f in folds.items() if f.update is None or key in winners]
            result_log.append(connection, [j.result for f in won for j in (*f.counted, *f.stored)])
            deciding = [f for f in won if f.decides]
            rulings = self._conclude(connection, deciding) if deciding else []
            if rulings:
                commit_durably(connection)
            self._note_lanes(connection, won, stored)
        self._report(rulings, losers=len(updates) - len(winners))
        self._tell_failures(won)
        committed = {id(j) for f in won for j in (*f.counted, *f.stored)}
        done = [s for s in flush if id(s.judged) in committed]
        if self._spans is not None:
            told = ((s.judged, s.ticket.came) for s in done)
            failures = [f.first_failure for f in won if f.first_failure is not None]
            self._spans.committed(Commit(began_ms, told, len(done), rulings, failures))
        return done, [s for s in flush if id(s.judged) not in committed]

    def _conclude(self, connection: Connection, deciding: list[Fold]) -> list[Ruling]:
        causes = {f.counted[-1].key[0]: f.counted[-1] for f in deciding}
        # The states are locked before the votes of other locations are read: whoever comes second sees the first.
        facts = votes.lock_states(connection, list(causes))
        all_votes = votes.all_of(connection, list(causes))
        rulings = [
            ruling
            for no, fact in facts.items()
            if (ruling := rule(fact, all_votes.get(no, []), causes[no])) is not None
        ]
        opened = incidents.open_all(connection, [r.opening for r in rulings if r.opening])
        for ruling in rulings:
            if ruling.opening is not None:
                ruling.incident = opened[ruling.opening.org_id, ruling.opening.dedup_key]
        incidents.alter_all(connection, [r.alteration for r in rulings if r.alteration])
        updates = [self._state_update(r, causes[r.facts.monitor_no]) for r in rulings]
        if updates:
            votes.save_states(connection, updates)
        return rulings

    @staticmethod
    def _state_update(ruling: Ruling, cause: Judged) -> StateUpdate:
        facts, change = ruling.facts, ruling.conclusion.change
        open_incident, last_resolved = ruling.incident, facts.last_resolved
        if ruling.opening is not None:
            last_resolved = None
        elif change is Change.RESOLVED:
            open_incident = None
        if open_incident is None and change is None:
            last_resolved = None  # recovered after a resolve by hand: the next outage is a new one
        return StateUpdate(
            facts.monitor_no, ruling.conclusion.state, open_incident, last_resolved, cause.result.finished_at_ms
        )

    @staticmethod
    def _note_lanes(connection: Connection, won: Iterable[Fold], stored: dict[VoteKey, votes.StoredVote]) -> None:
        moved = [
            (f.update.key, f.update.slow)
            for f in won
            if f.update is not None and stored[f.update.key].slow != f.update.slow
        ]
        if moved:
            note_lanes(connection, moved)

    def _report(self, rulings: Iterable[Ruling], *, losers: int) -> None:
        if losers:
            telemetry.WRITER_CONFLICTS.inc(losers)
        for ruling in rulings:
            change = ruling.conclusion.change
            if change is None:
                continue
            telemetry.TRANSITIONS.labels(change.value).inc()
            self._logger.info(
                "incident_changed",
                change=change.value,
                incident_id=ruling.incident,
                **_ids(ruling.cause),
            )

    def _tell_failures(self, won: Iterable[Fold]) -> None:
        """A line for the first failure after a success: later ones say nothing new, successes nothing at all."""
        for judged in filter(None, (f.first_failure for f in won)):
            observation = judged.result.observation
            self._logger.info(
                "check_failed", verdict=observation.verdict.label, reason=observation.reason.label, **_ids(judged)
            )

    def _settle(self, done: Iterable[Submission]) -> None:
        counts = Counter(submission.ticket for submission in done)
        if counts:
            self._loop.call_soon_threadsafe(_settle_tickets, counts)


def _ids(judged: Judged) -> dict[str, Any]:
    """What leads from a result to its slot, its batch and the change of its monitor that it was probed by."""
    check = judged.result.check
    return {
        "monitor_id": judged.config.monitor_id,
        "config_version": judged.config.config_version,
        "scheduled_at": from_ms(check.scheduled_at_ms).isoformat(),
        "batch_id": judged.batch_id,
        "correlation_id": correlation_id(judged),
    }


def _settle_tickets(counts: Counter[Ticket]) -> None:
    for ticket, count in counts.items():
        ticket.settle(count)
