"""The end of cooldowns, maintenance windows and outages of parents: what is still wrong is announced then.

Rows say themselves when to look at them; whoever ends something early, a window or a parent, has them looked at soon. A
step looks at some incidents of one organization in one transaction: a notifier that dies leaves them to the next one,
and of several the others find them done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from common import log, telemetry
from common.domain.errors import Contended
from common.store import cooldown_ends, held_back
from common.store.engine import Database
from common.store.notifications import Refused
from common.store.route_books import RouteBooks
from notifier.announce import announce

#: A problem that a cooldown held back is announced no later than this after its end.
LOOK_EVERY_S = 1.0

#: Notifications whose incidents one transaction looks at; relays of the organization wait meanwhile.
BATCH = 1_000

#: An incident whose announcement PostgreSQL refuses is left alone for so long.
SET_ASIDE = timedelta(minutes=5)


class CooldownEnds:
    """Announces what cooldowns held back; `hint` is told the ids of notifications that may leave now."""

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
        self._later: set[str] = set()
        self._taken: list[str] = []

    def step(self) -> bool:
        """Look at some of what is due in one organization; whether there may be more to do right now."""
        now = self._now()
        self._set_aside = {incident: until for incident, until in self._set_aside.items() if until > now}
        with self._database.begin() as connection:
            org_id = cooldown_ends.next_organization(
                connection, now, but_orgs=list(self._later), but_incidents=list(self._set_aside)
            )
        if org_id is None:
            self._later.clear()
            return False
        try:
            leaving = self._end(org_id, now)
        except Contended:
            return True  # the same again, now
        except Refused as error:
            self._narrow(error, now)
            return True
        self._limit = min(self._limit * 2, self._batch)
        if leaving:
            self._hint(leaving)
        return True

    def _end(self, org_id: str, now: datetime) -> list[str]:
        """Announce what is still wrong; the ids of what may leave now."""
        self._taken = []
        but = list(self._set_aside)
        with self._database.begin() as connection:
            version = held_back.hold(connection, org_id)
            self._taken = cooldown_ends.incidents(connection, org_id, now, but_incidents=but, limit=self._limit)
            found = cooldown_ends.find(connection, org_id, self._taken, now)
            rules = self._books.of(connection, {org_id: version})[org_id]
            cooldown_ends.leave(connection, found.obsolete)
            leaving = announce(connection, org_id, found.rows, rules, now)
        if not found.rows and not found.obsolete:
            # Somebody is changing all these incidents, or has done the work: other organizations first.
            self._later.add(org_id)
        if leaving:
            log.get_logger().info("held_back_announced", org_id=org_id, announced=len(leaving))
        return [id_ for id_, due_at in leaving.items() if due_at <= now]

    def _narrow(self, error: Refused, now: datetime) -> None:
        """Look at fewer until the incident that PostgreSQL refuses is alone, then go on without it."""
        if not self._taken:
            # Not a row's fault but the query's; the loop reports it and backs off.
            raise error
        if len(self._taken) > 1:
            self._limit = max(1, self._limit // 2)
            return
        incident_id = self._taken[0]
        self._set_aside[incident_id] = now + SET_ASIDE
        telemetry.LOOP_ERRORS.labels("cooldowns").inc()
        log.get_logger().error("cooldown_end_set_aside", incident_id=incident_id, error=str(error.orig))
