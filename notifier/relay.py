"""From the outbox to the ledger: one transaction numbers events, writes who hears of them and takes them away.

After the commit the ids of what is to be sent go out as a hint. A relay that dies before it leaves the outbox as it
was; one that dies after it leaves ledger rows that the sweeper finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from common import log, telemetry
from common.domain.errors import Contended
from common.store import cooldowns, fallbacks, holds, ledger, outbox
from common.store.engine import Connection, Database
from common.store.notifications import Refused
from common.store.outbox import OutboxRow, Taken, UnknownEvent
from common.store.route_books import RouteBooks
from notifier.destinations import decide

#: Events in one transaction, and ledger rows, unless one event makes more: their organizations are held meanwhile.
BATCH = 500
MOST_ROWS = 4_000

#: How often events that nobody announces get their numbers, and how long before its commit an event may have got its
#: id: longer than any transaction is allowed to last.
NUMBERING_EVERY = timedelta(seconds=2)
LONGEST_TRANSACTION = timedelta(seconds=120)

#: An incident of which an event cannot be relayed is left alone for so long.
SET_ASIDE = timedelta(minutes=5)


class Relay:
    """Relays batches; `hint` is told the ids of what may leave after each commit.

    Several work side by side, each on the organizations that it holds; in one process they share `books`.
    """

    def __init__(
        self,
        database: Database,
        hint: Callable[[Sequence[str]], None],
        now: Callable[[], datetime],
        *,
        books: RouteBooks | None = None,
        batch: int = BATCH,
    ) -> None:
        self._database = database
        self._hint = hint
        self._now = now
        self._batch = self._limit = batch
        self._books = RouteBooks() if books is None else books
        self._set_aside: dict[str, datetime] = {}
        self._taken: Sequence[OutboxRow] = []
        # The first numbering looks at all events: whatever happened while no relay ran.
        self._numbered_to: datetime | None = None
        self._number_at = now()

    def step(self) -> bool:
        """Relay one batch; whether there was any."""
        now = self._now()
        self._set_aside = {incident: until for incident, until in self._set_aside.items() if until > now}
        if now >= self._number_at:
            self._number(now)
        try:
            taken, hint = self._relay(now)
        except Contended:
            return True  # the same again, now
        except Refused as error:
            self._narrow(error, now)
            return True
        except UnknownEvent as error:
            self._leave(error.incident_id, error.event_id, error.type, error.message, now)
            return True
        if not taken:
            return False
        # Fewer next time when they made too many rows, else more again.
        self._limit = taken if taken < len(self._taken) else min(self._limit * 2, self._batch)
        telemetry.OUTBOX_RELAYED.inc(taken)
        if hint:
            self._hint(hint)
        return True

    def _relay(self, now: datetime) -> tuple[int, list[str]]:
        """How many events were relayed, and the ids of the notifications that may leave now."""
        self._taken = []
        with self._database.begin() as connection:
            taken = outbox.claim(connection, limit=self._limit, excluded=list(self._set_aside))
            self._taken = taken.rows
            return relay(connection, taken, self._books, now) if taken.rows else (0, [])

    def _narrow(self, error: Refused, now: datetime) -> None:
        """Halve the batch until the row that PostgreSQL refuses is alone, then go on without its incident."""
        if len(self._taken) > 1:
            self._limit = max(1, len(self._taken) // 2)
            return
        if not self._taken:
            # Not a row's fault but the query's; the loop reports it and backs off.
            raise error
        row = self._taken[0]
        self._leave(row.incident_id, row.event_id, row.type.value, str(error.orig), now)

    def _leave(self, incident_id: str, event_id: str, type_: str, error: str, now: datetime) -> None:
        """It stays in the outbox for a while, and the events after it with it: their order must hold."""
        self._set_aside[incident_id] = now + SET_ASIDE
        telemetry.LOOP_ERRORS.labels("relay").inc()
        log.get_logger().error(
            "outbox_event_set_aside", incident_id=incident_id, event_id=event_id, event_type=type_, error=error
        )

    def _number(self, now: datetime) -> None:
        self._number_at = now + NUMBERING_EVERY
        with self._database.begin() as connection:
            found = outbox.claim_unnumbered(connection, since=self._numbered_to, limit=self._batch)
            outbox.number(connection, found.incidents)
        if found.more:
            self._number_at = now
        else:
            self._numbered_to = now - LONGEST_TRANSACTION


def relay(connection: Connection, taken: Taken, books: RouteBooks, now: datetime) -> tuple[int, list[str]]:
    """Write the ledger rows of claimed events, number them, take them away.

    How many (the first ones; those that make too many rows are left), and the ids of what may leave now.
    """
    rules = books.of(connection, taken.versions)
    found = decide(connection, taken.rows, rules, now, most=MOST_ROWS)
    rows = taken.rows[: found.events]
    outbox.number(connection, [row.incident_id for row in rows])
    written = ledger.write(connection, found.rows, now)
    given = fallbacks.hand_over(connection, written.unheard, now)
    cooldowns.note(connection, found.cooldowns, now)
    holds.watch(connection, found.holds)
    holds.note(connection, found.begun, now)
    outbox.delete(connection, rows)
    return len(rows), written.due + given
