"""Where a fault happens: the world, a source of chance, a clock that ends early when the run does, and the record."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import redis

from tests.chaos.events import BROKEN_OFF, IN_VAIN, TOOK_HOLD, Fault
from tests.chaos.world import World


class Impossible(Exception):
    """This machine cannot do that fault; the message says why."""


class InVain(Exception):
    """It was tried and never took hold: nobody came by, nothing was there to break. It counts for nothing."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a fault gets. One site belongs to one thread."""

    world: World
    chance: random.Random
    over: threading.Event

    def span(self, least: float = 0.4) -> float:
        """How long a fault lasts this time (seconds), from `least` of the longest to the longest."""
        return self.chance.uniform(least, 1.0) * self.world.plan.longest_s

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the faults."""
        self.over.wait(seconds)

    def until(self, seconds: float, *, every_s: float) -> Iterator[None]:
        """Again and again for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.over.is_set():
            yield
            self.over.wait(every_s)

    @contextmanager
    def during(self, name: str, target: str = "", detail: str = "") -> Iterator[None]:
        """A fault that lasts. Its end says what came of it: an error of its object may have come half-way."""
        self.world.history.add(Fault(time.time(), name, begins=True, target=target, detail=detail))
        outcome = TOOK_HOLD
        try:
            yield
        except InVain:
            outcome = IN_VAIN
            raise
        except (psycopg.Error, redis.RedisError, OSError):
            outcome = BROKEN_OFF
            raise
        finally:
            self.world.history.add(
                Fault(time.time(), name, begins=False, target=target, detail=detail, outcome=outcome)
            )

    def moment(self, name: str, target: str = "", detail: str = "") -> None:
        """A fault that is over at once."""
        with self.during(name, target, detail):
            pass
