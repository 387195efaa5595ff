"""Which checks look at their target's certificate for its own sake, and passing on what they saw.

libcurl's account of a certificate costs a handle's set-up, so only the first check of a configuration asks for it, and
then one an hour; that this process forgets all of it when it ends costs one look more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from common.domain.monitors import MonitorConfig
from common.expiries import LOOK_EVERY_S, Expiries

#: How often what was seen is passed on.
TELL_EVERY_S = 2.0
#: Monitors that are remembered; one that is forgotten is looked at again.
_MOST = 200_000


class ExpiryNotes:
    """`wants` and `note` belong to the event loop, `step` to a thread of its own."""

    def __init__(self, expiries: Expiries, monotonic: Callable[[], float]) -> None:
        self._expiries = expiries
        self._monotonic = monotonic
        self._looked: dict[int, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._seen: dict[int, int] = {}

    def wants(self, config: MonitorConfig) -> bool:
        """Whether a check that begins now should look. One that is no monitor's always does: somebody asked for it."""
        if config.monitor_no < 0:
            return True
        known = self._looked.get(config.monitor_no)
        now_s = self._monotonic()
        if known is not None and known[0] == config.config_version and now_s < known[1] + LOOK_EVERY_S:
            return False
        if len(self._looked) >= _MOST:
            self._looked.clear()
        self._looked[config.monitor_no] = (config.config_version, now_s)
        return True

    def note(self, config: MonitorConfig, expires_s: int) -> None:
        """A check has seen when the certificate expires (Unix seconds)."""
        if config.monitor_no >= 0:
            with self._lock:
                self._seen[config.monitor_no] = expires_s

    def step(self) -> bool:
        """Pass on what was seen; what cannot be is kept for the next turn."""
        with self._lock:
            seen, self._seen = self._seen, {}
        if not seen:
            return False
        try:
            self._expiries.note(seen)
        except BaseException:
            with self._lock:
                self._seen = {**seen, **self._seen}
            raise
        return False
