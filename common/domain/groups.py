"""When a notification of a group leaves: with what waits already, and not too soon after the group's last message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from common.domain.routing import Grouping, Route


@dataclass(frozen=True, slots=True)
class GroupState:
    """How a group stands at one channel.

    `waits_until`: when the newest that was never tried leaves. `under_way`: something pending is being tried, will be
    again, or is about to be taken. `told_at`: when its last message arrived.
    """

    waits_until: datetime | None = None
    under_way: bool = False
    told_at: datetime | None = None

    def due(self, grouping: Grouping | None, now: datetime) -> datetime:
        """When one more leaves. Without `grouping` (its route is gone) nothing but what waits already holds it up."""
        if self.waits_until is not None and self.waits_until >= now:
            return self.waits_until
        if grouping is None:
            return now
        # What is under way may arrive this very moment; what was due before `now` is as good as under way.
        last = now if self.under_way or self.waits_until is not None else self.told_at
        first = now + grouping.wait
        return first if last is None else max(first, last + grouping.interval)


def grouping_of(route: Route | None, group_key: str | None) -> Grouping | None:
    """The grouping that a notification with this key is under: its route's, if the route made the key."""
    if route is None or group_key is None or not group_key.startswith(f"{route.id}:"):
        return None
    return route.grouping
