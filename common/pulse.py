"""Whether a server answers, for whoever asks however often: one caller finds out, the others are told."""

from __future__ import annotations

import threading
from collections.abc import Callable

from common.clock import monotonic_s

#: For so long nobody asks again (seconds).
FRESH_S = 1.0
#: While somebody asks, the others make do with what was known so long ago, rather than wait as well.
_KNOWN_S = 5.0


class Pulse:
    """The last answer of `ask`."""

    def __init__(self, ask: Callable[[], bool], *, monotonic: Callable[[], float] = monotonic_s) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._asking = threading.Lock()
        self._last: tuple[bool, float] | None = None  # the answer, when it came

    def beats(self) -> bool:
        """Whether the server answers, or did a second ago."""
        known = self._known(FRESH_S)
        if known is not None:
            return known
        if not self._asking.acquire(blocking=False):
            known = self._known(_KNOWN_S)
            if known is not None:
                return known
            self._asking.acquire()
        try:
            known = self._known(FRESH_S)  # whoever was before us may have found out
            if known is None:
                known = self._ask()
                self._last = (known, self._monotonic())
            return known
        finally:
            self._asking.release()

    def _known(self, age_s: float) -> bool | None:
        last = self._last
        return last[0] if last is not None and self._monotonic() - last[1] < age_s else None
