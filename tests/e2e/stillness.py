"""Whether we ourselves stood still: endpoints and receivers live in threads of this process, and then looked dead."""

from __future__ import annotations

import threading
import time
from typing import Self

_LOOK_EVERY_S = 0.05
#: A monitor of these tests gives an endpoint one second.
_STILL_S = 0.7


class Stillness:
    """Notes from `with` on when this process stood still for so long that a monitor may have taken it for an outage."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stillness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def since(self, moment: float) -> float:
        """For how long at a stretch at the most, since a moment of the monotonic clock (seconds)."""
        return max((end - begin for begin, end in list(self._spans) if end >= moment), default=0.0)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._stop.is_set():
            time.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            if now - before > _STILL_S:
                self._spans.append((before, now))
            before = now
