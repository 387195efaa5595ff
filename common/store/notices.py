"""What Tocsin has to say of itself: incidents of its own, opened, routed and told like any other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from common.domain.alerts import CHANNEL_KEYS
from common.domain.incident import EventType, Severity, Status
from common.store import incidents
from common.store.engine import Connection
from common.store.incidents import Alteration, Opening

#: The source of such incidents, which routes may match.
SOURCE = "tocsin"

# Whoever disables a channel moves the version that the relay keeps routes and channels by. A relay holds that row while
# it waits for notifications, so it has to be taken before them.
_MOVE_ROUTING = """
WITH held AS (
  SELECT id FROM organizations WHERE id = ANY(%(orgs)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE organizations o SET routing_version = routing_version + 1 FROM held WHERE o.id = held.id
"""
_CHANNELS = "SELECT id::text, org_id::text, name FROM channels WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id"

_STILL_OPEN = """
SELECT id::text, correlation_id, clock_timestamp() FROM incidents
 WHERE org_id = %(org_id)s AND dedup_key = %(dedup_key)s AND status <> 'resolved'
"""


def lock(connection: Connection, orgs: Collection[str]) -> None:
    """Take these organizations' rows, before any notification is locked, because channels of theirs may be disabled."""
    if orgs:
        connection.exec_driver_sql(_MOVE_ROUTING, {"orgs": sorted(orgs)})


def channels_gone(connection: Connection, ids: Sequence[str], now: datetime) -> None:
    """Open an incident for each channel that was just disabled because its receiver is gone."""
    if not ids:
        return
    rows = connection.exec_driver_sql(_CHANNELS, {"ids": list(ids)})
    incidents.open_all(connection, [_gone(row[0], row[1], row[2], now) for row in rows])


def channel_mended(connection: Connection, *, org_id: str, channel_id: str) -> None:
    """Resolve the incident of a channel that is enabled again, or that nobody wants any more."""
    keys = {"org_id": org_id, "dedup_key": _dedup_key(channel_id)}
    row = connection.exec_driver_sql(_STILL_OPEN, keys).first()
    if row is not None:
        resolving = Alteration(row[0], EventType.RESOLVED, row[2], row[1], status=Status.RESOLVED)
        incidents.alter_all(connection, [resolving])


def _gone(channel_id: str, org_id: str, name: str, now: datetime) -> Opening:
    return Opening(
        org_id=org_id,
        monitor_id=None,
        source=SOURCE,
        dedup_key=_dedup_key(channel_id),
        title=f'Channel "{name}" was disabled: its receiver answered 410 Gone',
        severity=Severity.ERROR,
        cause={"reason": "channel_gone", "message": "Mend the channel's configuration, then enable it again."},
        at=now,
        correlation_id="",
        name=name,
        labels={"channel": name},
    )


def _dedup_key(channel_id: str) -> str:
    return f"{CHANNEL_KEYS}{channel_id}"
