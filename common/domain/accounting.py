"""How every millisecond of a monitor's life is accounted for: in exactly one of six categories.

A moment counts, and the first that holds wins: before the monitor was made or after it was deleted, not at all;
while it was paused, `paused`; within a maintenance window, `maintenance`; while nobody saw the target, `unknown`;
otherwise by the monitor's health, which changes only at its transitions: `up`, `degraded` or `down`, and `unknown`
while it is pending.

Somebody saw the target from a slot whose scheduled result is not unknown until that slot's interval is over, or until
the monitor was paused or got another interval: both have it checked at once when it goes on. A slot that was skipped,
lost or blind therefore makes its own interval unknown, unless another location saw. Times are Unix milliseconds, spans
hold their beginning and not their end. docs/reports.md says the same to users.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from operator import attrgetter

from common.domain.health import Health
from common.domain.slots import phase_ms, slots_between

Span = tuple[int, int]
"""[begin, end) in Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a monitor is watched from `at_ms` on. `gone`: it was deleted."""

    at_ms: int
    enabled: bool
    interval_ms: int
    places: int = 1
    gone: bool = False

    @property
    def active(self) -> bool:
        """Whether checks are due."""
        return self.enabled and not self.gone

    def goes_on(self, other: Watch) -> bool:
        """Whether slots go on as they were: the later of the two changed neither the interval nor whether to check."""
        return (self.active, self.interval_ms) == (other.active, other.interval_ms)


@dataclass(frozen=True, slots=True)
class HealthSince:
    """A monitor's health from `at_ms` on."""

    at_ms: int
    health: Health


@dataclass(frozen=True, slots=True)
class History:
    """What a monitor was, each list in order of time. Before its first watch there is no monitor."""

    watches: Sequence[Watch]
    healths: Sequence[HealthSince] = ()
    maintenance: Sequence[Span] = ()

    def life(self) -> Span | None:
        """From its creation to its deletion, as far as is known; None when it never was."""
        if not self.watches or self.watches[0].gone:
            return None
        gone = next((watch.at_ms for watch in self.watches if watch.gone), _FOREVER)
        return self.watches[0].at_ms, gone


_FOREVER = 2**62


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds in each category. They add up to the window, as far as the monitor lived in it."""

    up: int = 0
    degraded: int = 0
    down: int = 0
    unknown: int = 0
    paused: int = 0
    maintenance: int = 0

    def __add__(self, other: Times) -> Times:
        return Times(*(mine + theirs for mine, theirs in zip(self.parts(), other.parts(), strict=True)))

    def parts(self) -> tuple[int, ...]:
        """All six, in the order of the fields."""
        return _PARTS(self)

    @property
    def total(self) -> int:
        """The whole window."""
        return sum(self.parts())

    @property
    def judged(self) -> int:
        """What uptime is a share of."""
        return self.up + self.degraded + self.down

    @property
    def uptime(self) -> float | None:
        """(up + degraded) ÷ (up + degraded + down), None while nothing was judged."""
        return (self.up + self.degraded) / self.judged if self.judged else None

    @property
    def coverage(self) -> float | None:
        """What was judged ÷ what was to be (the unknown as well), None while nothing was: how much uptime speaks of."""
        return self.judged / (self.judged + self.unknown) if self.judged or self.unknown else None


CATEGORIES = tuple(field.name for field in fields(Times))
_PARTS: Callable[[Times], tuple[int, ...]] = attrgetter(*CATEGORIES)
_OF_HEALTH = {Health.UP: "up", Health.DEGRADED: "degraded", Health.DOWN: "down"}


def account(history: History, seen: Sequence[int], window: Span) -> Times:
    """Every millisecond of the window in its category. `seen`: slots with a scheduled result that is not unknown.

    `seen` has to reach back to one interval before the window.
    """
    life = history.life()
    if life is None:
        return Times()
    begin, end = max(window[0], life[0]), min(window[1], life[1])
    if begin >= end:
        return Times()
    known = known_spans(history.watches, seen)
    sums = dict.fromkeys(CATEGORIES, 0)
    for since, until in pairwise(_cuts(history, known, begin, end)):
        sums[_category(history, known, since)] += until - since
    return Times(**sums)


def known_spans(watches: Sequence[Watch], seen: Sequence[int]) -> list[Span]:
    """The spans in which somebody saw the target, in order and apart from each other."""
    starts = [watch.at_ms for watch in watches]
    spans: list[Span] = []
    for slot in sorted(seen):
        place = bisect_right(starts, slot) - 1
        if place < 0 or not watches[place].active:
            continue
        until = min(slot + watches[place].interval_ms, _next_break(watches, place))
        if spans and slot <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], until))
        else:
            spans.append((slot, until))
    return spans


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same time as spans in order and apart from each other."""
    apart: list[Span] = []
    for begin, end in sorted(spans):
        if apart and begin <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end))
        elif begin < end:
            apart.append((begin, end))
    return apart


def due(history: History, monitor_id: str, window: Span) -> int:
    """How many slots were due in the window: those of its schedule, and the one at once when checking (re)starts."""
    count = 0
    for place, watch in enumerate(history.watches):
        following = history.watches[place + 1].at_ms if place + 1 < len(history.watches) else _FOREVER
        begin, end = max(window[0], watch.at_ms), min(window[1], following)
        if not watch.active or begin >= end:
            continue
        before = history.watches[place - 1] if place else None
        if begin == watch.at_ms and (before is None or not watch.goes_on(before)):
            count += watch.places
            begin += 1  # a slot of the schedule at this very moment is the same one
        for location in range(watch.places):
            phase = phase_ms(monitor_id, watch.interval_ms, location, watch.places)
            count += slots_between(begin - 1, end - 1, watch.interval_ms, phase)
    return count


def _next_break(watches: Sequence[Watch], place: int) -> int:
    """When the slots of this watch stop meaning something."""
    for later in watches[place + 1 :]:
        if not later.goes_on(watches[place]):
            return later.at_ms
    return _FOREVER


def _cuts(history: History, known: Sequence[Span], begin: int, end: int) -> list[int]:
    """Every moment of the window at which its category may change, with both ends."""
    moments = {begin, end}
    moments.update(watch.at_ms for watch in history.watches)
    moments.update(since.at_ms for since in history.healths)
    moments.update(moment for span in (*known, *history.maintenance) for moment in span)
    return sorted(moment for moment in moments if begin <= moment <= end)


def _category(history: History, known: Sequence[Span], at_ms: int) -> str:
    place = bisect_right(history.watches, at_ms, key=lambda watch: watch.at_ms) - 1
    if not history.watches[place].enabled:
        return "paused"
    if _within(history.maintenance, at_ms):
        return "maintenance"
    if not _within(known, at_ms):
        return "unknown"
    since = bisect_right(history.healths, at_ms, key=lambda change: change.at_ms) - 1
    return _OF_HEALTH.get(history.healths[since].health, "unknown") if since >= 0 else "unknown"


def _within(spans: Sequence[Span], at_ms: int) -> bool:
    """Whether one of the spans holds the moment; they are in order and apart."""
    place = bisect_right(spans, at_ms, key=lambda span: span[0]) - 1
    return place >= 0 and at_ms < spans[place][1]
