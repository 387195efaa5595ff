"""From the outbox to the ledger: one transaction numbers events, writes who hears of them and takes them away.

After the commit the ids of what is to be sent go out as a hint. A relay that dies before it leaves the outbox as it
was; one that dies after it leaves ledger rows that the sweeper finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from common import log, telemetry
from common.domain.errors import Contended
from common.domain.matching import ANNOUNCING, STATUS_OF, announced, recipients
from common.store import notifications, outbox
from common.store.engine import Connection, Database
from common.store.notifications import NewNotification, Refused
from common.store.outbox import Concerned, OutboxRow

BATCH = 500

#: How often events that nobody announces get their numbers, and how long before its commit an event may have got its
#: id: longer than any transaction is allowed to last.
NUMBERING_EVERY = timedelta(seconds=2)
LONGEST_TRANSACTION = timedelta(seconds=120)

#: An incident whose events PostgreSQL refuses to relay is left alone for so long.
SET_ASIDE = timedelta(minutes=5)


class Relay:
    """Relays batches; `hint` is told the ids of pending notifications after each commit."""

    def __init__(
        self,
        database: Database,
        hint: Callable[[Sequence[str]], None],
        now: Callable[[], datetime],
        *,
        batch: int = BATCH,
    ) -> None:
        self._database = database
        self._hint = hint
        self._now = now
        self._batch = self._limit = batch
        self._set_aside: dict[str, datetime] = {}
        self._taken: list[OutboxRow] = []
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
            pending = self._relay(now)
        except Contended:
            return True  # the same again, now
        except Refused as error:
            self._narrow(error, now)
            return True
        if not self._taken:
            return False
        self._limit = min(self._limit * 2, self._batch)
        telemetry.OUTBOX_RELAYED.inc(len(self._taken))
        if pending:
            self._hint(pending)
        return True

    def _relay(self, now: datetime) -> list[str]:
        self._taken = []
        with self._database.begin() as connection:
            self._taken = outbox.claim(connection, limit=self._limit, excluded=list(self._set_aside))
            return relay(connection, self._taken, now) if self._taken else []

    def _narrow(self, error: Refused, now: datetime) -> None:
        """Halve the batch until the row that PostgreSQL refuses is alone, then go on without its incident."""
        if len(self._taken) > 1:
            self._limit = max(1, len(self._taken) // 2)
            return
        if not self._taken:
            # Not a row's fault but the query's; the loop reports it and backs off.
            raise error
        row = self._taken[0]
        # It stays in the outbox, and the events after it with it: their order must hold.
        self._set_aside[row.incident_id] = now + SET_ASIDE
        telemetry.LOOP_ERRORS.labels("relay").inc()
        log.get_logger().error(
            "outbox_event_set_aside",
            incident_id=row.incident_id,
            event_id=row.event_id,
            event_type=row.type.value,
            error=str(error.orig),
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


def relay(connection: Connection, rows: Sequence[OutboxRow], now: datetime) -> list[str]:
    """Number these claimed events, write their ledger rows, delete them; the ids of the pending notifications."""
    outbox.number(connection, [row.incident_id for row in rows])
    ledger = _match_all(rows, outbox.concerned(connection, rows))
    pending = notifications.write(connection, ledger, now)
    outbox.delete(connection, rows)
    return pending


def _match_all(rows: Sequence[OutboxRow], concerned: Concerned) -> list[NewNotification]:
    """Decide event by event: whoever hears of an opening in this batch has heard of it when its end comes."""
    ledger: list[NewNotification] = []
    for row in rows:
        heard = concerned.heard.setdefault(row.incident_id, set())
        found = recipients(row.type, concerned.candidates.get(row.org_id, ()), heard)
        if not found:
            log.get_logger().warning("event_unrouted", incident_id=row.incident_id, event_type=row.type.value)
        for recipient in found:
            status = STATUS_OF[recipient.match]
            if row.type in ANNOUNCING and announced(status, unknown_outcome=False):
                heard.add(recipient.channel_id)
            ledger.append(
                NewNotification(
                    row.org_id, row.event_id, row.incident_id, recipient.channel_id, row.type, status, recipient.match
                )
            )
    return ledger
