"""How a process that works on queues ends: what is in work is waited for, and what is cut off goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
from dramatiq.errors import Retry

from common.broker import QueueBroker
from common.clock import monotonic_s

#: A consumer looks up once a second, and sleeps for three after an error (seconds).
_STOP_CONSUMERS_S = 3.5
#: What was cut off says so to Redis.
_HAND_BACK_S = 1.0


def stop_worker(broker: QueueBroker, worker: dramatiq.Worker, within_s: float) -> None:
    """Fetch nothing more, wait for what is in work and then cut it off; what never began goes back to its queue.

    Dramatiq's own waiting takes the time that has passed off anew for each thread: with as many as ours none is left
    after a second or two, and whoever is at work then would be cut off.
    """
    broker.draining = True
    _join(worker.workers, within_s)
    # Not before: their polls are our heartbeat.
    _join(worker.consumers.values(), _STOP_CONSUMERS_S)
    worker.stop(timeout=0)
    _join(worker.workers, _HAND_BACK_S)


@contextmanager
def handing_back() -> Iterator[None]:
    """What our end cuts off in here is put back into its queue, and is nobody's failure."""
    try:
        yield
    except asyncio.CancelledError:
        raise Retry("the process ends", delay=0) from None


def _join(threads: Iterable[Any], within_s: float) -> None:
    """Ask all of them to end, and wait that long in all."""
    until_s = monotonic_s() + within_s
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(max(0.0, until_s - monotonic_s()))
