"""Redis may hang: after a call that did not come back nobody asks for a while, so that only one has waited in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import redis

from common import log
from common.clock import monotonic_s

T = TypeVar("T")

#: What says that Redis is away. Any other error is an answer.
_AWAY = (redis.ConnectionError, redis.TimeoutError)


class Paused(redis.ConnectionError):
    """Redis was away a moment ago and is not asked now."""


class RedisBreaker:
    """Lets calls through until one finds Redis away; `pause_s` later one tries, the others only if it succeeds."""

    def __init__(self, name: str, *, pause_s: float, monotonic: Callable[[], float] = monotonic_s) -> None:
        self._name = name
        self._pause_s = pause_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failed = False
        self._try_at = 0.0

    def attempt(self, call: Callable[[], T]) -> T:
        """What the call answers. Raises what it raises and, at once, Paused."""
        if not self._may_try():
            raise Paused(f"it did not answer a moment ago and is asked again within {self._pause_s:g} s")
        away: redis.RedisError | None = None
        try:
            return call()
        except _AWAY as error:
            away = error
            raise
        finally:
            self._note(away)

    def _may_try(self) -> bool:
        with self._lock:
            if not self._failed:
                return True
            now = self._monotonic()
            if now < self._try_at:
                return False
            self._try_at = now + self._pause_s  # this caller tries; the others wait for what it finds
            return True

    def _note(self, away: redis.RedisError | None) -> None:
        with self._lock:
            if (away is not None) is not self._failed:
                word = "away" if away is not None else "back"
                log.get_logger().warning(f"{self._name}_{word}", error=str(away or ""))
            self._failed = away is not None
            if away is not None:
                self._try_at = self._monotonic() + self._pause_s
