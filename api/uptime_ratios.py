"""Uptime of all monitors over days, for Prometheus: counted beside the scrapes, page by page, and kept for a while.

A scrape takes what is there and never waits: the first one finds nothing, the next ones what was counted meanwhile.
Kept in this process alone, and forgotten when nobody has asked for long.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from common import log
from common.clock import monotonic_s
from common.domain.accounting_cover import Cover, Level, Rolled, cover
from common.domain.errors import Unavailable
from common.domain.histogram import value_ms
from common.store import exposition, rollups, uptime
from common.store.engine import Connection, Database

#: {window: (days, how old its figures may be in seconds)}. A year moves slowly, and costs a look at every day of it.
WINDOWS: Mapping[str, tuple[int, float]] = {"1d": (1, 300.0), "30d": (30, 3_600.0), "365d": (365, 3_600.0)}

#: Of these the mean duration is counted too: it takes every bucket of every row, and of a year there are too many.
TIMED = frozenset({"1d", "30d"})

_PAGE = 500
_DAY_MS = Level.DAY.ms
_FORGET_AFTER_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Known:
    """A monitor's uptime in a window, of how much of it that speaks, and its checks' mean duration (seconds).

    None where there is none.
    """

    ratio: float | None
    coverage: float | None
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
        #: What is to be counted, one after the other by one thread, however many ask.
        self._due: deque[tuple[str, str, _Entry]] = deque()
        self._counter: threading.Thread | None = None

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
                    self._due.append((org_id, window, entry))
            if self._due and (self._counter is None or not self._counter.is_alive()):
                # A daemon: nobody waits for it at the end.
                self._counter = threading.Thread(target=self._count_due, name="uptimes", daemon=True)
                self._counter.start()
        return found

    def _count_due(self) -> None:
        while (due := self._next()) is not None:
            self._renew(*due)

    def _next(self) -> tuple[str, str, _Entry] | None:
        with self._lock:
            if self._due:
                return self._due.popleft()
            self._counter = None  # whatever becomes due from here on has a thread of its own
            return None

    def _forget(self, now_s: float) -> None:
        for key in [key for key, entry in self._entries.items() if now_s > entry.asked_s + _FORGET_AFTER_S]:
            del self._entries[key]

    def _renew(self, org_id: str, window: str, entry: _Entry) -> None:
        try:
            entry.known = self._count(org_id, window)
        except Unavailable as error:
            log.get_logger().warning("uptimes_not_counted", error=str(error.__cause__ or error))
        finally:
            # After a failure as well: not before the next turn.
            entry.made_s = self._monotonic()
            entry.making = False

    def _count(self, org_id: str, window: str) -> Mapping[int, Known]:
        with self._database.begin(org_id) as connection:
            reach = _reach(*rollups.progress(connection), window)
        found: dict[int, Known] = {}
        after = 0
        while True:
            with self._database.begin(org_id) as connection:
                numbers = exposition.numbers(connection, org_id, after=after, limit=_PAGE)
                known = _known(connection, list(numbers.values()), reach)
            found |= {number: known[id_] for number, id_ in numbers.items() if id_ in known}
            if len(numbers) < _PAGE:
                return found
            after = max(numbers)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Which rows a ratio is counted from, and which a mean duration is (None: no such mean)."""

    judged: Cover
    timed: Cover | None


def _reach(rolled: Rolled, now_ms: int, window: str) -> _Reach:
    days, _ = WINDOWS[window]
    begin_ms = now_ms - days * _DAY_MS
    judged = cover(rolled, begin_ms, now_ms)
    if window not in TIMED:
        return _Reach(judged, None)
    if days == 1:
        return _Reach(judged, judged)
    # A mean over weeks needs no ends to five minutes, which are most of the rows.
    return _Reach(judged, cover(rolled, begin_ms - begin_ms % _DAY_MS, now_ms - now_ms % Level.HOUR.ms))


def _known(connection: Connection, ids: Sequence[str], reach: _Reach) -> dict[str, Known]:
    """The figures of some monitors, by id."""
    judged = uptime.sums(connection, ids, reach.judged, latencies=reach.timed is reach.judged)
    timed = judged
    if reach.timed is not None and reach.timed is not reach.judged:
        timed = uptime.sums(connection, ids, reach.timed, latencies=True)
    return {
        id_: Known(sums.times.uptime, sums.times.coverage, _mean_s(timed.get(id_, sums).latencies))
        for id_, sums in judged.items()
    }


def _mean_s(latencies: Mapping[int, int]) -> float | None:
    count = sum(latencies.values())
    return sum(value_ms(bucket) * times for bucket, times in latencies.items()) / count / 1000 if count else None
