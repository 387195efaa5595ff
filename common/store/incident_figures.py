"""What our own metrics say of incidents and of what waits: of the whole installation, never of one organization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from common.clock import to_ms
from common.store.engine import Connection

#: Events in one look; the next one goes on behind them.
MOST_EVENTS = 1_000
#: What waits is counted so far: a count of millions would cost more than it says.
_MOST_OUTBOX = 10_000
_MOST_PENDING = 100_000

# By way of the index of those that are not resolved.
_OPEN = "SELECT severity, status, count(*) FROM incidents WHERE status <> 'resolved' GROUP BY severity, status"

# Ids are UUIDv7, so the primary key is in the order of time.
_EVENTS = """
SELECT e.id::text, e.type, i.id::text, i.severity, i.source, e.data ->> 'reason',
       extract(epoch FROM e.at - i.opened_at)::float8
  FROM (SELECT * FROM incident_events x WHERE x.id > %(after)s::uuid AND x.id < %(until)s::uuid
         ORDER BY x.id LIMIT %(most)s) e
  JOIN incidents i ON i.id = e.incident_id
 ORDER BY e.id
"""

# From the first failure after the last success, at whichever location that was first. Thresholds are 100 at most and
# a day holds them at nearly every interval; what began earlier is left out.
_DETECTED = """
SELECT extract(epoch FROM i.opened_at - min(f.at))::float8
  FROM unnest(%(ids)s::uuid[]) AS u(id)
  JOIN incidents i ON i.id = u.id
  JOIN monitors m ON m.org_id = i.org_id AND m.id = i.monitor_id
 CROSS JOIN unnest(m.location_ids) AS l(location)
 CROSS JOIN LATERAL (
   SELECT min(r.scheduled_at) AS at FROM results r
    WHERE r.monitor_no = m.monitor_no AND r.location = l.location AND r.verdict IN ('2', '3')
      AND r.scheduled_at <= i.opened_at AND r.scheduled_at > coalesce((
        SELECT w.scheduled_at FROM results w
         WHERE w.monitor_no = m.monitor_no AND w.location = l.location AND w.verdict = '1'
           AND w.scheduled_at <= i.opened_at AND w.scheduled_at > i.opened_at - interval '1 day'
         ORDER BY w.scheduled_at DESC LIMIT 1), i.opened_at - interval '1 day')
 ) f
 GROUP BY i.id, i.opened_at HAVING min(f.at) IS NOT NULL
"""

_WAITING = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT %(outbox)s) o),
       coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - created_at))::float8
                   FROM outbox ORDER BY id LIMIT 1), 0),
       (SELECT count(*) FROM (SELECT 1 FROM notifications WHERE status = 'pending' LIMIT %(pending)s) n),
       (SELECT count(*) FROM channels WHERE enabled AND deleted_at IS NULL AND failures > 0)
"""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an incident, `after_s` seconds after it was opened."""

    id: str
    type: str
    incident_id: str
    severity: str
    source: str
    reason: str | None
    after_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is on its way: events and the age of the oldest (seconds), notifications, and channels that fail."""

    events: int
    oldest_s: float
    notifications: int
    channels_failing: int


def open_incidents(connection: Connection) -> dict[tuple[str, str], int]:
    """{(severity, status): how many}."""
    return {(row[0], row[1]): row[2] for row in connection.exec_driver_sql(_OPEN)}


def events(connection: Connection, after: str, until: datetime) -> list[Event]:
    """What happened between an event and a moment, the oldest first; a look has an end, and the next goes on there."""
    rows = connection.exec_driver_sql(_EVENTS, {"after": after, "until": first_id(until), "most": MOST_EVENTS})
    return [Event(*row) for row in rows]


def detected_after_s(connection: Connection, incidents: Sequence[str]) -> list[float]:
    """How long the outages of these incidents had lasted when they were opened; those of monitors only."""
    rows = connection.exec_driver_sql(_DETECTED, {"ids": list(incidents)})
    return [max(0.0, row[0]) for row in rows]


def waiting(connection: Connection) -> Waiting:
    """What waits to be told."""
    row = connection.exec_driver_sql(_WAITING, {"outbox": _MOST_OUTBOX, "pending": _MOST_PENDING}).one()
    return Waiting(*row)


def first_id(moment: datetime) -> str:
    """No event since then has a smaller id."""
    return str(UUID(int=to_ms(moment) << 80))
