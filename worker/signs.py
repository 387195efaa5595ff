"""What this worker says of itself: that it lives, and what its committed results saw lately.

The writer's thread notes, the loop of signs reads; a count that is a moment old harms nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from uuid import uuid4

from common.domain.blindness import BLINDING, SIGN_EVERY_S, WINDOW_S
from common.domain.checks import Observation, Verdict
from common.store import blindness
from common.store.blindness import Sign
from common.store.engine import Database

_MINUTE = int(60 / SIGN_EVERY_S)
_WINDOW = int(WINDOW_S / SIGN_EVERY_S)


class Tally:
    """Counts of committed results since the process began. `note` belongs to one thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.results = 0
        self.saw = 0
        self.blinded = 0
        self.judged_at: float | None = None

    def note(self, observations: Iterable[Observation]) -> None:
        """These are committed."""
        results = blinded = unknown = 0
        for observation in observations:
            results += 1
            if observation.verdict is Verdict.UNKNOWN:
                unknown += 1
                blinded += observation.reason in BLINDING
        if results:
            self.results += results
            self.saw += results - unknown
            self.blinded += blinded
            self.judged_at = self._monotonic()


class Signs:
    """Says so every SIGN_EVERY_S. `step` runs in one thread."""

    def __init__(self, database: Database, tally: Tally, location: int, *, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._tally = tally
        self._location = location
        self._monotonic = monotonic
        self._id = str(uuid4())
        self._past: deque[tuple[int, int, int]] = deque([(0, 0, 0)], maxlen=_MINUTE + 1)

    def step(self) -> bool:
        """Say it once."""
        tally = self._tally
        now = (tally.results, tally.saw, tally.blinded)
        lately, minute = self._past[-min(_WINDOW, len(self._past))], self._past[0]
        age_s = None if tally.judged_at is None else self._monotonic() - tally.judged_at
        given = Sign(self._id, self._location, now[1] - lately[1], now[2] - lately[2], now[0] - minute[0], age_s)
        with self._database.begin() as connection:
            blindness.sign(connection, given)
        self._past.append(now)
        return False

    def depart(self) -> None:
        """Say that we end; whoever is killed cannot, and is missed."""
        with self._database.begin() as connection:
            blindness.depart(connection, self._id)
