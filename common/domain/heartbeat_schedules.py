"""When the signals of a heartbeat are due: every so often, as cron says, or so many successes in any such time.

Pure. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from common.domain.accounting import Span
from common.domain.options import HeartbeatOptions


@dataclass(frozen=True, slots=True)
class Tally:
    """The newest successes, in order.

    Until there are as many as a schedule asks for, as many count as come at `since_ms`: from then on they are counted.
    """

    successes: tuple[int, ...] = ()
    since_ms: int | None = None


NOTHING_COUNTED = Tally()


@dataclass(frozen=True, slots=True)
class Schedule:
    """When signals are due: every `period_ms`, or as `cron` says in a time zone. `grace_ms` later they are late.

    With `at_least` above one, so many successes are due in any `period_ms`, whenever they come. `tolerant`: a failure
    is no more than a success that has not come.
    """

    period_ms: int
    grace_ms: int
    cron: str | None = None
    timezone: str = "UTC"
    at_least: int = 1
    tolerant: bool = False

    @property
    def counts(self) -> bool:
        """Whether successes are told from failures, and counted; otherwise the last signal is all that matters."""
        return self.at_least > 1 or self.tolerant

    def next_after(self, at_ms: int) -> int:
        """The first moment after this one at which a signal is due."""
        return at_ms + self.period_ms if self.cron is None else next_cron(self.cron, self.timezone, at_ms)

    def due(self, tally: Tally, deaf: Sequence[Span] = ()) -> int:
        """When the next signal is due: a period after the n-th last, reckoned with the spells `deaf`, in order."""
        return self.next_after(sorted(self._reckoned(tally, deaf))[-self.at_least])

    def fitted(self, tally: Tally) -> Tally:
        """The tally of another number that was asked for; what is not known of it counts as the oldest that is."""
        known = tally.successes[-self._kept :]
        return (
            Tally(known, known[0])
            if tally.since_ms is None and len(known) < self.at_least
            else replace(tally, successes=known)
        )

    def followed(self, tally: Tally, at_ms: int, deaf: Sequence[Span]) -> Tally:
        """The tally after a success, reckoned with the spells that ended before it."""
        before = [spell for spell in deaf if spell[1] <= at_ms]
        tally = replace(tally, successes=tuple(sorted((*tally.successes, at_ms))))
        reckoned = self._reckoned(replace(tally, since_ms=None), before)
        if (
            tally.since_ms is not None
            and sum(at >= self._begun(tally.since_ms, before) for at in reckoned) >= self.at_least
        ):
            tally = replace(tally, since_ms=None)
        if len(reckoned) > self._kept:
            oldest = reckoned.index(min(reckoned))
            tally = replace(tally, successes=tally.successes[:oldest] + tally.successes[oldest + 1 :])
        return tally

    @property
    def _kept(self) -> int:
        """So many successes are kept: what a spell excuses may have come all the same, and counts twice for a period.

        Of n who each ping once in it, the last ping of each is then among these, also after two that were lost.
        """
        return 3 * self.at_least - 2

    def _reckoned(self, tally: Tally, deaf: Sequence[Span]) -> list[int]:
        """When each success counts as come, in their order; before them those that are not expected yet."""
        came, since_ms = tally.successes, tally.since_ms
        # Most spells have long been over.
        oldest_ms = min((*came[:1], *([] if since_ms is None else [since_ms])))
        spells = [spell for spell in deaf if spell[1] > oldest_ms]
        begun = [] if since_ms is None else [self._begun(since_ms, spells)] * self.at_least
        return [*begun, *(self._excused(at_ms, spells) for at_ms in came)]

    def _excused(self, at_ms: int, deaf: Sequence[Span]) -> int:
        """A success, or the end of the spell in which the one that follows it may have come: it was due around it."""
        usual_ms, grace_ms = self.next_after(at_ms), self.grace_ms
        for begin, end in deaf:
            due_ms = self.next_after(at_ms)
            # Of one that may still come as ever, the next is the one after it.
            next_ms = usual_ms if usual_ms - grace_ms >= at_ms else self.next_after(usual_ms)
            as_ever = begin < usual_ms + grace_ms and end > usual_ms - grace_ms
            later = begin < due_ms + grace_ms and end > min(due_ms, next_ms) - grace_ms
            if end > at_ms and (as_ever or later):
                usual_ms = self._usual(usual_ms, end)
                at_ms = end
        return at_ms

    def _usual(self, due_ms: int, end: int) -> int:
        """When the first is due as ever that may come after the end of a spell."""
        if self.cron is not None:
            return self.next_after(max(due_ms - 1, end - self.grace_ms))
        passed = (end - self.grace_ms - due_ms) // self.period_ms + 1
        return due_ms + max(0, passed) * self.period_ms

    def _begun(self, since_ms: int, deaf: Sequence[Span]) -> int:
        """From when on is counted: anew after a spell, as nobody knows yet when they come; but not for ever."""
        last_ms = self.next_after(self.next_after(since_ms) + self.grace_ms) + self.grace_ms
        for begin, end in deaf:
            if begin < min(self.next_after(since_ms) + self.grace_ms, last_ms) and end > since_ms:
                since_ms = end
        return since_ms


def schedule_of(options: HeartbeatOptions, interval_s: int) -> Schedule:
    """The schedule that a monitor's options mean."""
    period_s = options.period_seconds if options.period_seconds is not None else interval_s
    return Schedule(
        period_ms=period_s * 1000,
        grace_ms=options.grace_seconds * 1000,
        cron=options.cron,
        timezone=options.timezone,
        at_least=options.at_least,
        tolerant=options.tolerate_failures,
    )


@lru_cache(maxsize=10_000)
def next_cron(expression: str, timezone: str, after_ms: int) -> int:
    """The first moment after this one that a cron expression means there.

    In the hour that clocks repeat, an expression with a fixed hour means its first turn, as cron does; in the hour that
    they skip, the moment after it. Raises ValueError for what is no expression or never comes.
    """
    after = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(ZoneInfo(timezone))
    try:
        moments = CronSim(expression, after)
    except CronSimError as error:
        raise ValueError(str(error)) from None
    for moment in moments:
        found_ms = round(moment.timestamp() * 1000)
        # From the second turn of a repeated hour, its first turn lies behind us.
        if found_ms > after_ms:
            return found_ms
    raise ValueError("never comes")
