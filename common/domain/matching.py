"""Who hears of an event: one decision per (event, channel), with its reason.

Three kinds of announced events exist. *Announcing* ones (opened, escalated) go where the organization's routes lead
them, or else to its default channels; silences and cooldowns may hold them back. *Following* ones (acknowledged,
resolved) never consult a rule: they go exactly to the channels that an announcing event of the same incident reached,
may have reached or is still on its way to. So nobody hears of the end of what they never heard begin, and nobody who
heard of it waits for its end in vain. A *reminder* goes to those who heard by the route that asks for it, or, where no
route does (an acknowledgement expired), to all who heard, unless the incident is silenced.

An escalation announces too, so that people who were not concerned by a milder problem hear of the worse one; it also
goes to everybody who heard of the opening. It is a worsening, so no cooldown holds it back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from common.domain.errors import DomainError
from common.domain.incident import EventType
from common.domain.labels import Labels
from common.domain.routing import Route
from common.domain.rules import Rules


class LedgerStatus(StrEnum):
    """Where a ledger row stands; `pending` is the only one that somebody still works on."""

    PENDING = "pending"  # → sent | dead | suppressed
    SENT = "sent"
    DEAD = "dead"  # → pending, when somebody asks to have it sent again
    SUPPRESSED = "suppressed"  # → pending, when the silence or the cooldown that held it back ends


class Match(StrEnum):
    """Why a channel gets an event, or why not. The reasons of suppressed rows are shown by the API as they are."""

    #: A route leads there.
    ROUTED = "routed"
    #: No route leads anywhere, and this is a default channel.
    DEFAULT_CHANNEL = "default_channel"
    #: It heard of the incident before.
    ANNOUNCED_HERE = "announced_here"
    #: It never heard of the incident, so it is not told how it goes on.
    NOT_ANNOUNCED = "not_announced"
    #: It is disabled or deleted.
    CHANNEL_DISABLED = "channel_disabled"
    #: A silence holds; what is still wrong when it ends is announced then.
    SILENCED = "silenced"
    #: Its route announced the same problem a short time ago; what is still wrong when that cooldown ends is announced.
    COOLDOWN = "cooldown"
    #: A maintenance window covers the monitor or one above it; what is still wrong when it ends is announced then.
    MAINTENANCE = "maintenance"
    #: A monitor above it is down; what is still wrong when that has recovered, and was checked since, is announced.
    PARENT_DOWN = "parent_down"


#: {reason: status of the new ledger row}.
STATUS_OF: MappingProxyType[Match, LedgerStatus] = MappingProxyType(
    {
        Match.ROUTED: LedgerStatus.PENDING,
        Match.DEFAULT_CHANNEL: LedgerStatus.PENDING,
        Match.ANNOUNCED_HERE: LedgerStatus.PENDING,
        Match.NOT_ANNOUNCED: LedgerStatus.SUPPRESSED,
        Match.CHANNEL_DISABLED: LedgerStatus.SUPPRESSED,
        Match.SILENCED: LedgerStatus.SUPPRESSED,
        Match.COOLDOWN: LedgerStatus.SUPPRESSED,
        Match.MAINTENANCE: LedgerStatus.SUPPRESSED,
        Match.PARENT_DOWN: LedgerStatus.SUPPRESSED,
    },
)

ANNOUNCING: frozenset[EventType] = frozenset({EventType.OPENED, EventType.ESCALATED})
FOLLOWING: frozenset[EventType] = frozenset({EventType.ACKNOWLEDGED, EventType.RESOLVED})

#: Reasons for which a whole incident is held back, whatever route would lead it anywhere.
HOLDING: frozenset[Match] = frozenset({Match.SILENCED, Match.MAINTENANCE, Match.PARENT_DOWN})


@dataclass(frozen=True, slots=True)
class Hold:
    """What holds an incident back: one of HOLDING, and the id of the silence, the window or the parent's incident.

    `until` is when to look at it again; of a silence nobody has to, its end is settled as a whole. `lasting`: a parent
    is down, whose end is watched.
    """

    reason: Match
    by: str
    until: datetime | None = None
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """An event to be told. `route_id` is the route that asks for a reminder, None if it is none.

    For announcing events: `led` are the channels that routes lead it to ({}: unrouted), `cooling` the routes that
    announced the same problem a short time ago. `silence_id` is the silence that holds back its like, or whatever does
    for another `reason`.
    """

    type: EventType
    labels: Labels
    led: Mapping[str, Route] = field(default_factory=dict)
    cooling: Collection[str] = ()
    silence_id: str | None = None
    route_id: str | None = None
    reason: Match = Match.SILENCED


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the announcing events of an incident came to at one channel, and what leads later ones there."""

    heard: bool
    route_id: str | None = None
    group_key: str | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """A ledger row to write."""

    channel_id: str
    match: Match
    route_id: str | None = None
    group_key: str | None = None
    silence_id: str | None = None


def announced(status: LedgerStatus, *, unknown_outcome: bool) -> bool:
    """Whether an announcing notification counts as heard: sent, on its way, or given up on but perhaps arrived."""
    return unknown_outcome or status in (LedgerStatus.SENT, LedgerStatus.PENDING)


def recipients(told: Told, rules: Rules, known: Mapping[str, Announcement]) -> list[Recipient]:
    """The ledger rows of one event. `known` says what came of the incident's announcements so far, by channel."""
    if told.type in ANNOUNCING:
        return _announcing(told, rules, known)
    if told.type in FOLLOWING:
        return _following(rules, known)
    if told.type is EventType.REMINDER:
        return _reminding(told, rules, known)
    raise DomainError(f"An event of type {told.type} is not announced.")


def note(known: dict[str, Announcement], told: Told, written: Collection[Recipient]) -> None:
    """Keep in mind what an event's new rows announce; who has heard already goes on by what led there first."""
    if told.type not in ANNOUNCING:
        return
    for row in written:
        before = known.get(row.channel_id)
        if before is None or not before.heard:
            heard = announced(STATUS_OF[row.match], unknown_outcome=False)
            known[row.channel_id] = Announcement(heard, row.route_id, row.group_key)


def _announcing(told: Told, rules: Rules, known: Mapping[str, Announcement]) -> list[Recipient]:
    keys: dict[str, str | None] = {}
    found: list[Recipient] = []
    for channel_id in told.led or rules.defaults:
        before = known.get(channel_id)
        if before is not None and before.heard:
            continue
        route = told.led.get(channel_id)
        match = _match(told, rules, channel_id, route)
        silence_id = told.silence_id if match in HOLDING else None
        if route is None:
            found.append(Recipient(channel_id, match, silence_id=silence_id))
            continue
        if route.id not in keys:
            keys[route.id] = route.group_key(told.labels)
        found.append(Recipient(channel_id, match, route.id, keys[route.id], silence_id))
    found += [_again(told, rules, channel_id, before) for channel_id, before in known.items() if before.heard]
    return found


def _match(told: Told, rules: Rules, channel_id: str, route: Route | None) -> Match:
    if not rules.usable(channel_id):
        return Match.CHANNEL_DISABLED
    if told.silence_id is not None:
        return told.reason
    if route is None:
        return Match.DEFAULT_CHANNEL
    return Match.COOLDOWN if told.type is EventType.OPENED and route.id in told.cooling else Match.ROUTED


def _again(told: Told, rules: Rules, channel_id: str, before: Announcement) -> Recipient:
    """One more for a channel that has heard: it goes by what led there, so that all of an incident stays together."""
    match, silence_id = Match.ANNOUNCED_HERE, None
    if not rules.usable(channel_id):
        match = Match.CHANNEL_DISABLED
    elif told.silence_id is not None:
        match, silence_id = told.reason, told.silence_id
    return Recipient(channel_id, match, before.route_id, before.group_key, silence_id)


def _following(rules: Rules, known: Mapping[str, Announcement]) -> list[Recipient]:
    found = []
    for channel_id, before in known.items():
        match = Match.ANNOUNCED_HERE if before.heard else Match.NOT_ANNOUNCED
        if not rules.usable(channel_id):
            match = Match.CHANNEL_DISABLED
        found.append(Recipient(channel_id, match, before.route_id, before.group_key))
    if not any(before.route_id for before in known.values()):
        # It went to the default channels: one that came later has a row that says why it hears nothing.
        for channel_id in rules.defaults:
            if channel_id not in known:
                usable = rules.usable(channel_id)
                found.append(Recipient(channel_id, Match.NOT_ANNOUNCED if usable else Match.CHANNEL_DISABLED))
    return found


def _reminding(told: Told, rules: Rules, known: Mapping[str, Announcement]) -> list[Recipient]:
    return [
        _again(told, rules, channel_id, before)
        for channel_id, before in known.items()
        if before.heard and (told.route_id is None or before.route_id == told.route_id)
    ]
