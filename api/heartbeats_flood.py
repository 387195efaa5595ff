"""How often one heartbeat may be pinged: far oftener than any job means, so that nobody fills everybody's inbox.

Each API process counts for itself, and only pings that were taken: as many secrets as exist, not as can be guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import ceil

from common.domain.errors import Throttled

#: Pings of one heartbeat in a window (seconds).
MAX_PINGS = 600
WINDOW_S = 60.0
#: Heartbeats that are counted at once; further ones are not, until the next window.
_MAX_COUNTED = 200_000


class Flood:
    """Counts by the hash of the secret. Called by all of a process's threads: a count that is lost harms nobody."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until_s = 0.0
        self._counts: Counter[bytes] = Counter()

    def admit(self, token_hash: bytes) -> None:
        """Raises Throttled for one ping too many."""
        now_s = self._monotonic()
        if now_s >= self._until_s:
            self._until_s = now_s + WINDOW_S
            self._counts = Counter()
        if self._counts[token_hash] >= MAX_PINGS:
            left_s = max(1, ceil(self._until_s - now_s))
            raise Throttled(
                f"More than {MAX_PINGS} pings of one monitor in {WINDOW_S:.0f} s; the next one is taken in {left_s} s.",
                retry_after_s=left_s,
            )

    def count(self, token_hash: bytes) -> None:
        """One was taken."""
        if token_hash in self._counts or len(self._counts) < _MAX_COUNTED:
            self._counts[token_hash] += 1
