"""The end of silences: what is still wrong when one ends is announced then.

A step settles one silence, or a part of it when it held back very much, in one transaction: a notifier that dies leaves
it to the next one, and of several the others find it settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from common import log, telemetry
from common.domain.errors import Contended
from common.store import silence_ends
from common.store.engine import Database
from common.store.notifications import Refused
from common.store.route_books import RouteBooks
from common.store.silence_ends import EndedSilence
from notifier.announce import announce

#: A problem that a silence held back is announced no later than this after its end.
LOOK_EVERY_S = 1.0

#: Notifications in one transaction; relays of the organization wait meanwhile.
BATCH = 1_000

#: A silence whose end PostgreSQL refuses is left alone for so long.
SET_ASIDE = timedelta(minutes=5)


class SilenceEnds:
    """Settles silences; `hint` is told the ids of notifications that may leave now."""

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
        self._batch = batch
        self._books = RouteBooks() if books is None else books
        self._set_aside: dict[str, datetime] = {}
        self._later: set[str] = set()

    def step(self) -> bool:
        """Settle a silence that is over, as far as possible; whether there may be more to do right now."""
        now = self._now()
        self._set_aside = {silence: until for silence, until in self._set_aside.items() if until > now}
        with self._database.begin() as connection:
            found = silence_ends.next_ended(connection, now, excluded=[*self._set_aside, *self._later])
        if found is None:
            self._later.clear()
            return False
        silence_id, org_id = found
        try:
            released = self._settle(silence_id, org_id, now)
        except Contended:
            return True  # the same again, now
        except Refused as error:
            self._set_aside[silence_id] = now + SET_ASIDE
            telemetry.LOOP_ERRORS.labels("silences").inc()
            log.get_logger().error("silence_end_set_aside", silence_id=silence_id, error=str(error.orig))
            return True
        if released:
            self._hint(released)
        return True

    def _settle(self, silence_id: str, org_id: str, now: datetime) -> list[str]:
        """Announce what is still wrong; the ids of what may leave now."""
        with self._database.begin() as connection:
            silence = silence_ends.hold(connection, silence_id, org_id, now)
            if silence is None:
                return []
            found = silence_ends.find(connection, silence, limit=self._batch)
            rules = self._books.of(connection, {org_id: silence.routing_version})[org_id]
            leaving = announce(connection, org_id, found.rows, rules, now)
            if found.all:
                silence_ends.settle(connection, silence, now)
        if not found.rows and not found.all:
            # Somebody is changing all the incidents that are left: other silences first.
            self._later.add(silence_id)
        _report(silence, len(leaving), settled=found.all)
        return [id_ for id_, due_at in leaving.items() if due_at <= now]


def _report(silence: EndedSilence, announced: int, *, settled: bool) -> None:
    log.get_logger().info(
        "silence_settled" if settled else "silence_settling", silence_id=silence.id, announced=announced
    )
