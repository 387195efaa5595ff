"""One organization's rules at one moment: its routes, its silences, and its channels as far as routing sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from common.domain.labels import LabelIndex, Labels, Matcher
from common.domain.routing import Route, RouteBook


@dataclass(frozen=True, slots=True)
class Silence:
    """Holds back what matches, from `starts_at` until just before `ends_at`."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Channels:
    """`enabled` by channel, without deleted ones; `defaults` hear what no route leads anywhere."""

    enabled: Mapping[str, bool]
    defaults: tuple[str, ...]


class Rules:
    """Never changed, only replaced."""

    def __init__(self, routes: Sequence[Route], silences: Iterable[Silence], channels: Channels) -> None:
        self.book = RouteBook(routes)
        self.defaults = channels.defaults
        self._enabled = channels.enabled
        self._routes = {route.id: route for route in routes}
        # Of several the one that ends last: what it holds back need not be handed on so soon.
        by_end = sorted(silences, key=lambda silence: (silence.ends_at, silence.id), reverse=True)
        self._silences = LabelIndex((silence, silence.matchers) for silence in by_end)

    def __len__(self) -> int:
        """Routes and silences: what there is to keep. A channel is little beside them."""
        return len(self._routes) + len(self._silences)

    def lead(self, labels: Labels) -> dict[str, Route]:
        """The channels that routes lead an event with these labels to, each by the first route that names it.

        {} when it is unrouted: no route takes it, or none of its channels is left.
        """
        led: dict[str, Route] = {}
        for route in self.book.take(labels):
            for channel_id in route.channel_ids:
                if channel_id in self._enabled:
                    led.setdefault(channel_id, route)
        return led

    def silence(self, labels: Labels, now: datetime) -> str | None:
        """The silence that holds back what has these labels now, if there is one."""
        if not len(self._silences):
            return None
        found = (s for s in self._silences.find(labels) if s.starts_at <= now < s.ends_at)
        return next((silence.id for silence in found), None)

    def route(self, route_id: str | None) -> Route | None:
        """A route that is still there and enabled."""
        return None if route_id is None else self._routes.get(route_id)

    def usable(self, channel_id: str) -> bool:
        """Whether a channel is there and enabled."""
        return self._enabled.get(channel_id, False)
