"""Maintenance windows as time goes by: prepared, begun, following their monitors, ended, early or in time, come again.

What one held back and is still wrong is announced by `cooldowns`, when its rows say so. Each deed is a transaction that
finds its work in the database: of several notifiers any does it, and one that dies leaves it to the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from common import log, telemetry
from common.domain.errors import Contended
from common.store import maintenance_turns as turns
from common.store.engine import Database
from common.store.maintenance_turns import Due
from common.store.notifications import FIRST, Refused

#: A monitor's state shows a window no later than this after its beginning or end.
LOOK_EVERY_S = 1.0

#: How often it is asked whether everything is well again, and whether monitors were changed.
_FOLLOW_EVERY = timedelta(seconds=2)

#: So many windows are asked at once whether all is well, and no other once this time has passed; the next look goes on.
_ASKED_AT_ONCE = 100
_LONGEST_FOLLOW_S = 1.0

#: A window about which PostgreSQL refuses something is left alone for so long.
SET_ASIDE = timedelta(minutes=5)


class Maintenance:
    """`step` is one look; several notifiers may look at once."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._set_aside: dict[str, datetime] = {}
        self._follow_at = now()
        # The last window that was asked, and the last that was looked at again.
        self._asked = self._refreshed = FIRST

    def step(self) -> bool:
        """Do what is due; whether there may be more."""
        now = self._now()
        self._set_aside = {window: until for window, until in self._set_aside.items() if until > now}
        try:
            more = self._turn(now)
            with self._database.begin() as connection:
                more = turns.show(connection, now) > 0 or more
        except Contended:
            more = True  # the same again, now
        if now < self._follow_at:
            return more
        self._follow_at = now + _FOLLOW_EVERY
        try:
            return self._follow(now) or more
        except Contended:
            return more  # the next look goes on behind the one that somebody else has

    def prepare(self) -> bool:
        """As a step, but no more than what relays have to know: windows begin and end; whether there may be more."""
        try:
            return self._turn(self._now())
        except Contended:
            return True

    def _turn(self, now: datetime) -> bool:
        """What is over goes on to its next time; what is about to begin finds its monitors."""
        but = list(self._set_aside)
        with self._database.begin() as connection:
            ended = turns.over(connection, now, but=but)
            coming = turns.to_cover(connection, now, but=but)
        if ended is not None:
            self._do(ended, now, lambda due: self._move_on(due, now))
        if coming is not None:
            self._do(coming, now, lambda due: self._cover(due, now))
        return ended is not None or coming is not None

    def _follow(self, now: datetime) -> bool:
        """Windows that are on follow their monitors: end when all is well, cover what gets their labels."""
        ended = self._end_healthy(now, time.monotonic() + _LONGEST_FOLLOW_S)
        return self._refresh_changed(now, time.monotonic() + _LONGEST_FOLLOW_S) or ended

    def _end_healthy(self, now: datetime, until: float) -> bool:
        with self._database.begin() as connection:
            but = list(self._set_aside)
            coming = turns.until_healthy(connection, now, after=self._asked, limit=_ASKED_AT_ONCE, but=but)
        ended = False
        for due in coming:
            if time.monotonic() > until:
                return ended
            self._asked = due.window_id
            with self._database.begin() as connection:
                healthy = turns.is_healthy(connection, due, now)
            if healthy:
                self._do(due, now, lambda one: self._end_early(one, now))
                ended = True
        if len(coming) < _ASKED_AT_ONCE:
            self._asked = FIRST
        return ended

    def _refresh_changed(self, now: datetime, until: float) -> bool:
        found = False
        while time.monotonic() <= until:
            with self._database.begin() as connection:
                due = turns.to_refresh(connection, now, after=self._refreshed)
            if due is None:
                self._refreshed = FIRST
                break
            self._refreshed = due.window_id
            if due.window_id not in self._set_aside:
                self._do(due, now, lambda one: self._refresh(one, now))
                found = True
        return found

    def _do(self, due: Due, now: datetime, deed: Callable[[Due], None]) -> None:
        try:
            deed(due)
        except (Refused, KeyError, ValueError) as error:
            # One window that cannot be read, by this version, must not hold up the others.
            self._set_aside[due.window_id] = now + SET_ASIDE
            telemetry.LOOP_ERRORS.labels("maintenance").inc()
            log.get_logger().error("maintenance_set_aside", window_id=due.window_id, error=repr(error))

    def _move_on(self, due: Due, now: datetime) -> None:
        with self._database.begin() as connection:
            turns.move_on(connection, due, now)
        log.get_logger().info("maintenance_ended", window_id=due.window_id)

    def _cover(self, due: Due, now: datetime) -> None:
        with self._database.begin() as connection:
            turns.cover(connection, due, now)

    def _refresh(self, due: Due, now: datetime) -> None:
        with self._database.begin() as connection:
            turns.refresh(connection, due, now)

    def _end_early(self, due: Due, now: datetime) -> None:
        with self._database.begin() as connection:
            ended = turns.end_early(connection, due, now)
        if ended:
            log.get_logger().info("maintenance_ended_healthy", window_id=due.window_id)
