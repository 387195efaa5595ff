"""Pings on their way to the database: many requests in one commit, and a sign now and then that we hear.

A request waits until its ping is committed. The same thread says that we are there, so that our sign of life also says
that pings reach the disk; a silence of all APIs is written down by the first that is back.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from api.heartbeats_flood import Flood
from common import log, process
from common.domain.errors import Unavailable
from common.store import heartbeats_intake
from common.store.engine import Database
from common.store.heartbeats_intake import Heard

#: How often we say that we hear, how long two signs may be apart, and how long after somebody's at our start (seconds).
_BEAT_S = 0.5
_PATIENCE_S = 2.0
_START_PATIENCE_S = 0.75
#: A flush waits so long (seconds) for so many.
_GATHER_S = 0.002
_MANY = 6
#: Pings in one commit, at most.
_FLUSH = 500
#: How long a request waits for its commit.
_WAIT_S = 10.0


@dataclass(slots=True)
class _Waiting:
    """A ping and the request that waits for it. `known` stays None when it could not be committed."""

    heard: Heard
    received_s: float
    done: threading.Event = field(default_factory=threading.Event)
    known: bool | None = None


class PingIntake:
    """`take` belongs to requests, `step` to the thread that `start` makes; nothing connects before."""

    def __init__(self, database: Database, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._monotonic = monotonic
        self._flood = Flood(monotonic)
        self._inbox: deque[_Waiting] = deque()
        self._arrived = threading.Event()
        self._stop = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next_beat_s = 0.0
        self._patience_s = _START_PATIENCE_S
        self._logger = log.get_logger()

    def start(self) -> None:
        """From now on we hear."""
        with self._start:
            if self._thread is None:
                self._thread = process.start_loop("pings", self.step, self._stop, idle_s=0)

    def close(self) -> None:
        """We hear no more."""
        self._stop.set()
        self._arrived.set()
        if self._thread is not None:
            self._thread.join(2.0)
        self._database.dispose()

    def take(self, heard: Heard) -> bool:
        """Commit a ping; False when its secret is nobody's.

        Raises Throttled for one too many, and Unavailable: it may or may not be committed.
        """
        self._flood.admit(heard.token_hash)
        if self._thread is None:
            self.start()
        waiting = _Waiting(heard, self._monotonic())
        self._inbox.append(waiting)
        self._arrived.set()
        if not waiting.done.wait(_WAIT_S) or waiting.known is None:
            raise Unavailable("The ping could not be stored.")
        if waiting.known:
            self._flood.count(heard.token_hash)
        return waiting.known

    def step(self) -> bool:
        """One flush, or one sign of life; it waits for the first of them."""
        now_s = self._monotonic()
        if not self._inbox and now_s < self._next_beat_s:
            self._arrived.wait(self._next_beat_s - now_s)
        self._gather()
        try:
            # The sign first: it ends a spell, and what is flushed was heard after that.
            if self._monotonic() >= self._next_beat_s:
                self._beat()
            self._flush()
        except Unavailable:
            self._fail_all()
            raise
        return True

    def _gather(self) -> None:
        """Those who come together are committed together: wait a little for the others, unless they are many."""
        until_s = self._monotonic() + _GATHER_S
        self._arrived.clear()
        while 0 < len(self._inbox) < _MANY and (left_s := until_s - self._monotonic()) > 0:
            self._arrived.wait(left_s)
            self._arrived.clear()

    def _beat(self) -> None:
        with self._database.begin() as connection:
            deaf = heartbeats_intake.hear(connection, patience_ms=int(self._patience_s * 1000))
        self._next_beat_s = self._monotonic() + _BEAT_S
        self._patience_s = _PATIENCE_S
        if deaf:
            self._logger.warning("nobody_heard_pings", note="deadlines of that time move on")

    def _flush(self) -> None:
        batch = [self._inbox.popleft() for _ in range(min(len(self._inbox), _FLUSH))]
        if not batch:
            return
        now_s = self._monotonic()
        try:
            with self._database.begin() as connection:
                aged = [(one.heard, (now_s - one.received_s) * 1000) for one in batch]
                known = heartbeats_intake.append(connection, aged)
            # Only what is committed counts.
            for index, one in enumerate(batch):
                one.known = index in known
        finally:
            # Whoever waits is told of a failure too; a client that means it pings again.
            self._settle(batch)

    def _fail_all(self) -> None:
        while self._inbox:
            self._settle([self._inbox.popleft()])

    @staticmethod
    def _settle(batch: list[_Waiting]) -> None:
        for one in batch:
            one.done.set()
