"""Which notifications of a channel leave together as one message, and how many messages its cap lets go.

Together leave: what a route groups (same group_key), and what a cap held back. A message that has been tried stays as
it is, whatever becomes due beside it: same notifications, same id, same bytes. Within an incident the order holds, so a
notification leaves only when all pending ones before it have left or are in the same message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

#: Notifications in one message.
MOST = 100


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pending notification that is due. `no` is the order of delivery.

    `tried_in` is the message that it was tried in (its own id when it was alone), None while it never was. `older`
    counts the pending ones of its incident at this channel that come before it.
    """

    id: str
    no: int
    incident_id: str
    group_key: str | None
    tried_in: str | None
    due_at: datetime
    older: int


Bundle = tuple[Waiting, ...]
"""What leaves as one message, in order."""


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `count` new messages in each window; `used` of them left since `started_at`."""

    count: int
    window: timedelta
    started_at: datetime | None = None
    used: int = 0

    def allows(self, fresh: Sequence[Waiting], now: datetime) -> int:
        """How many messages may be made of these now. What the cap held back leaves as one."""
        if self.started_at is None:
            return self.count
        ends_at = self.started_at + self.window
        if now < ends_at:
            return max(0, self.count - self.used)
        held_back = self.used >= self.count and any(waiting.due_at < ends_at for waiting in fresh)
        return 1 if held_back else self.count

    def after(self, messages: int, now: datetime) -> Cap:
        """The cap once so many new messages have left."""
        if self.started_at is None or now >= self.started_at + self.window:
            return replace(self, started_at=now, used=messages)
        return replace(self, used=self.used + messages)


def retried(rows: Sequence[Waiting]) -> list[Bundle]:
    """The messages that these tried notifications are of, the oldest first; without those that have to wait."""
    messages: dict[str, list[Waiting]] = {}
    for row in sorted(rows, key=_order):
        if row.tried_in is not None:
            messages.setdefault(row.tried_in, []).append(row)
    # All or nothing: a message without one of its notifications would be another message.
    return [tuple(message) for message in messages.values() if len(_without_gaps(message)) == len(message)]


def fresh(rows: Sequence[Waiting], limit: int | None) -> list[Bundle]:
    """At most `limit` new messages (None: any number) of what was never tried, the oldest first.

    When there would be more, the last one takes along all that is left, whatever its group.
    """
    ready = _without_gaps(sorted((row for row in rows if row.tried_in is None), key=_order))
    bundles: list[list[Waiting]] = []
    growing: dict[str, list[Waiting]] = {}
    for row in ready:
        key = f"group {row.group_key}" if row.group_key is not None else row.id
        bundle = growing.get(key)
        if bundle is None or len(bundle) == MOST:
            growing[key] = bundle = []
            bundles.append(bundle)
        bundle.append(row)
    if limit is not None and len(bundles) > limit:
        rest = sorted((row for bundle in bundles[max(0, limit - 1) :] for row in bundle), key=_order)
        bundles = [*bundles[: max(0, limit - 1)], rest[:MOST]] if limit > 0 else []
    trimmed = (tuple(_without_gaps(bundle)) for bundle in bundles)
    return [bundle for bundle in trimmed if bundle]


def _without_gaps(rows: Sequence[Waiting]) -> list[Waiting]:
    """These rows, in order, as far as all before them in their incident are here too."""
    here: Counter[str] = Counter()
    kept = []
    for row in rows:
        if here[row.incident_id] == row.older:
            here[row.incident_id] += 1
            kept.append(row)
    return kept


def _order(row: Waiting) -> int:
    return row.no
