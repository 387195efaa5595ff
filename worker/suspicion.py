"""Is it them or us? A worker whose own network fails must not call its targets down.

Evidence of our own trouble: many distinct addresses, nearly all of them failing within two seconds in ways that a
broken network causes. Refused connections, TLS and HTTP errors prove the contrary: packets came back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from common.domain.checks import NETWORK_CLASS, Reason

WINDOW_S = 2.0
LEAST_ADDRESSES = 20
FAILING_RATIO = 0.8

#: Nothing was sent, so nothing was learned about the network.
_SAYS_NOTHING = frozenset({Reason.INTERNAL, Reason.EGRESS_DENIED, Reason.INVALID_TARGET, Reason.WORKER_NOT_PERMITTED})


class Suspicion:
    """What the last two seconds say about our own network. Event loop only.

    Counted as it comes and goes: when everything fails at once, every failure asks.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: deque[tuple[float, str, bool]] = deque()
        self._notes: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()

    def note(self, host: str, reason: Reason) -> None:
        """Remember how one target answered."""
        self._forget()
        if reason in _SAYS_NOTHING:
            return
        failed = reason in NETWORK_CLASS
        self._seen.append((self._monotonic(), host, failed))
        self._notes[host] += 1
        if not failed:
            self._answers[host] += 1

    def suspects_us(self) -> bool:
        """Whether so much fails at once that it is more likely us."""
        self._forget()
        hosts = len(self._notes)
        # One answer from an address proves that it can be reached.
        return hosts >= LEAST_ADDRESSES and hosts - len(self._answers) >= FAILING_RATIO * hosts

    def _forget(self) -> None:
        horizon = self._monotonic() - WINDOW_S
        while self._seen and self._seen[0][0] < horizon:
            _, host, failed = self._seen.popleft()
            _less(self._notes, host)
            if not failed:
                _less(self._answers, host)


def _less(counts: Counter[str], host: str) -> None:
    counts[host] -= 1
    if not counts[host]:
        del counts[host]
