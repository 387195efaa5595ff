"""Which stored figures make up a window: days where it has whole ones, hours and five minutes at its edges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How long one stored row speaks for. Stored: never renumber."""

    FINE = 0
    HOUR = 1
    DAY = 2

    @property
    def ms(self) -> int:
        """Its length in milliseconds."""
        return _MS[self]


_MS = {Level.FINE: 300_000, Level.HOUR: 3_600_000, Level.DAY: 86_400_000}


@dataclass(frozen=True, slots=True)
class Rolled:
    """How far the figures reach: since when there are any, and up to where each level goes (Unix milliseconds).

    Rows of five minutes before `fine_from_ms` have gone, all rows before `kept_from_ms`.
    """

    since_ms: int
    fine_from_ms: int
    kept_from_ms: int
    fine_to_ms: int
    hours_to_ms: int
    days_to_ms: int

    def to_ms(self, level: Level) -> int:
        """Up to where a level goes."""
        return (self.fine_to_ms, self.hours_to_ms, self.days_to_ms)[level]


@dataclass(frozen=True, slots=True)
class Cover:
    """Rows by their beginnings (Unix milliseconds): together exactly [begin, end)."""

    begin_ms: int
    end_ms: int
    rows: dict[Level, list[int]]


def cover(rolled: Rolled, begin_ms: int, end_ms: int, coarsest: Level = Level.DAY) -> Cover:
    """The fewest rows, none longer than `coarsest`, that make up the window, as far as there are any.

    Both ends are whole five minutes, rounded down; where these have gone already, whole hours.
    """
    begin = _begin(rolled, begin_ms)
    finest = Level.FINE if end_ms >= rolled.fine_from_ms else Level.HOUR
    end = max(begin, min(_floor(end_ms, finest), rolled.fine_to_ms))
    rows: dict[Level, list[int]] = {level: [] for level in Level}
    at = begin
    while at < end:
        level = next(level for level in reversed(Level) if level <= coarsest and _fits(rolled, level, at, end))
        rows[level].append(at)
        at += level.ms
    return Cover(begin, end, rows)


def _begin(rolled: Rolled, begin_ms: int) -> int:
    begin = _floor(max(begin_ms, rolled.since_ms, rolled.kept_from_ms), Level.FINE)
    if begin >= rolled.fine_from_ms:
        return begin
    hour = _floor(begin, Level.HOUR)
    return hour if hour >= max(rolled.since_ms, rolled.kept_from_ms) else hour + Level.HOUR.ms


def _fits(rolled: Rolled, level: Level, at: int, end: int) -> bool:
    if level is Level.FINE:
        return True
    return at % level.ms == 0 and at + level.ms <= min(end, rolled.to_ms(level))


def _floor(moment_ms: int, level: Level) -> int:
    return moment_ms - moment_ms % level.ms
