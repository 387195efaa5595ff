"""Commit what came of attempts, several in one transaction: while one commit runs, the next group gathers.

Nothing that was sent may be forgotten, so a database that is away is waited for; meanwhile `in_trouble` keeps the
process from claiming more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import accumulate

from common import log
from common.domain.errors import Contended, Unavailable
from common.store import settlements
from common.store.engine import Database
from common.store.notifications import Refused
from common.store.settlements import Settled, Settlement

#: Notifications in one transaction, or the one message that has more.
_GROUP = 200
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)

_Waiting = tuple[Settlement, "asyncio.Future[Settled]"]


class Settler:
    """Settles on the event loop that calls it, with one thread for the database."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="settle")
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self.in_trouble = False

    async def settle(self, settlement: Settlement) -> Settled:
        """Settle one attempt; returns after its commit."""
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[Settled] = loop.create_future()
        self._waiting.append((settlement, committed))
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._write_all())
        return await committed

    async def _write_all(self) -> None:
        while self._waiting:
            count = _within(self._waiting)
            group, self._waiting = self._waiting[:count], self._waiting[count:]
            await self._write(group)

    async def _write(self, group: Sequence[_Waiting]) -> None:
        """Commit a group whatever it takes; one that is refused is halved until the culprit stands alone."""
        settled = await self._try(lambda: self._commit([settlement for settlement, _ in group]))
        if settled is not None:
            for _, committed in group:
                committed.set_result(settled)
        elif len(group) > 1:
            middle = len(group) // 2
            await self._write(group[:middle])
            await self._write(group[middle:])
        else:
            await self._set_aside(*group[0])

    async def _set_aside(self, settlement: Settlement, committed: asyncio.Future[Settled]) -> None:
        log.get_logger().error("settlement_set_aside", notification_id=settlement.claim.id)
        # Refused even so: its lease expires and it is tried again, which is all that is left.
        settled = await self._try(lambda: self._give_up(settlement))
        committed.set_result(settled or Settled(frozenset(), more=False))

    async def _try(self, commit: Callable[[], Settled]) -> Settled | None:
        """Commit, again and again while the database is away or a race is lost; None when it is refused."""
        loop = asyncio.get_running_loop()
        tries = 0
        while True:
            try:
                settled = await loop.run_in_executor(self._thread, commit)
            except Contended:
                pass  # the same again, in a moment
            except Unavailable as error:
                if not self.in_trouble:
                    log.get_logger().warning("settling_waits_for_database", error=str(error.__cause__))
                self.in_trouble = True
            except Refused as error:
                log.get_logger().warning("settlement_refused", error=str(error.orig))
                return None
            else:
                self.in_trouble = False
                return settled
            await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1

    def _commit(self, group: Sequence[Settlement]) -> Settled:
        with self._database.begin() as connection:
            return settlements.settle(connection, group, self._now())

    def _give_up(self, settlement: Settlement) -> Settled:
        with self._database.begin() as connection:
            settlements.set_aside(connection, settlement.claim)
        return Settled(frozenset(), more=True)


def _within(waiting: Sequence[_Waiting]) -> int:
    """How many settlements fit into one transaction, at least one."""
    sizes = accumulate(len(settlement.claim.together) for settlement, _ in waiting)
    return max(1, sum(size <= _GROUP for size in sizes))
