"""Uptime of all monitors over days, for Prometheus: counted beside the scrapes, page by page, and kept for a while.

A scrape takes what is there and never waits: the first one finds nothing, the next ones what was counted meanwhile.
Kept in this process alone, and forgotten when nobody has asked for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from common import log
from common.clock import monotonic_s
from common.domain.accounting_cover import Cover, cover
from common.domain.errors import Unavailable
from common.domain.histogram import value_ms
from common.store import exposition, rollups, uptime
from common.store.engine import Database
from common.store.uptime import Sums

#: {window: (days, how old its figures may be in seconds)}. A year moves slowly, and costs a look at every day of it.
WINDOWS: Mapping[str, tuple[int, float]] = {"1d": (1, 300.0), "30d": (30, 3_600.0), "365d": (365, 3_600.0)}

#: Of this one the mean duration is counted too: it takes every bucket of every row.
TIMED = "1d"

_PAGE = 500
_DAY_MS = 86_400_000
_FORGET_AFTER_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Known:
    """A monitor's uptime in a window, and the mean duration of its checks (seconds); None where there is none."""

    ratio: float | None
    mean_s: float | None


@dataclass(slots=True)
class _Entry:
    asked_s: float
    made_s: float | None = None
    making: bool = False
    known: Mapping[int, Known] = field(default_factory=dict)


class UptimeRatios:
    """Figures by organization and window."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = monotonic_s) -> None:
        self._database = database
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        #: One is counted at a time, however many ask.
        self._counting = threading.Lock()

    def of(self, org_id: str) -> dict[str, Mapping[int, Known]]:
        """{window: {monitor's number: its figures}} as far as they are there; what is old is counted anew meanwhile."""
        now_s = self._monotonic()
        found: dict[str, Mapping[int, Known]] = {}
        with self._lock:
            self._forget(now_s)
            for window, (_, fresh_s) in WINDOWS.items():
                entry = self._entries.setdefault((org_id, window), _Entry(now_s))
                entry.asked_s = now_s
                found[window] = entry.known
                if not entry.making and (entry.made_s is None or now_s > entry.made_s + fresh_s):
                    entry.making = True
                    # Daemons: nobody waits for them at the end.
                    threading.Thread(target=self._renew, args=(org_id, window, entry), daemon=True).start()
        return found

    def _forget(self, now_s: float) -> None:
        for key in [key for key, entry in self._entries.items() if now_s > entry.asked_s + _FORGET_AFTER_S]:
            del self._entries[key]

    def _renew(self, org_id: str, window: str, entry: _Entry) -> None:
        try:
            with self._counting:
                entry.known = self._count(org_id, window)
        except Unavailable as error:
            log.get_logger().warning("uptimes_not_counted", error=str(error.__cause__ or error))
        finally:
            # After a failure as well: not before the next turn.
            entry.made_s = self._monotonic()
            entry.making = False

    def _count(self, org_id: str, window: str) -> Mapping[int, Known]:
        timed = window == TIMED
        found: dict[int, Known] = {}
        after, reach = 0, self._reach(org_id, WINDOWS[window][0])
        while True:
            with self._database.begin(org_id) as connection:
                numbers = exposition.numbers(connection, org_id, after=after, limit=_PAGE)
                sums = uptime.sums(connection, list(numbers.values()), reach, latencies=timed)
            found |= {number: _known(sums[id_], timed=timed) for number, id_ in numbers.items() if id_ in sums}
            if len(numbers) < _PAGE:
                return found
            after = max(numbers)

    def _reach(self, org_id: str, days: int) -> Cover:
        with self._database.begin(org_id) as connection:
            rolled, now_ms = rollups.progress(connection)
        return cover(rolled, now_ms - days * _DAY_MS, now_ms)


def _known(sums: Sums, *, timed: bool) -> Known:
    count = sum(sums.latencies.values())
    total_ms = sum(value_ms(bucket) * times for bucket, times in sums.latencies.items()) if timed else 0.0
    return Known(sums.times.uptime, total_ms / count / 1000 if count else None)
