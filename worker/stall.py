"""Did this process itself stand still? Then a probe that ran out of time says nothing about its target.

A frozen machine, a stopped process or a loop with more work than a core can do: all show as ticks that come late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.domain.checks import Reason

TICK_S = 0.05

#: Of a monitor's timeout: so much lag of our own during a probe, and its time says more about us than about them.
TOLERATED_SHARE = 0.25

#: Failures that a lag of our own brings about as well: time runs out, or a peer that waited for us in vain hangs up.
#: What a whole answer says, or a refusal, is true however late we read it.
STALL_CLASS: frozenset[Reason] = frozenset(
    {
        Reason.DNS_TIMEOUT,
        Reason.DNS_FAILED,
        Reason.CONNECT_TIMEOUT,
        Reason.CONNECTION_RESET,
        Reason.NO_REPLY,
        Reason.TLS_HANDSHAKE,
        Reason.TIMEOUT,
        Reason.PROTOCOL_ERROR,
        Reason.EMPTY_REPLY,
        Reason.LATENCY_EXCEEDED,
        Reason.PACKET_LOSS,
    },
)


class LoopLag:
    """Adds up how late the event loop is. Event loop only; `watch` runs as a task of it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._total_s = 0.0
        self._expected_at: float | None = None

    async def watch(self) -> None:
        """Tick until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        """One tick; the next is expected TICK_S later."""
        now = self._monotonic()
        self._total_s += self._late_s(now)
        self._expected_at = now + TICK_S

    def total_s(self) -> float:
        """Seconds by which the loop was late since it began, the present delay included."""
        return self._total_s + self._late_s(self._monotonic())

    def blames_us(self, before_s: float, timeout_s: float) -> bool:
        """Whether we were late for too much of a probe's time, given `total_s` before it and its timeout."""
        return self.total_s() - before_s > TOLERATED_SHARE * timeout_s

    def _late_s(self, now: float) -> float:
        return 0.0 if self._expected_at is None else max(0.0, now - self._expected_at)
