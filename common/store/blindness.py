"""What locations see: the signs that workers give, what was made of them, and whose incidents came of it.

Whoever judges holds the rows of `location_sights` until its transaction ends, so that of two who think that they lead
one comes after the other. Then come incidents, as everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from common.domain.blindness import ALIVE_FOR, LEAST_PATIENCE, MISSED_SLOTS, Affected, Cause, Due, Seen, Sight
from common.store.arrays import integers, words
from common.store.engine import Connection

#: What a killed worker leaves is kept so long.
_KEPT = timedelta(days=1)

# A worker lives. Ages instead of times: whatever its own clock says.
_SIGN = """
INSERT INTO worker_signs (id, location, seen_at, judged_at, saw, blinded, checks_minute)
VALUES (%(id)s, %(location)s, clock_timestamp(), clock_timestamp() - %(judged_s)s * interval '1 second', %(saw)s,
        %(blinded)s, %(minute)s)
    ON CONFLICT (id) DO UPDATE
   SET seen_at = excluded.seen_at, judged_at = excluded.judged_at, saw = excluded.saw, blinded = excluded.blinded,
       checks_minute = excluded.checks_minute
"""
_DEPART = "DELETE FROM worker_signs WHERE id = %(id)s"
_FORGET = "DELETE FROM worker_signs WHERE seen_at < clock_timestamp() - %(kept)s"

_NOW = "SELECT clock_timestamp()"

# A location is looked at from its first look on.
_BEGIN = """
INSERT INTO location_sights (location, looked_at)
SELECT l.id, %(now)s FROM locations l
 WHERE NOT EXISTS (SELECT 1 FROM location_sights s WHERE s.location = l.id) ORDER BY l.id
    ON CONFLICT (location) DO NOTHING
"""
_HOLD = """
SELECT s.location, l.name, s.looked_at, s.failing_since, s.seeing_since, s.blind_since, s.reason
  FROM location_sights s JOIN locations l ON l.id = s.location
 ORDER BY s.location FOR UPDATE OF s
"""
_SAVE = """
UPDATE location_sights
   SET looked_at = %(looked_at)s, failing_since = %(failing_since)s, seeing_since = %(seeing_since)s,
       blind_since = %(blind_since)s, reason = %(reason)s
 WHERE location = %(location)s
"""

# What workers say, those that are dead too: their results were results.
_SEEN = """
SELECT location, count(*) FILTER (WHERE seen_at > %(alive)s), COALESCE(sum(saw) FILTER (WHERE seen_at > %(alive)s), 0),
       COALESCE(sum(blinded) FILTER (WHERE seen_at > %(alive)s), 0), max(judged_at)
  FROM worker_signs GROUP BY location
"""

# Monitors of these locations that must have been checked by now, and the least interval. Not heartbeats: any worker
# judges those, and only what was pinged.
_DUE = """
SELECT u.location, count(*), min(m.interval_s)
  FROM unnest(%(locations)s::smallint[]) AS u(location) JOIN monitors m ON u.location = ANY(m.location_ids)
 WHERE m.enabled AND m.deleted_at IS NULL
   AND m.type <> 'heartbeat'
   AND m.check_from < %(now)s - greatest(%(least)s, %(missed)s * m.interval_s * interval '1 second')
 GROUP BY u.location
"""

# The newest votes of these locations: results tell where no worker ever did.
_VOTED = "SELECT location, max(last_slot) FROM votes WHERE location = ANY(%(locations)s::smallint[]) GROUP BY location"

# Whose monitors are checked from a location, and how many of them from blind ones only.
_AFFECTED = """
SELECT m.org_id::text, count(*), count(*) FILTER (WHERE m.location_ids <@ %(blind)s::smallint[])
  FROM monitors m
 WHERE m.enabled AND m.deleted_at IS NULL AND m.type <> 'heartbeat' AND %(location)s = ANY(m.location_ids)
 GROUP BY m.org_id ORDER BY m.org_id
"""

# Whom it was told, and what it was told by.
_TOLD = "SELECT org_id::text, incident_id::text FROM blind_incidents WHERE location = %(location)s ORDER BY org_id"
_NOTE = """
INSERT INTO blind_incidents (location, org_id, incident_id)
SELECT %(location)s, u.org_id, u.incident_id
  FROM unnest(%(orgs)s::uuid[], %(incidents)s::uuid[]) AS u(org_id, incident_id)
    ON CONFLICT (location, org_id) DO NOTHING
"""
_UNNOTE = "DELETE FROM blind_incidents WHERE location = %(location)s AND org_id = ANY(%(orgs)s::uuid[])"


@dataclass(frozen=True, slots=True)
class Sign:
    """What a worker process says of itself. `judged_s`: how old its newest committed result is (None: it has none)."""

    id: str
    location: int
    saw: int
    blinded: int
    checks_minute: int
    judged_s: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """A location and how it stands."""

    location: int
    name: str
    sight: Sight


def sign(connection: Connection, given: Sign) -> None:
    """Say that a worker lives."""
    parameters = {
        "id": given.id,
        "location": given.location,
        "saw": given.saw,
        "blinded": given.blinded,
        "minute": given.checks_minute,
        "judged_s": given.judged_s,
    }
    connection.exec_driver_sql(_SIGN, parameters)


def depart(connection: Connection, id_: str) -> None:
    """A worker ends as it was asked to."""
    connection.exec_driver_sql(_DEPART, {"id": id_})


def forget(connection: Connection) -> None:
    """Forget workers that have not been heard of for long."""
    connection.exec_driver_sql(_FORGET, {"kept": _KEPT})


def hold(connection: Connection) -> tuple[datetime, list[Place]]:
    """The database's time and all locations as they stand, held until the transaction ends."""
    connection.exec_driver_sql(_BEGIN, {"now": connection.exec_driver_sql(_NOW).scalar_one()})
    rows = connection.exec_driver_sql(_HOLD).all()
    # After the wait for who held them: time must not go back.
    now: datetime = connection.exec_driver_sql(_NOW).scalar_one()
    return now, [_place(row) for row in rows]


def seen(connection: Connection, now: datetime) -> dict[int, Seen]:
    """What the workers of each location say; a location of which no worker ever said anything is absent."""
    rows = connection.exec_driver_sql(_SEEN, {"alive": now - ALIVE_FOR})
    return {row[0]: Seen(True, row[1], row[2], row[3], row[4]) for row in rows}


def due(connection: Connection, locations: Collection[int], now: datetime) -> dict[int, Due]:
    """What had to be checked from these locations; those with nothing are absent."""
    parameters = {"locations": integers(locations), "now": now, "least": LEAST_PATIENCE, "missed": MISSED_SLOTS}
    return {row[0]: Due(row[1], row[2]) for row in connection.exec_driver_sql(_DUE, parameters)}


def voted(connection: Connection, locations: Collection[int]) -> dict[int, datetime]:
    """When each of these locations last voted."""
    rows = connection.exec_driver_sql(_VOTED, {"locations": integers(locations)})
    return {row[0]: row[1] for row in rows}


def save(connection: Connection, location: int, sight: Sight) -> None:
    """How a location stands from now on."""
    parameters = {
        "location": location,
        "looked_at": sight.looked_at,
        "failing_since": sight.failing_since,
        "seeing_since": sight.seeing_since,
        "blind_since": sight.blind_since,
        "reason": sight.cause,
    }
    connection.exec_driver_sql(_SAVE, parameters)


def affected(connection: Connection, location: int, blind: Collection[int]) -> dict[str, Affected]:
    """{organization: its monitors there}; `blind` are all locations that see nothing."""
    rows = connection.exec_driver_sql(_AFFECTED, {"location": location, "blind": integers(blind)})
    return {row[0]: Affected(row[0], row[1], row[2]) for row in rows}


def told(connection: Connection, location: int) -> dict[str, str]:
    """{organization: the incident that it got}."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_TOLD, {"location": location})}


def note(connection: Connection, location: int, opened: Mapping[str, str]) -> None:
    """These organizations have got these incidents."""
    parameters = {"location": location, "orgs": words(opened), "incidents": words(opened.values())}
    connection.exec_driver_sql(_NOTE, parameters)


def unnote(connection: Connection, location: int, orgs: Sequence[str]) -> None:
    """For these it is over."""
    connection.exec_driver_sql(_UNNOTE, {"location": location, "orgs": words(orgs)})


def _place(row: Any) -> Place:
    cause = None if row[6] is None else Cause(row[6])
    return Place(row[0], row[1], Sight(row[2], row[3], row[4], row[5], cause))
