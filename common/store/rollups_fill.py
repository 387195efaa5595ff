"""Rollups of the past: what is still to be made of results that are older than the first rollup, or were added later.

A list of pieces, the newest day first. A day's beginning is where all figures begin as soon as nothing of it is left to
be made; until then readers know nothing of it.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from common.clock import from_ms, to_ms
from common.domain.accounting_cover import Level
from common.store.engine import Connection

# What the present has still to make is not remade. Five minutes before the hour, hours before the day.
_TO_BE_MADE = "(ARRAY[p.fine_to, p.hours_to, p.days_to])[f.level + 1] > f.at"
_NEXT = f"""
SELECT f.level, f.at FROM rollup_fills f, rollup_progress p WHERE {_TO_BE_MADE}
 ORDER BY date_bin('1 day', f.at, 'epoch') DESC, f.level, f.at LIMIT 1
"""
_OPEN = "SELECT open_rollup_day((%(at)s::timestamptz AT TIME ZONE 'UTC')::date)"
_INDEX = "SELECT index_rollup_day(%(retention_days)s)"
_DONE = "DELETE FROM rollup_fills WHERE level = %(level)s AND at = %(at)s"
_GIVE_UP = "DELETE FROM rollup_fills WHERE at >= %(day)s AND at < %(day)s + interval '1 day'"
# The day joins what is there. Five minutes count from it on where none of them have gone yet.
_JOIN = f"""
UPDATE rollup_progress p
   SET since = %(day)s,
       fine_from = CASE WHEN p.fine_from <= p.since THEN %(day)s ELSE p.fine_from END,
       kept_from = CASE WHEN p.kept_from <= p.since THEN %(day)s ELSE p.kept_from END
 WHERE p.since > %(day)s AND NOT EXISTS (
   SELECT 1 FROM rollup_fills f WHERE f.at >= %(day)s AND f.at < p.since AND {_TO_BE_MADE})
"""


class Day(StrEnum):
    """How far a day of the past is prepared for its pieces."""

    GONE = "gone"  # its results are past retention: its pieces are given up
    MADE = "made"  # it got partitions just now, which others wait for until this is committed
    BARE = "bare"  # its results have no index by time yet
    READY = "ready"


def following(connection: Connection) -> tuple[Level, int] | None:
    """The next piece: its level, and from when on."""
    row = connection.exec_driver_sql(_NEXT).first()
    return None if row is None else (Level(row[0]), to_ms(row[1]))


def opened(connection: Connection, at_ms: int) -> Day:
    """Prepare a piece's day, but for the index, which takes long; pieces can be made where it is ready."""
    day = Day(connection.exec_driver_sql(_OPEN, {"at": from_ms(at_ms)}).scalar_one())
    if day is Day.GONE:
        connection.exec_driver_sql(_GIVE_UP, {"day": _day(at_ms)})
    return day


def index(connection: Connection, retention_days: int) -> date | None:
    """Index the results of the newest day that needs it: which; None where there is none, or another is at it."""
    day: date | None = connection.exec_driver_sql(_INDEX, {"retention_days": retention_days}).scalar_one()
    return day


def done(connection: Connection, level: Level, at_ms: int) -> None:
    """A piece was made, in this transaction."""
    connection.exec_driver_sql(_DONE, {"level": int(level), "at": from_ms(at_ms)})
    connection.exec_driver_sql(_JOIN, {"day": _day(at_ms)})


def _day(at_ms: int) -> object:
    return from_ms(at_ms - at_ms % Level.DAY.ms)
