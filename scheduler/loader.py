"""What the wheel must know, read from PostgreSQL: everything once, then exactly what changed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from common import log
from common.clock import DatabaseClock
from common.domain.errors import Unavailable
from common.store import schedule
from common.store.engine import Connection, Database, Listener
from common.store.schedule import LANES_CHANNEL, MONITORS_CHANNEL, Timing
from scheduler.dispatch import Change, LaneNote

#: How far ahead and back confirmations are read at each look (milliseconds); the overlap catches late commits.
_CONFIRM_AHEAD_MS = 1_500
_CONFIRM_BACK_MS = 3_000


class Loader:
    """Reads timings and confirmations and hands them over. `step` runs in one thread."""

    def __init__(self, database: Database, clock: DatabaseClock, hand_over: Callable[[Change], None]) -> None:
        self.loaded = threading.Event()
        self._database = database
        self._clock = clock
        self._hand_over = hand_over
        self._floor: str | None = None
        self._load_whole = True
        self._listener = Listener(database, (MONITORS_CHANNEL, LANES_CHANNEL))
        self._logger = log.get_logger()

    def step(self) -> bool:
        """One look; it waits by listening, up to half a second."""
        if self._load_whole:
            self._hear(0)  # before reading: what is told from now on is heard
        with self._database.begin() as connection:
            # The floor comes first: what commits after it is read again next time, never missed.
            floor = schedule.floor(connection)
            self._floor = self._floor or floor
            self._hand_over(schedule.locations(connection))
            if self._load_whole:
                self._load_all(connection)
            for timing in schedule.changed(connection, self._floor):
                self._hand_over(timing)
                self._tell(timing)
            now_ms = self._clock.now_ms()
            for confirmation in schedule.confirmations(
                connection, after_ms=now_ms - _CONFIRM_BACK_MS, until_ms=now_ms + _CONFIRM_AHEAD_MS
            ):
                self._hand_over(confirmation)
        self._floor, self._load_whole = floor, False
        self.loaded.set()
        self._hear(0.5)
        return True

    def _load_all(self, connection: Connection) -> None:
        count = 0
        for chunk in schedule.active(connection):
            count += len(chunk)
            for timing in chunk:
                self._hand_over(timing)
                self._tell(timing)
        self._logger.info("monitors_loaded", monitors=count)

    def _tell(self, timing: Timing) -> None:
        """From a monitor's id to its number, which is all that a batch has of it."""
        self._logger.debug(
            "timing_loaded",
            monitor_id=timing.monitor_id,
            monitor_no=timing.monitor_no,
            config_version=timing.config_version,
            active=timing.active,
        )

    def _hear(self, timeout_s: float) -> None:
        try:
            heard = self._listener.wait(timeout_s)
        except Unavailable:
            self._load_whole = True  # lane notes are told once only; what they said stands in the votes
            raise
        for channel, payload in heard:
            if channel == LANES_CHANNEL:
                self._note_lanes(payload)

    def _note_lanes(self, payload: str) -> None:
        for part in filter(None, payload.split(",")):
            location, monitor_no, slow = (int(piece) for piece in part.split(":"))
            self._hand_over(LaneNote(monitor_no, location, slow=bool(slow)))
