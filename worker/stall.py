"""Did this process itself stand still? Then a probe that ran out of time says nothing about its target.

A frozen machine, a stopped process or a loop with more work than a core can do: all show as ticks that come late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.domain.checks import Reason

TICK_S = 0.1

#: A tick that is later than this is a stall (seconds): less than any timeout that a monitor can have.
STALL_S = 0.5

#: Failures that a stall of our own brings about as well.
TIME_CLASS: frozenset[Reason] = frozenset(
    {Reason.DNS_TIMEOUT, Reason.CONNECT_TIMEOUT, Reason.TIMEOUT, Reason.LATENCY_EXCEEDED},
)


class StallWatch:
    """Remembers when the event loop last stood still. Event loop only; `watch` runs as a task of it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ticked_at: float | None = None
        self._stalled_until: float | None = None

    async def watch(self) -> None:
        """Tick until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        """One tick: a late one marks a stall that ends now."""
        now = self._monotonic()
        if self._is_late(now):
            self._stalled_until = now
        self._ticked_at = now

    def stalled_since(self, started_at: float) -> bool:
        """Whether we stood still at any moment after `started_at`, or do so now."""
        if self._is_late(self._monotonic()):
            return True
        return self._stalled_until is not None and self._stalled_until >= started_at

    def _is_late(self, now: float) -> bool:
        return self._ticked_at is not None and now - self._ticked_at > TICK_S + STALL_S
