"""Judge once more what is about to leave: what began after it was written holds it back, a silence, a window, a parent.

Announcements and reminders only; how an incident went on is told wherever it was announced. A message of several that
was tried before stays as it is unless all of it is silenced: another message under the same id would be a lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from common import log, telemetry
from common.domain.incident import EventType, monitor_key
from common.domain.matching import ANNOUNCING, Hold, Match
from common.store import following, holds, silenced
from common.store.engine import Connection
from common.store.notifications import Claimed
from common.store.route_books import RouteBooks

_SILENCEABLE = {event.value for event in ANNOUNCING | {EventType.REMINDER}}

#: What a window or a parent holds back here, without the organization's row, is decided on once more with it so soon:
#: one that ended at this very moment has not seen it.
_SURE_AFTER = timedelta(seconds=2)


def hold_back(connection: Connection, messages: Sequence[Claimed], books: RouteBooks, now: datetime) -> list[Claimed]:
    """What of these claimed messages leaves, in the transaction that has claimed them."""
    found = _holding(connection, messages, books, now)
    if not found:
        return list(messages)
    judged = [message for message in messages if not _stays_whole(message, found, now)]
    hit = {claim.id: claim for message in judged for claim in message.together if claim.id in found}
    silences = {found[id_].by for id_ in hit if found[id_].reason is Match.SILENCED}
    off = silences - silenced.hold(connection, silences, now)
    # Somebody is changing the silence: what it says then is seen in a moment.
    unsure = [message for message in judged if any(id_ in hit and found[id_].by in off for id_ in _ids(message))]
    gone = {id_ for message in unsure for id_ in _ids(message)}
    silenced.put_back(connection, gone, now)
    held = [claim for id_, claim in hit.items() if id_ not in gone]
    gone |= _suppress(connection, held, found, now)
    gone |= _begin_anew(connection, [message for message in judged if message.first_attempt_at < now], gone, now)
    left = [_without(message, gone) for message in messages]
    _uncount(connection, [message for message, rest in zip(messages, left, strict=True) if rest is None], now)
    _report(held)
    return [message for message in left if message is not None]


def _holding(
    connection: Connection, messages: Sequence[Claimed], books: RouteBooks, now: datetime
) -> Mapping[str, Hold]:
    """{notification: what holds it back}, a silence before all else."""
    claims = [claim for message in messages for claim in message.together if claim.event_type in _SILENCEABLE]
    if not claims:
        return {}
    monitors = {claim.id: monitor_id for claim in claims if (monitor_id := _monitor(claim)) is not None}
    covered = holds.of(connection, set(monitors.values()), now)
    held = {id_: covered[monitor_id] for id_, monitor_id in monitors.items() if monitor_id in covered}
    return {**held, **_silenced(connection, claims, books, now)}


def _monitor(claim: Claimed) -> str | None:
    """The monitor whose own incident it tells of."""
    incident = (claim.snapshot or {}).get("incident") or {}
    monitor_id: str | None = incident.get("monitor_id")
    return monitor_id if monitor_id is not None and incident.get("dedup_key") == monitor_key(monitor_id) else None


def _silenced(
    connection: Connection, claims: Sequence[Claimed], books: RouteBooks, now: datetime
) -> Mapping[str, Hold]:
    versions = silenced.silencing(connection, {claim.org_id for claim in claims}, now)
    claims = [claim for claim in claims if claim.org_id in versions]
    if not claims:
        return {}
    rules = books.of(connection, versions)
    labels = silenced.labels(connection, claims)
    judged = {claim.id: rules[claim.org_id].silence(labels[claim.id], now) for claim in claims}
    return {id_: Hold(Match.SILENCED, silence) for id_, silence in judged.items() if silence is not None}


def _stays_whole(message: Claimed, found: Mapping[str, Hold], now: datetime) -> bool:
    """Whether it was tried before and tells of an incident that is not held back."""
    silent = {claim.incident_id for claim in message.together if claim.id in found}
    return message.first_attempt_at < now and any(claim.incident_id not in silent for claim in message.together)


def _suppress(connection: Connection, claims: Sequence[Claimed], found: Mapping[str, Hold], now: datetime) -> set[str]:
    """What does not leave: these, and what would have followed them where nobody has heard."""
    if not claims:
        return set()
    held = {claim.id: found[claim.id] for claim in claims}
    silenced.suppress(connection, held, {claim.id: now + _SURE_AFTER for claim in claims if _looked_at(claim, found)})
    begun = [claim for claim in claims if claim.event_type == EventType.OPENED and _looked_at(claim, found)]
    holds.note(connection, {claim.incident_id: found[claim.id] for claim in begun}, now)
    followed = following.give_up(connection, [claim for claim in claims if claim.event_type in ANNOUNCING])
    silenced.release(connection, followed)
    return set(held) | followed


def _looked_at(claim: Claimed, found: Mapping[str, Hold]) -> bool:
    """Whether it is to be looked at again: a beginning that a window or a parent holds back."""
    return found[claim.id].until is not None and claim.event_type != EventType.REMINDER


def _begin_anew(connection: Connection, tried: Sequence[Claimed], gone: set[str], now: datetime) -> set[str]:
    """What is left of messages that were tried leaves under an id of its own, in a moment."""
    rest = {id_ for message in tried if not gone.isdisjoint(_ids(message)) for id_ in _ids(message) - gone}
    silenced.put_back(connection, rest, now, anew=True)
    return rest


def _without(message: Claimed, gone: set[str]) -> Claimed | None:
    """The message without these; the first that is left leads."""
    left = [replace(claim, others=()) for claim in message.together if claim.id not in gone]
    return replace(left[0], others=tuple(left[1:])) if left else None


def _uncount(connection: Connection, gone: Sequence[Claimed], now: datetime) -> None:
    fresh: dict[str, int] = {}
    for message in gone:
        fresh[message.channel_id] = fresh.get(message.channel_id, 0) + (message.first_attempt_at >= now)
    silenced.uncount(connection, fresh, now)


def _ids(message: Claimed) -> set[str]:
    return {claim.id for claim in message.together}


def _report(claims: Sequence[Claimed]) -> None:
    for claim in claims:
        telemetry.NOTIFICATIONS.labels(claim.channel_type, "suppressed").inc()
    if claims:
        log.get_logger().info("notifications_silenced", count=len(claims))
