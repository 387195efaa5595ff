"""The timing wheel: which (monitor, location) is due, in memory, without a query.

Every entry stands in exactly one bucket, the tick in which its next slot is due. Turning the wheel takes the due
buckets out, answers each entry's newest slot, counts the slots that were passed over, and files the entry again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from common.domain.slots import latest_slot, next_slot, phase_ms, slots_between
from common.store.schedule import Timing

#: Width of a bucket in milliseconds: the finest lag that dispatching adds.
TICK_MS = 50

#: How recent `check_from` has to be for a check at once, when it was not seen to change (milliseconds).
_RECENT_MS = 10_000

Key = tuple[int, int]
"""(monitor_no, location)"""


@dataclass(slots=True)
class Entry:
    """One monitor at one location. Times are Unix milliseconds."""

    config_version: int
    interval_ms: int
    phase: int
    check_from_ms: int
    slow: bool
    next_ms: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """A slot to dispatch now."""

    monitor_no: int
    location: int
    config_version: int
    slot_ms: int
    slow: bool


@dataclass(slots=True)
class Turn:
    """What turning the wheel found."""

    due: list[Due] = field(default_factory=list)
    passed_over: int = 0


class Wheel:
    """All entries and their buckets. Not thread-safe: one thread turns it and applies changes."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._locations: dict[int, tuple[int, ...]] = {}
        self._shared: dict[tuple[int, ...], tuple[int, ...]] = {}  # one copy of equal locations
        self._intervals: dict[int, int] = {}
        self._buckets: dict[int, list[Key]] = {}
        self._at_once: list[Due] = []
        self._turned_to_ms: int | None = None

    def __len__(self) -> int:
        """Entries, one per monitor and location."""
        return len(self._entries)

    @property
    def running(self) -> bool:
        """Whether the wheel turns (we lead) or only keeps its entries (we stand by)."""
        return self._turned_to_ms is not None

    @property
    def turned_to_ms(self) -> int:
        """Every slot up to here was answered; 0 while it does not turn."""
        return self._turned_to_ms or 0

    def start(self, since_ms: int, *, first_ever: bool = False) -> None:
        """Begin to turn: slots after `since_ms` are still to be dispatched.

        The very first leader has no predecessor who saw to monitors made shortly before: those are due at once.
        """
        made_after_ms = since_ms - _RECENT_MS if first_ever else since_ms
        self._turned_to_ms = since_ms
        self._buckets.clear()
        self._at_once = [
            self._due(key, entry, entry.check_from_ms)
            for key, entry in self._entries.items()
            if entry.check_from_ms > made_after_ms
        ]
        for key, entry in self._entries.items():
            self._file(key, entry, since_ms)

    def stop(self) -> None:
        """Only keep entries from now on."""
        self._turned_to_ms = None
        self._buckets.clear()
        self._at_once.clear()

    def apply(self, timing: Timing, now_ms: int) -> None:
        """Take over a monitor's new timing; a new monitor, a resumed one and a new interval are due at once."""
        wanted = timing.locations if timing.active else ()
        for location in self._locations.get(timing.monitor_no, ()):
            if location not in wanted:
                del self._entries[timing.monitor_no, location]
        if wanted:
            self._locations[timing.monitor_no] = self._shared.setdefault(wanted, wanted)
        else:
            self._locations.pop(timing.monitor_no, None)
        for index, location in enumerate(wanted):
            self._apply_one((timing.monitor_no, location), timing, index, now_ms)

    def set_lane(self, key: Key, *, slow: bool) -> None:
        """Note in which lane an entry starts; unknown entries are ignored."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.slow = slow

    def turn(self, now_ms: int) -> Turn:
        """Everything that became due up to the last whole tick, each entry's newest slot only."""
        now_ms -= now_ms % TICK_MS
        turn = Turn(due=self._at_once)
        self._at_once = []
        before_ms = self._turned_to_ms
        if before_ms is None or now_ms <= before_ms:
            return turn
        for key, entry in self._take(before_ms, now_ms):
            slot_ms = latest_slot(now_ms, entry.interval_ms, entry.phase)
            turn.passed_over += slots_between(entry.next_ms, slot_ms, entry.interval_ms, entry.phase)
            turn.due.append(self._due(key, entry, slot_ms))
            self._file(key, entry, now_ms)
        self._turned_to_ms = now_ms
        return turn

    def _apply_one(self, key: Key, timing: Timing, index: int, now_ms: int) -> None:
        interval_ms = self._intervals.setdefault(timing.interval_s, timing.interval_s * 1000)
        phase = phase_ms(timing.monitor_id, interval_ms, index, len(timing.locations))
        old = self._entries.get(key)
        entry = Entry(timing.config_version, interval_ms, phase, timing.check_from_ms, slow=key[1] in timing.slow)
        self._entries[key] = entry
        if self._turned_to_ms is None:
            return
        fresh = old is None and timing.check_from_ms > now_ms - _RECENT_MS
        if fresh or (old is not None and old.check_from_ms != timing.check_from_ms):
            self._at_once.append(self._due(key, entry, timing.check_from_ms))
        if old is not None and (old.interval_ms, old.phase) == (interval_ms, phase):
            entry.next_ms = old.next_ms  # its place in the buckets is still right
        else:
            self._file(key, entry, max(now_ms, self._turned_to_ms))

    def _file(self, key: Key, entry: Entry, after_ms: int) -> None:
        entry.next_ms = next_slot(after_ms, entry.interval_ms, entry.phase)
        self._buckets.setdefault(_tick(entry.next_ms), []).append(key)

    def _take(self, after_ms: int, until_ms: int) -> Iterator[tuple[Key, Entry]]:
        # After a long stop there are more ticks than buckets; look at whichever is less.
        ticks = range(_tick(after_ms), until_ms // TICK_MS + 1)
        if len(ticks) > len(self._buckets):
            due_ticks = sorted(tick for tick in self._buckets if tick in ticks)
        else:
            due_ticks = [tick for tick in ticks if tick in self._buckets]
        for tick in due_ticks:
            for key in self._buckets.pop(tick):
                entry = self._entries.get(key)
                # A removed entry, or one whose timing changed and that stands in another bucket now.
                if entry is not None and _tick(entry.next_ms) == tick:
                    yield key, entry

    @staticmethod
    def _due(key: Key, entry: Entry, slot_ms: int) -> Due:
        return Due(key[0], key[1], entry.config_version, slot_ms, entry.slow)


def _tick(due_ms: int) -> int:
    """The first tick at which a slot is due."""
    return -(-due_ms // TICK_MS)
