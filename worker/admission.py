"""How many probes run at once, so that a flood makes batches wait instead of making every probe late.

One event loop serves all probes. With more of them than a core can serve, each one begun waits for the loop and runs
into its timeout: our overload would look like their outage. Whoever has not begun cannot time out.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Admission:
    """Room for so many probes; batches enter whole, first come, first served. Event loop only."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, probes: int) -> None:
        """Wait until there is room, then take the place of `probes`; the last batch may stand over the limit."""
        if self._running >= self._capacity or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # Cancelled with the turn already in hand: the next one has it.
                if turn.done() and not turn.cancelled():
                    self._let_in()
                raise
        self._running += probes
        self._let_in()

    def leave(self, probes: int = 1) -> None:
        """So many probes have ended, or will not begin."""
        self._running -= probes
        self._let_in()

    def _let_in(self) -> None:
        # One at a time: who enters takes its places first and then calls the next.
        while self._running < self._capacity and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
