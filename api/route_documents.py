"""Routes between their rows, what clients see and what the domain decides by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from api.schemas_routes import HeldBack, RouteIn
from common.domain.incident import EventType
from common.domain.labels import Labels, matches
from common.domain.matching import STATUS_OF, Hold, LedgerStatus, Match, Told, recipients
from common.domain.routing import Course, Grouping, Route, Step, conditions
from common.domain.rules import Channels, Rules
from common.store.routes import RouteConfig


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A route as clients read it."""
    return {
        "id": row["id"],
        **settings_document(row),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def settings_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """The part that clients may send back: what a merge patch is applied to."""
    return {
        "name": row["name"],
        "position": row["position"],
        "match": row["match"],
        "matchers": row["matchers"],
        "channel_ids": row["channel_ids"],
        "cooldown_seconds": row["cooldown_s"],
        "continue": row["continues"],
        "group_by": row["group_by"],
        "group_wait_seconds": row["group_wait_s"],
        "group_interval_seconds": row["group_interval_s"],
        "repeat_interval_seconds": row["repeat_interval_s"],
        "enabled": row["enabled"],
    }


def to_config(body: RouteIn) -> RouteConfig:
    """A checked route as it is stored; `match` as it was sent."""
    return RouteConfig(
        name=body.name,
        match=body.match.model_dump(exclude_unset=True),
        matchers=[matcher.model_dump() for matcher in body.matchers],
        channel_ids=body.channel_ids,
        cooldown_s=body.cooldown_seconds,
        group_by=body.group_by,
        group_wait_s=body.group_wait_seconds,
        group_interval_s=body.group_interval_seconds,
        repeat_interval_s=body.repeat_interval_seconds,
        continues=body.continues,
        enabled=body.enabled,
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else decides who is told.

    `channels`, by id, holds every channel of a route, deleted ones too, and the default ones. `cooldowns` says until
    when routes stay silent about this problem. `held_back` is a window or a parent, with what timelines say of it.
    """

    channels: Mapping[str, Mapping[str, Any]]
    cooldowns: Mapping[str, datetime]
    silenced_by: Sequence[str]
    held_back: tuple[Hold, Mapping[str, Any]] | None

    def of(self, route: Route) -> list[Mapping[str, Any]]:
        """The route's channels, in its order."""
        return [self.channels[id_] for id_ in route.channel_ids if id_ in self.channels]

    def hold(self) -> Hold | None:
        """What decides: a silence before all else."""
        if self.silenced_by:
            return Hold(Match.SILENCED, self.silenced_by[0])
        return None if self.held_back is None else self.held_back[0]

    def seen_by_routing(self) -> Channels:
        """The channels that are still there."""
        present = {id_: channel for id_, channel in self.channels.items() if not channel["deleted"]}
        defaults = tuple(id_ for id_, channel in present.items() if channel["is_default"])
        return Channels({id_: channel["enabled"] for id_, channel in present.items()}, defaults)


def explanation(rows: Sequence[Mapping[str, Any]], labels: Labels, around: Surroundings) -> dict[str, Any]:
    """What would become of an opening with these labels; `rows` are all routes in order, disabled ones too.

    It is decided by what decides it in earnest: the relay's own rules.
    """
    rules = Rules([_in_domain(row) for row in rows if row["enabled"]], (), around.seen_by_routing())
    steps = {step.route.id: step for step in rules.book.explain(labels)}
    led = rules.lead(labels)
    opening, hold = Told(EventType.OPENED, labels, led, around.cooldowns.keys()), around.hold()
    if hold is not None:
        opening = replace(opening, silence_id=hold.by, reason=hold.reason)
    return {
        "routes": [_step(row, steps.get(row["id"]), labels, around) for row in rows],
        "unrouted": not led,
        "default": not led and bool(rules.defaults),
        "channels": [
            _channel(around.channels[recipient.channel_id]) | {"route_id": recipient.route_id}
            for recipient in recipients(opening, rules, {})
            if STATUS_OF[recipient.match] is LedgerStatus.PENDING
        ],
        "silenced_by": list(around.silenced_by),
        "held_back": None if around.held_back is None else _held_back(*around.held_back),
    }


def _held_back(hold: Hold, said: Mapping[str, Any]) -> dict[str, Any]:
    """A window or a parent; when a parent recovers, nobody knows."""
    until = hold.until if hold.reason is Match.MAINTENANCE else None
    return {**dict.fromkeys(HeldBack.model_fields), **said, "until": until}


def _step(row: Mapping[str, Any], step: Step | None, labels: Labels, around: Surroundings) -> dict[str, Any]:
    """A route's part; no step: it is disabled, and only what would not match is told of it."""
    route = _in_domain(row) if step is None else step.route
    taken = step is not None and step.course is Course.TAKEN
    failing = [matcher for matcher in route.matchers if not matches(matcher, labels)] if step is None else step.failing
    return {
        "id": route.id,
        "name": route.name,
        "position": row["position"],
        "outcome": "disabled" if step is None else step.course.value,
        "failing": [matcher.describe() for matcher in failing],
        "channels": [_channel(channel) for channel in around.of(route)],
        "group_key": route.group_key(labels) if taken else None,
        "cooldown_until": around.cooldowns.get(route.id) if taken else None,
    }


def _channel(channel: Mapping[str, Any]) -> dict[str, Any]:
    return {name: channel[name] for name in ("id", "name", "type", "enabled")}


def _in_domain(row: Mapping[str, Any]) -> Route:
    """A stored route as it decides."""
    wait, interval = timedelta(seconds=row["group_wait_s"]), timedelta(seconds=row["group_interval_s"])
    repeat_s = row["repeat_interval_s"]
    return Route(
        id=row["id"],
        name=row["name"],
        matchers=conditions(row["match"], row["matchers"]),
        channel_ids=tuple(row["channel_ids"]),
        continues=row["continues"],
        cooldown=timedelta(seconds=row["cooldown_s"]),
        grouping=None if row["group_by"] is None else Grouping(tuple(row["group_by"]), wait, interval),
        repeat=None if repeat_s is None else timedelta(seconds=repeat_s),
    )
