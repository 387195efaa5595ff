"""Who hears of an event: one decision per (event, channel), with its reason.

Two kinds of announced events exist. *Announcing* ones (opened, escalated) go where the rules lead them; today these are
the organization's default channels, routes will be another source of the same candidates. *Following* ones
(acknowledged, resolved) never consult a rule: they go exactly to the channels that an announcing event of the same
incident reached, may have reached or is still on its way to. So nobody hears of the end of what they never heard begin,
and nobody who heard of it waits for its end in vain.

An escalation announces too, so that people who were not concerned by a milder problem hear of the worse one; it also
goes to everybody who heard of the opening.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from common.domain.errors import DomainError
from common.domain.incident import EventType


class LedgerStatus(StrEnum):
    """Where a ledger row stands; `pending` is the only one that somebody still works on."""

    PENDING = "pending"  # → sent | dead | suppressed
    SENT = "sent"
    DEAD = "dead"  # → pending, when somebody asks to have it sent again
    SUPPRESSED = "suppressed"


class Match(StrEnum):
    """Why a channel gets an event, or why not."""

    DEFAULT_CHANNEL = "default_channel"
    ANNOUNCED_HERE = "announced_here"
    NOT_ANNOUNCED = "not_announced"
    CHANNEL_DISABLED = "channel_disabled"


#: {reason: status of the new ledger row}.
STATUS_OF: MappingProxyType[Match, LedgerStatus] = MappingProxyType(
    {
        Match.DEFAULT_CHANNEL: LedgerStatus.PENDING,
        Match.ANNOUNCED_HERE: LedgerStatus.PENDING,
        Match.NOT_ANNOUNCED: LedgerStatus.SUPPRESSED,
        Match.CHANNEL_DISABLED: LedgerStatus.SUPPRESSED,
    },
)

ANNOUNCING: frozenset[EventType] = frozenset({EventType.OPENED, EventType.ESCALATED})
FOLLOWING: frozenset[EventType] = frozenset({EventType.ACKNOWLEDGED, EventType.RESOLVED})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A channel that may be concerned: a default one, or one that heard of the incident before.

    `usable` is false when it is disabled or deleted.
    """

    channel_id: str
    usable: bool
    is_default: bool


@dataclass(frozen=True, slots=True)
class Recipient:
    """A ledger row to write."""

    channel_id: str
    match: Match


def announced(status: LedgerStatus, *, unknown_outcome: bool) -> bool:
    """Whether an announcing notification counts as heard: sent, on its way, or given up on but perhaps arrived."""
    return unknown_outcome or status in (LedgerStatus.SENT, LedgerStatus.PENDING)


def recipients(event: EventType, candidates: Iterable[Candidate], heard: Collection[str]) -> list[Recipient]:
    """The ledger rows of one event. `heard` holds the channels for which `announced` is true."""
    if event not in ANNOUNCING | FOLLOWING:
        raise DomainError(f"An event of type {event} is not announced.")
    return [
        Recipient(candidate.channel_id, _match(event, candidate, heard=candidate.channel_id in heard))
        for candidate in candidates
        if candidate.is_default or candidate.channel_id in heard
    ]


def _match(event: EventType, candidate: Candidate, *, heard: bool) -> Match:
    if not candidate.usable:
        return Match.CHANNEL_DISABLED
    if heard:
        return Match.ANNOUNCED_HERE
    return Match.DEFAULT_CHANNEL if event in ANNOUNCING else Match.NOT_ANNOUNCED
