"""The end of a silence: find what it held back and is still wrong.

Whoever does this holds the organization's row, as relays do: a relay that is writing what the silence holds back is
either seen here or sees that the silence is settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from common.domain.matching import ANNOUNCING, HOLDING, Match
from common.store import held_back
from common.store.arrays import words
from common.store.engine import Connection
from common.store.held_back import HeldBack

# The silence that has been over for longest without having been settled.
_NEXT = """
SELECT id::text, org_id::text FROM silences
 WHERE settled_at IS NULL AND ends_at <= %(now)s AND id <> ALL(%(excluded)s::uuid[])
 ORDER BY ends_at, id LIMIT 1
"""

# Still over, and nobody has settled it meanwhile? Whoever would change that needs the organization's row. Held: who
# claims and finds itself silenced has either been seen here or sees that it is over (silenced).
_STILL = """
SELECT 1 FROM silences WHERE id = %(silence)s AND settled_at IS NULL AND ends_at <= %(now)s FOR NO KEY UPDATE
"""

# Per incident and channel the newest announcement that it held back, unless the channel heard a newer one or another
# silence holds a newer one back. What was let go, handed on or given up is not found again.
_HELD_BACK = f"""
SELECT n.id::text, n.incident_id::text, n.channel_id::text, n.route_id::text, n.group_key, n.event_type
  FROM notifications n JOIN incidents i ON i.org_id = n.org_id AND i.id = n.incident_id
 WHERE n.silence_id = %(silence)s AND n.status = 'suppressed' AND n.reason = %(silenced)s
   AND n.event_type = ANY(%(announcing)s::text[]) AND i.status <> 'resolved'
   AND NOT {held_back.OVERTAKEN}
 ORDER BY n.incident_id, n.no LIMIT %(limit)s
"""

# Nothing is left to do; whoever keeps the organization's rules reads them again, without this silence.
_SETTLE = "UPDATE silences SET settled_at = %(now)s WHERE id = %(silence)s"
_MOVE_ROUTING = "UPDATE organizations SET routing_version = routing_version + 1 WHERE id = %(org)s"


@dataclass(frozen=True, slots=True)
class EndedSilence:
    """A silence that is over. `routing_version` is its organization's, whose row is held."""

    id: str
    org_id: str
    routing_version: int


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to decide on now, and whether that is all: others may hold incidents, or there are too many."""

    rows: list[HeldBack]
    all: bool


def next_ended(connection: Connection, now: datetime, *, excluded: Sequence[str]) -> tuple[str, str] | None:
    """(silence, organization) that is to be settled next."""
    row = connection.exec_driver_sql(_NEXT, {"now": now, "excluded": words(excluded)}).first()
    return None if row is None else (row[0], row[1])


def hold(connection: Connection, silence_id: str, org_id: str, now: datetime) -> EndedSilence | None:
    """Hold the silence's organization until the transaction ends; None when there is nothing to settle any more."""
    version = held_back.hold(connection, org_id)
    if connection.exec_driver_sql(_STILL, {"silence": silence_id, "now": now}).first() is None:
        return None
    return EndedSilence(silence_id, org_id, version)


def find(connection: Connection, silence: EndedSilence, *, limit: int) -> Found:
    """What the silence held back of incidents that are not resolved; these are locked."""
    rows = connection.exec_driver_sql(
        _HELD_BACK,
        {
            "silence": silence.id,
            "silenced": Match.SILENCED.value,
            "holding": words(HOLDING),
            "announcing": words(ANNOUNCING),
            "limit": limit,
        },
    ).all()
    if not rows:
        return Found([], all=True)
    incidents = held_back.lock_incidents(connection, silence.org_id, {row[1] for row in rows})
    found = []
    for id_, incident_id, channel_id, route_id, group_key, type_ in rows:
        if incident_id in incidents:
            incident = incidents[incident_id]
            found.append(HeldBack(id_, channel_id, route_id, group_key, incident, incident_id, type_))
    return Found(found, all=len(found) == len(rows) < limit)


def settle(connection: Connection, silence: EndedSilence, now: datetime) -> None:
    """The silence is over for good."""
    connection.exec_driver_sql(_SETTLE, {"silence": silence.id, "now": now})
    connection.exec_driver_sql(_MOVE_ROUTING, {"org": silence.org_id})
