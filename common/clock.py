"""Time. Slots and deadlines are database time: one clock for all machines, whatever their own clocks say.

`DatabaseClock` knows the database's time as an offset to this machine's monotonic clock, measured by `sync`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def utc_now() -> datetime:
    """This machine's wall clock, for people and tokens; never for slots."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


def monotonic_s() -> float:
    """Seconds that only ever grow."""
    return time.monotonic()


def from_ms(ms: int) -> datetime:
    """Unix milliseconds as an aware datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(moment: datetime) -> int:
    """An aware datetime as Unix milliseconds, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


#: A measurement that took longer says too little: half of it is the error (seconds).
_LONGEST_MEASUREMENT_S = 1.0


class DatabaseClock:
    """Database time between two measurements. `sync` is called by whoever holds a connection, some times a minute."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the one place
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        # Until the first measurement our own clock has to do.
        self._offset_s = wall() - monotonic()
        self._measured = False

    def sync(self, read_database_s: Callable[[], float]) -> None:
        """Measure the offset; `read_database_s` answers the database's time as Unix seconds.

        Whoever is stopped in the middle must not step by half of the stop, so only the first may be that bad.
        """
        before = self._monotonic()
        database_s = read_database_s()
        after = self._monotonic()
        if self._measured and after - before > _LONGEST_MEASUREMENT_S:
            return
        self._offset_s = database_s - (before + after) / 2
        self._measured = True

    def now_ms(self) -> int:
        """Database time as Unix milliseconds."""
        return int((self._monotonic() + self._offset_s) * 1000)

    def skew_s(self) -> float:
        """How far this machine's own clock is ahead of the database's, as far as that has been measured."""
        return self._wall() - self._monotonic() - self._offset_s
