"""The outbox on its way into the ledger: claim events, number them, find who has heard before, take them away.

Relays claim whole organizations: whoever holds an organization's row holds all of its outbox. The numbers of its
stream come from that row, so two relays could not work on one organization at the same time anyway, and no younger
event of an incident can overtake an older one that another relay still holds.

The stream numbers *all* events of the timeline, in the order of versions within an incident. Claiming an announced
event numbers everything unnumbered of its incident; incidents without one (a comment, an easing) are found by
`claim_unnumbered`. Numbering is independent of announcing: an event may have its number while it is in the outbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from common.clock import to_ms
from common.domain.errors import TocsinError
from common.domain.incident import EventType
from common.domain.matching import ANNOUNCING, Announcement, LedgerStatus, announced
from common.domain.routing import labels_of
from common.store.arrays import integers, words
from common.store.engine import Connection

# Hold the organizations whose events wait longest, as far as the oldest events tell; one that another relay holds (or
# the API is changing) is left to later. Few, so that relays can work side by side. NO KEY UPDATE: new rows may go on
# referring to the organization meanwhile. Its routing_version is that of the rules as long as it is held.
_HOLD = """
WITH waiting AS (
  SELECT org_id, min(id) AS oldest FROM (
    SELECT org_id, id FROM outbox WHERE incident_id <> ALL(%(excluded)s::uuid[]) ORDER BY id LIMIT 10000
  ) o GROUP BY org_id
)
SELECT o.id::text, o.routing_version FROM organizations o JOIN waiting w ON w.org_id = o.id
 ORDER BY w.oldest LIMIT 64
   FOR NO KEY UPDATE OF o SKIP LOCKED
"""

# The oldest events of the organizations held, with what decides who hears of them: the severity is that of the event,
# the rest is the incident's. A statement of its own, so that it sees what their last holder committed.
_TAKE = """
WITH taken AS (
  SELECT id, org_id, incident_id, event_id, type FROM outbox
   WHERE org_id = ANY(%(orgs)s::uuid[]) AND incident_id <> ALL(%(excluded)s::uuid[])
   ORDER BY id LIMIT %(limit)s
)
SELECT t.id, t.org_id::text, t.incident_id::text, t.event_id::text, t.type, i.dedup_key, i.labels,
       COALESCE(e.snapshot #>> '{incident,severity}', i.severity), i.source, COALESCE(NULLIF(i.name, ''), i.title),
       CASE WHEN t.type = 'reminder' THEN e.data ->> 'route_id' END,
       CASE WHEN i.dedup_key = 'monitor:' || i.monitor_id THEN i.monitor_id::text END
  FROM taken t JOIN incident_events e ON e.id = t.event_id JOIN incidents i ON i.id = t.incident_id
 ORDER BY t.id
"""

# Number all unnumbered events of these incidents, whose organizations are held. Across incidents by time, but never
# against the order of versions within one: hence the running maximum.
_NUMBER = """
WITH fresh AS (
  SELECT e.id, e.org_id, e.incident_id, e.version,
         max(e.at) OVER (PARTITION BY e.incident_id ORDER BY e.version) AS at
    FROM incident_events e
   WHERE e.incident_id = ANY(%(incidents)s::uuid[]) AND e.seq IS NULL
), placed AS (
  SELECT id, org_id, row_number() OVER (PARTITION BY org_id ORDER BY at, incident_id, version) AS place FROM fresh
), moved AS (
  UPDATE organizations o SET last_seq = o.last_seq + p.count
    FROM (SELECT org_id, count(*) AS count FROM placed GROUP BY org_id) p
   WHERE o.id = p.org_id
  RETURNING o.id, o.last_seq - p.count AS before
)
UPDATE incident_events e SET seq = m.before + p.place
  FROM placed p JOIN moved m ON m.id = p.org_id
 WHERE e.id = p.id
"""

# Incidents with unnumbered events, among the events made since a time: ids are UUIDv7, so the primary key is in order
# of time. Their organizations are held as above.
_UNNUMBERED = """
WITH stray AS (
  SELECT e.org_id, e.incident_id FROM incident_events e
   WHERE e.seq IS NULL AND e.id >= %(since)s::uuid LIMIT %(limit)s
), held AS (
  SELECT o.id FROM organizations o WHERE o.id IN (SELECT org_id FROM stray)
     FOR NO KEY UPDATE SKIP LOCKED
)
SELECT s.incident_id::text, s.org_id IN (SELECT id FROM held), sum(count(*)) OVER () FROM stray s
 GROUP BY s.org_id, s.incident_id
"""

# The announcing notifications of these incidents, by the index on (org_id, incident_id).
_OF_INCIDENTS = """
  FROM unnest(%(orgs)s::uuid[], %(incidents)s::uuid[]) AS u(org_id, incident_id)
  JOIN notifications n ON n.org_id = u.org_id AND n.incident_id = u.incident_id
 WHERE n.event_type = ANY(%(announcing)s::text[])
"""

# Openings that are still on their way must not change while we decide who hears of the end: see following.give_up,
# which runs after its caller has waited for us. In order of ids, as settle locks them.
_PIN_ANNOUNCEMENTS = f"""
SELECT 1 {_OF_INCIDENTS} AND n.status = 'pending'
 ORDER BY n.id FOR SHARE OF n
"""

# What came of them, and what led them to their channels.
_ANNOUNCEMENTS = f"""
SELECT n.incident_id::text, n.channel_id::text, n.status, n.unknown_outcome, n.route_id::text, n.group_key
{_OF_INCIDENTS}
 ORDER BY n.no
"""

_KNOWN = frozenset(EventType)

# Done: in the transaction that wrote the ledger.
_DELETE = "DELETE FROM outbox WHERE id = ANY(%(ids)s::bigint[])"


class UnknownEvent(TocsinError):
    """An event that this version knows nothing of: a newer one is running beside it."""

    code = "UNKNOWN_EVENT"

    def __init__(self, incident_id: str, event_id: str, type_: str) -> None:
        super().__init__(f"this version knows no event of type {type_}")
        self.incident_id = incident_id
        self.event_id = event_id
        self.type = type_


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An announced event that waits for its ledger rows. `labels` are all that matchers see of its incident.

    `route_id` is the route that asks for a reminder; `monitor_id` the monitor whose own incident it is.
    """

    id: int
    org_id: str
    incident_id: str
    event_id: str
    type: EventType
    dedup_key: str
    labels: dict[str, str]
    route_id: str | None
    monitor_id: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """Events of organizations that are held until the transaction ends, and the versions of these' rules."""

    rows: list[OutboxRow]
    versions: dict[str, int]


@dataclass(frozen=True, slots=True)
class Unnumbered:
    """Incidents to number now, and whether more remains for later (held by others, or beyond the limit)."""

    incidents: list[str]
    more: bool


def claim(connection: Connection, *, limit: int, excluded: Sequence[str] = ()) -> Taken:
    """The oldest events of organizations that are ours until the transaction ends; `excluded` incidents stay.

    Raises UnknownEvent.
    """
    left = words(excluded)
    versions: dict[str, int] = {row[0]: row[1] for row in connection.exec_driver_sql(_HOLD, {"excluded": left})}
    if not versions:
        return Taken([], {})
    rows = connection.exec_driver_sql(_TAKE, {"orgs": words(versions), "limit": limit, "excluded": left})
    return Taken([_row(row) for row in rows], versions)


def _row(row: Sequence[Any]) -> OutboxRow:
    id_, org_id, incident_id, event_id, type_, dedup_key, own, severity, source, name, route_id, monitor_id = row
    if type_ not in _KNOWN:
        raise UnknownEvent(incident_id, event_id, type_)
    labels = labels_of(own, severity=severity, source=source, name=name)
    return OutboxRow(id_, org_id, incident_id, event_id, EventType(type_), dedup_key, labels, route_id, monitor_id)


def claim_unnumbered(connection: Connection, *, since: datetime | None, limit: int) -> Unnumbered:
    """Incidents with unnumbered events made since then (None: ever), their organizations held."""
    rows = connection.exec_driver_sql(_UNNUMBERED, {"since": _first_id(since), "limit": limit}).all()
    ours = [row[0] for row in rows if row[1]]
    return Unnumbered(ours, more=len(ours) < len(rows) or bool(rows and rows[0][2] >= limit))


def number(connection: Connection, incidents: Iterable[str]) -> int:
    """Give the next numbers of their organizations' streams to these incidents' events; how many."""
    return connection.exec_driver_sql(_NUMBER, {"incidents": words(dict.fromkeys(incidents))}).rowcount


def announcements(connection: Connection, rows: Sequence[OutboxRow]) -> dict[str, dict[str, Announcement]]:
    """{incident: {channel: what it has heard}} of these events' incidents, pinned until the transaction ends."""
    # An opening is an incident's first event: nobody has heard of it before.
    known = {row.incident_id: row.org_id for row in rows if row.type is not EventType.OPENED}
    if not known:
        return {}
    found: dict[str, dict[str, Announcement]] = {}
    parameters = {
        "orgs": words(known.values()),
        "incidents": words(known),
        "announcing": words(ANNOUNCING),
    }
    connection.exec_driver_sql(_PIN_ANNOUNCEMENTS, parameters)
    for incident, channel, status, unknown, route_id, group_key in connection.exec_driver_sql(
        _ANNOUNCEMENTS, parameters
    ):
        channels = found.setdefault(incident, {})
        if channel not in channels or not channels[channel].heard:
            heard = announced(LedgerStatus(status), unknown_outcome=unknown)
            channels[channel] = Announcement(heard, route_id, group_key)
    return found


def delete(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Take events away whose ledger rows are written."""
    connection.exec_driver_sql(_DELETE, {"ids": integers(row.id for row in rows)})


def _first_id(since: datetime | None) -> str:
    """The least UUIDv7 of a moment."""
    return str(UUID(int=0 if since is None else to_ms(since) << 80))
