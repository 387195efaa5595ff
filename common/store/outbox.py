"""The outbox on its way into the ledger: claim events, number them, find who is concerned, take them away.

Relays claim whole organizations: whoever holds an organization's row holds all of its outbox. The numbers of its
stream come from that row, so two relays could not work on one organization at the same time anyway, and no younger
event of an incident can overtake an older one that another relay still holds.

The stream numbers *all* events of the timeline, in the order of versions within an incident. Claiming an announced
event numbers everything unnumbered of its incident; incidents without one (a comment, an easing) are found by
`claim_unnumbered`. Numbering is independent of announcing: an event may have its number while it is in the outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from common.clock import to_ms
from common.domain.incident import EventType
from common.domain.matching import ANNOUNCING, Candidate, LedgerStatus, announced
from common.store.engine import Connection

# Hold the organizations whose events wait longest; one that another relay holds (or the API is changing) is left to
# later. NO KEY UPDATE: new rows may go on referring to the organization meanwhile.
_HOLD = """
WITH waiting AS (
  SELECT org_id, min(id) AS oldest FROM outbox
   WHERE incident_id <> ALL(%(excluded)s::uuid[])
   GROUP BY org_id
)
SELECT o.id::text FROM organizations o JOIN waiting w ON w.org_id = o.id
 ORDER BY w.oldest LIMIT 200
   FOR NO KEY UPDATE OF o SKIP LOCKED
"""

# The oldest events of the organizations held; a statement of its own, so that it sees what their last holder committed.
_TAKE = """
SELECT id, org_id::text, incident_id::text, event_id::text, type FROM outbox
 WHERE org_id = ANY(%(orgs)s::uuid[]) AND incident_id <> ALL(%(excluded)s::uuid[])
 ORDER BY id LIMIT %(limit)s
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
SELECT DISTINCT s.incident_id::text, s.org_id IN (SELECT id FROM held) FROM stray s
"""

# Openings that are still on their way must not change while we decide who hears of the end: see settle's
# _FOLLOW_DEAD, which runs after it has waited for us. In order of ids, as settle locks them.
_PIN_ANNOUNCEMENTS = """
SELECT 1 FROM notifications n
 WHERE n.org_id = ANY(%(orgs)s::uuid[]) AND n.incident_id = ANY(%(incidents)s::uuid[]) AND n.status = 'pending'
   AND n.event_type = ANY(%(announcing)s)
 ORDER BY n.id FOR SHARE
"""

# What came of the announcing notifications of these incidents.
_ANNOUNCEMENTS = """
SELECT n.incident_id::text, n.channel_id::text, n.status, n.unknown_outcome FROM notifications n
 WHERE n.org_id = ANY(%(orgs)s::uuid[]) AND n.incident_id = ANY(%(incidents)s::uuid[])
   AND n.event_type = ANY(%(announcing)s)
"""

# Channels that may be concerned: the defaults, and those that have heard of one of the incidents.
_CANDIDATES = """
SELECT c.org_id::text, c.id::text, c.enabled AND c.deleted_at IS NULL, c.is_default AND c.deleted_at IS NULL
  FROM channels c
 WHERE c.org_id = ANY(%(orgs)s::uuid[]) AND ((c.is_default AND c.deleted_at IS NULL) OR c.id = ANY(%(heard)s::uuid[]))
 ORDER BY c.id
"""

# Done: in the transaction that wrote the ledger.
_DELETE = "DELETE FROM outbox WHERE id = ANY(%(ids)s)"

_ANNOUNCING = [event.value for event in ANNOUNCING]


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An announced event that waits for its ledger rows."""

    id: int
    org_id: str
    incident_id: str
    event_id: str
    type: EventType


@dataclass(frozen=True, slots=True)
class Concerned:
    """Who may be concerned: candidates by organization, and by incident the channels that have heard of it."""

    candidates: dict[str, list[Candidate]]
    heard: dict[str, set[str]]


@dataclass(frozen=True, slots=True)
class Unnumbered:
    """Incidents to number now, and whether more remains for later (held by others, or beyond the limit)."""

    incidents: list[str]
    more: bool


def claim(connection: Connection, *, limit: int, excluded: Sequence[str] = ()) -> list[OutboxRow]:
    """The oldest events of organizations that are ours until the transaction ends; `excluded` incidents stay."""
    orgs = [row[0] for row in connection.exec_driver_sql(_HOLD, {"excluded": list(excluded)})]
    if not orgs:
        return []
    rows = connection.exec_driver_sql(_TAKE, {"orgs": orgs, "limit": limit, "excluded": list(excluded)})
    return [OutboxRow(row[0], row[1], row[2], row[3], EventType(row[4])) for row in rows]


def claim_unnumbered(connection: Connection, *, since: datetime | None, limit: int) -> Unnumbered:
    """Incidents with unnumbered events made since then (None: ever), their organizations held."""
    rows = connection.exec_driver_sql(_UNNUMBERED, {"since": _first_id(since), "limit": limit}).all()
    ours = [row[0] for row in rows if row[1]]
    return Unnumbered(ours, more=len(ours) < len(rows) or len(rows) >= limit)


def number(connection: Connection, incidents: Sequence[str]) -> int:
    """Give the next numbers of their organizations' streams to these incidents' events; how many."""
    return connection.exec_driver_sql(_NUMBER, {"incidents": list(dict.fromkeys(incidents))}).rowcount


def concerned(connection: Connection, rows: Sequence[OutboxRow]) -> Concerned:
    """Who may be concerned by these events."""
    heard: dict[str, set[str]] = {}
    orgs = list({row.org_id for row in rows})
    # An opening is an incident's first event: nobody has heard of it before.
    known = list({row.incident_id for row in rows if row.type is not EventType.OPENED})
    if known:
        parameters = {"orgs": orgs, "incidents": known, "announcing": _ANNOUNCING}
        connection.exec_driver_sql(_PIN_ANNOUNCEMENTS, parameters)
        for incident, channel, status, unknown in connection.exec_driver_sql(_ANNOUNCEMENTS, parameters):
            if announced(LedgerStatus(status), unknown_outcome=unknown):
                heard.setdefault(incident, set()).add(channel)
    channels = list({channel for found in heard.values() for channel in found})
    candidates: dict[str, list[Candidate]] = {}
    for org, channel, usable, is_default in connection.exec_driver_sql(_CANDIDATES, {"orgs": orgs, "heard": channels}):
        candidates.setdefault(org, []).append(Candidate(channel, usable=usable, is_default=is_default))
    return Concerned(candidates, heard)


def delete(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Take events away whose ledger rows are written."""
    connection.exec_driver_sql(_DELETE, {"ids": [row.id for row in rows]})


def _first_id(since: datetime | None) -> str:
    """The least UUIDv7 of a moment."""
    return str(UUID(int=0 if since is None else to_ms(since) << 80))
