"""From claimed notifications to the message that their channel sends: the same bytes at every attempt.

Everything comes from the events and the snapshots that were stored with them, nothing from how things are by now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

from common.channels.base import Event, Message, Unsendable
from common.domain.delivery import Poison
from common.store.notifications import Claimed

#: Version of the webhook body; readers accept their own and the one before.
BODY_VERSION = 1

_NEEDED = ("id", "title", "severity", "priority")


def build(claims: Sequence[Claimed]) -> Message:
    """The message of notifications that leave together, in their order; one of them alone is its own message.

    Raises Unsendable when an event has no usable snapshot.
    """
    first = claims[0]
    events = tuple(_event(claim) for claim in claims)
    body = _document(events[0]) if len(events) == 1 else _group(events)
    return Message(
        notification_id=first.message_id or first.id,
        org_id=first.org_id,
        at=max(event.at for event in events),
        correlation_id=first.correlation_id,
        body=_encode({**body, "v": BODY_VERSION}),
        events=events,
    )


def sort_out(claim: Claimed) -> tuple[Claimed | None, list[Claimed]]:
    """What of a message can be told (None: nothing), and what cannot: each alone, with all after it in its incident.

    One on its own is always told; its channel says what is wrong with it.
    """
    if not claim.others:
        return claim, []
    sound: list[Claimed] = []
    spoilt: list[Claimed] = []
    silent: set[str] = set()
    for one in claim.together:
        alone = replace(one, others=())
        if one.incident_id not in silent and _usable(one):
            sound.append(alone)
        else:
            silent.add(one.incident_id)
            spoilt.append(alone)
    return (replace(sound[0], others=tuple(sound[1:])) if sound else None), spoilt


def _usable(claim: Claimed) -> bool:
    try:
        _documents(claim.snapshot)
    except Unsendable:
        return False
    return True


def _event(claim: Claimed) -> Event:
    incident, monitor = _documents(claim.snapshot)
    return Event(claim.event_type, claim.event_at.astimezone(UTC), incident, monitor, tuple(claim.earlier or ()))


def _document(event: Event) -> dict[str, Any]:
    return {
        "type": f"incident.{event.event_type}",
        "timestamp": event.at.isoformat(),
        "data": {"incident": event.incident, "monitor": event.monitor},
    }


def _group(events: Sequence[Event]) -> dict[str, Any]:
    entries = [
        {
            "type": f"incident.{event.event_type}",
            "timestamp": event.at.isoformat(),
            "incident": event.incident,
            "monitor": event.monitor,
        }
        for event in events
    ]
    latest = max(event.at for event in events)
    return {"type": "incident.group", "timestamp": latest.isoformat(), "data": {"incidents": entries}}


def _encode(body: Mapping[str, Any]) -> bytes:
    # Snapshots are stored as text (json, not jsonb), so their members come in the same order every time. A lone
    # surrogate, which JSON can spell and UTF-8 cannot, must not stop an alert.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _documents(snapshot: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    incident = snapshot.get("incident") if isinstance(snapshot, Mapping) else None
    if snapshot is None or not isinstance(incident, Mapping) or any(key not in incident for key in _NEEDED):
        raise Unsendable(Poison.MESSAGE_INVALID, "the event has no usable snapshot of its incident")
    monitor = snapshot.get("monitor")
    if monitor is not None and not isinstance(monitor, Mapping):
        raise Unsendable(Poison.MESSAGE_INVALID, "the event has no usable snapshot of its monitor")
    return incident, monitor
