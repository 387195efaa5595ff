"""Is it them or us? A worker whose own network fails must not call its targets down.

Evidence of our own trouble: many distinct addresses, nearly all of them failing within two seconds in ways that a
broken network causes. Refused connections, TLS and HTTP errors prove the contrary: packets came back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from common.domain.checks import NETWORK_CLASS, Reason

WINDOW_S = 2.0
LEAST_ADDRESSES = 20
FAILING_RATIO = 0.8


class Suspicion:
    """What the last two seconds say about our own network. Event loop only."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: deque[tuple[float, str, bool]] = deque()

    def note(self, host: str, reason: Reason) -> None:
        """Remember how one target answered."""
        self._seen.append((self._monotonic(), host, reason in NETWORK_CLASS))

    def suspects_us(self) -> bool:
        """Whether so much fails at once that it is more likely us."""
        self._forget()
        hosts: dict[str, bool] = {}
        for _, host, failed in self._seen:
            # One answer from an address proves that it can be reached.
            hosts[host] = failed and hosts.get(host, True)
        return len(hosts) >= LEAST_ADDRESSES and sum(hosts.values()) >= FAILING_RATIO * len(hosts)

    def _forget(self) -> None:
        horizon = self._monotonic() - WINDOW_S
        while self._seen and self._seen[0][0] < horizon:
            self._seen.popleft()
