"""Leadership: take, renew and release the lease, and know at every moment whether we may still act on it.

The renewing runs in a thread and on a connection of its own, so that a slow dispatch cannot cost the lease. Time is
the database's for the lease itself and our monotonic clock for how long we may trust the last renewal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from common import log, telemetry
from common.clock import DatabaseClock
from common.domain.errors import Unavailable
from common.store import leases
from common.store.engine import Database, now_s

NAME = "scheduler"


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds: how long a lease holds, after how long without a renewal we stop, how often we try."""

    ttl_s: float = 5.0
    deadline_s: float = 3.0
    retry_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Leadership:
    """A term as leader; `since_ms` is how far the leader before us dispatched."""

    epoch: int
    since_ms: int


class Lease:
    """One scheduler's view of the lease. `step` belongs to the renewing thread, `held` to everybody."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        holder: str,
        *,
        monotonic: Callable[[], float],
        times: LeaseTimes | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._holder = holder
        self._monotonic = monotonic
        self._times = times or LeaseTimes()
        self._lock = threading.Lock()
        self._held: Leadership | None = None
        self._valid_until = 0.0
        self._dispatched_to_ms = 0
        self._logger = log.get_logger().bind(holder=holder)

    @property
    def times(self) -> LeaseTimes:
        """The lease's times."""
        return self._times

    def held(self) -> Leadership | None:
        """The current term, None when we do not lead or have not renewed for too long."""
        with self._lock:
            return self._held if self._monotonic() < self._valid_until else None

    def dispatched(self, to_ms: int) -> None:
        """Remember how far slots were dispatched; the next renewal writes it down."""
        with self._lock:
            self._dispatched_to_ms = max(self._dispatched_to_ms, to_ms)

    def step(self) -> bool:
        """Renew the lease or try to take it; always False: the loop waits `retry_s` between two tries."""
        started = self._monotonic()
        with self._lock:
            held, dispatched_to_ms = self._held, self._dispatched_to_ms
        try:
            with self._database.begin() as connection:
                self._clock.sync(lambda: now_s(connection))
                if held is None:
                    grant = leases.acquire(connection, NAME, self._holder, ttl_s=self._times.ttl_s)
                else:
                    kept = leases.renew(
                        connection,
                        NAME,
                        self._holder,
                        epoch=held.epoch,
                        ttl_s=self._times.ttl_s,
                        dispatched_to_ms=dispatched_to_ms,
                    )
        except Unavailable:
            self._expire()
            raise
        # Only what is committed counts.
        if held is None:
            self._take(grant, started)
        else:
            self._keep(started, kept=kept)
        return False

    def release(self) -> None:
        """Give the lease back on an orderly stop, so that a standby need not wait for it to expire."""
        with self._lock:
            held, self._held = self._held, None
        if held is None:
            return
        with self._database.begin() as connection:
            leases.release(connection, NAME, self._holder, epoch=held.epoch, dispatched_to_ms=self._dispatched_to_ms)
        self._logger.info("lease_released", epoch=held.epoch)

    def _take(self, grant: leases.Grant | None, started: float) -> None:
        if grant is None:
            return
        with self._lock:
            self._held = Leadership(grant.epoch, grant.dispatched_to_ms)
            self._dispatched_to_ms = grant.dispatched_to_ms
            self._valid_until = started + self._times.deadline_s
        telemetry.LEADER_EPOCH.set(grant.epoch)
        telemetry.LEADER_RENEWED.set_to_current_time()
        self._logger.info("lease_taken", epoch=grant.epoch)

    def _keep(self, started: float, *, kept: bool) -> None:
        with self._lock:
            if kept and self._held is not None:
                if self._monotonic() >= self._valid_until:
                    # We had stopped, but nobody took over: the same epoch goes on from where we stopped.
                    self._held = Leadership(self._held.epoch, self._dispatched_to_ms)
                self._valid_until = started + self._times.deadline_s
                telemetry.LEADER_RENEWED.set_to_current_time()
                return
            lost, self._held = self._held, None
        telemetry.LEADER_EPOCH.set(0)
        self._logger.warning("lease_lost", epoch=lost.epoch if lost else None)

    def _expire(self) -> None:
        with self._lock:
            if self._held is not None and self._monotonic() >= self._valid_until + self._times.ttl_s:
                self._held = None
                telemetry.LEADER_EPOCH.set(0)
