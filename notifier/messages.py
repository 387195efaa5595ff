"""From a claimed notification to the message that its channel sends: the same bytes at every attempt.

Everything comes from the event and the snapshot that was stored with it, nothing from how things are by now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from common.domain.delivery import Poison
from common.store.notifications import Claimed
from notifier.channels.base import Message, Unsendable

#: Version of the webhook body; readers accept their own and the one before.
BODY_VERSION = 1

_NEEDED = ("id", "title", "severity", "priority")


def build(claim: Claimed) -> Message:
    """The message of a notification. Raises Unsendable when the event has no usable snapshot."""
    incident, monitor = _documents(claim.snapshot)
    timestamp = claim.event_at.astimezone(UTC)
    body = {
        "type": f"incident.{claim.event_type}",
        "timestamp": timestamp.isoformat(),
        "data": {"incident": incident, "monitor": monitor},
        "v": BODY_VERSION,
    }
    return Message(
        notification_id=claim.id,
        event_type=claim.event_type,
        at=timestamp,
        correlation_id=claim.correlation_id,
        # The snapshot is stored as text (json, not jsonb), so its members come in the same order every time.
        body=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        incident=incident,
        monitor=monitor,
    )


def _documents(snapshot: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    incident = snapshot.get("incident") if isinstance(snapshot, Mapping) else None
    if snapshot is None or not isinstance(incident, Mapping) or any(key not in incident for key in _NEEDED):
        raise Unsendable(Poison.MESSAGE_INVALID, "the event has no usable snapshot of its incident")
    monitor = snapshot.get("monitor")
    if monitor is not None and not isinstance(monitor, Mapping):
        raise Unsendable(Poison.MESSAGE_INVALID, "the event has no usable snapshot of its monitor")
    return incident, monitor
