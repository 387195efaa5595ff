"""Answers that cost a look at everything: counted once, whoever else asks shares them.

Who asks gets what is there, a second old or hardly more where many ask, and has it counted anew beside the requests.
Only where nobody has asked for a while somebody waits. Where counting takes long, an answer may be as old as four times
that: else it would be too old the moment it is there, and everybody would count for themselves, each making it longer
for the others.

Kept in this process alone: what another one counts is no older, and nothing has to be there for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from common.clock import monotonic_s
from common.domain.errors import Full

#: No answer is older than this (seconds), or than so many times what counting it takes.
STALE_S = 3.0
_STALE_TIMES = 4.0
#: The age at which the next answer should be there: the one who asks so much before as counting takes, and some, has it
#: made anew, beside the requests; but never so soon that it would be made all the time.
_FRESH_S = 1.0
_SOONEST_S = 0.3
_MARGIN = 1.5
#: Whoever has to wait for somebody else's counting waits so long at most.
_PATIENCE_S = 10.0
_MOST = 200


@dataclass(slots=True)
class _Entry:
    making: threading.Lock = field(default_factory=threading.Lock)
    answer: bytes | None = None
    begun_s: float = 0.0
    stale_after_s: float = STALE_S
    renew_after_s: float = 0.0


class SummaryCache:
    """Answers by what was asked."""

    def __init__(
        self, *, monotonic: Callable[[], float] = monotonic_s, renewing: Callable[[], Executor] | None = None
    ) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Entry] = {}
        # One thread, which begins with the first renewal: the process may have forked until then.
        self._renewing = ThreadPoolExecutor(1, "summaries") if renewing is None else renewing()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The answer to `key`, hardly a second old; `make` makes it when nobody has. Raises what `make` raises.

        To renew an answer `make` is called from another thread, outside of any request.
        """
        entry = self._entry(key)
        age_s, answer = self._monotonic() - entry.begun_s, entry.answer
        if answer is not None and age_s < entry.stale_after_s:
            if age_s >= entry.renew_after_s and entry.making.acquire(blocking=False):
                self._renewing.submit(self._renew, entry, make)
            return answer
        if not entry.making.acquire(timeout=_PATIENCE_S):
            raise Full("The monitors are still being counted; ask again.", code="SUMMARY_BUSY", retry_after_s=1)
        return self._renew(entry, make)

    def _renew(self, entry: _Entry, make: Callable[[], bytes]) -> bytes:
        """Make the answer, with the lock held, unless somebody has made it while we waited; lets the lock go."""
        try:
            if entry.answer is None or self._monotonic() - entry.begun_s >= entry.renew_after_s:
                self._make(entry, make)
            assert entry.answer is not None
            return entry.answer
        finally:
            entry.making.release()

    def _make(self, entry: _Entry, make: Callable[[], bytes]) -> None:
        begun_s = self._monotonic()
        answer = make()
        took_s = self._monotonic() - begun_s
        entry.answer, entry.begun_s = answer, begun_s
        entry.stale_after_s = max(STALE_S, _STALE_TIMES * took_s)
        entry.renew_after_s = max(_SOONEST_S, _FRESH_S - _MARGIN * took_s - 0.05, 2 * took_s)

    def _entry(self, key: Hashable) -> _Entry:
        with self._lock:
            # To the end: the one in front is the one that was asked for longest ago.
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry
            if len(self._entries) > _MOST:
                del self._entries[next(iter(self._entries))]
            return entry
