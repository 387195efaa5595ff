"""Alerts that end unless they are repeated: when, whoever repeats them, and the end of those that nobody repeats.

An open incident of such an alert has a row. It is the mutex of the two who care: a repeat moves it, the end takes it
away in the transaction that resolves the incident. What is resolved otherwise leaves its row until that is due.

Nothing ends while alerts could not come in: a sender that we did not let repeat has not fallen silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.domain.alerts import ALERT_EXPIRED, RESOLVE_TIMEOUT
from common.domain.errors import Contended
from common.domain.incident import EventType, Status
from common.store import incidents
from common.store.arrays import moments, texts, words
from common.store.engine import Connection
from common.store.incidents import Alteration

#: How often each API process says that it takes alerts in, and how long a silence of all of them counts as a gap.
INTAKE_EVERY_S = 10.0
INTAKE_GAP = timedelta(seconds=30)

#: After a gap, senders have so long to repeat what still fires.
GRACE = RESOLVE_TIMEOUT

_SAID = """
unnest(%(incidents)s::uuid[], %(orgs)s::uuid[], %(ends)s::timestamptz[], %(stated)s::bool[])
  AS u(incident_id, org_id, ends_at, stated)
"""
# As Alertmanager has it: a later end that somebody stated holds; a timeout counts anew with each message.
_LATER = """
ends_at = CASE WHEN e.stated THEN greatest(e.ends_at, {new}.ends_at) ELSE {new}.ends_at END,
stated = {new}.stated OR (e.stated AND e.ends_at > {new}.ends_at)
"""

_BEGIN = f"""
INSERT INTO alert_ends AS e (incident_id, org_id, ends_at, stated)
SELECT u.incident_id, u.org_id, u.ends_at, u.stated FROM {_SAID} ORDER BY u.incident_id
    ON CONFLICT (incident_id) DO UPDATE SET {_LATER.format(new="excluded")}
"""

# In one order, so that those who repeat the same alerts at the same time wait for each other.
_PROLONG = f"""
WITH said AS (SELECT * FROM {_SAID}), held AS (
  SELECT e.incident_id FROM alert_ends e JOIN said USING (incident_id) ORDER BY e.incident_id FOR UPDATE OF e
)
UPDATE alert_ends e SET {_LATER.format(new="u")}
  FROM held JOIN said u USING (incident_id) WHERE e.incident_id = held.incident_id
RETURNING e.incident_id::text
"""
_STILL_OPEN = """
SELECT id::text FROM incidents WHERE id = ANY(%(incidents)s::uuid[]) AND status <> 'resolved'
"""

# The same by key, in every organization that has it open.
_PROLONG_KEYS = f"""
WITH said AS (
  SELECT i.id AS incident_id, u.ends_at, u.stated
    FROM unnest(%(keys)s::text[], %(ends)s::timestamptz[], %(stated)s::bool[]) AS u(dedup_key, ends_at, stated)
    JOIN incidents i ON i.dedup_key = u.dedup_key AND i.status <> 'resolved'
), held AS (
  SELECT e.incident_id FROM alert_ends e JOIN said USING (incident_id) ORDER BY e.incident_id FOR UPDATE OF e
)
UPDATE alert_ends e SET {_LATER.format(new="u")}
  FROM held JOIN said u USING (incident_id) WHERE e.incident_id = held.incident_id
"""

# What is due, oldest first, with its incident, both ours; what somebody else holds is left to the next look.
_DUE = """
SELECT e.incident_id::text, e.ends_at, i.status, i.correlation_id
  FROM alert_ends e JOIN incidents i ON i.org_id = e.org_id AND i.id = e.incident_id
 WHERE e.ends_at <= %(now)s
   AND EXISTS (SELECT 1 FROM alert_intake WHERE seen_at > %(gap_from)s AND since <= %(grace_from)s)
 ORDER BY e.ends_at LIMIT %(limit)s
   FOR UPDATE OF e SKIP LOCKED FOR NO KEY UPDATE OF i SKIP LOCKED
"""
_FORGET = "DELETE FROM alert_ends WHERE incident_id = ANY(%(incidents)s::uuid[])"

# Alerts come in. After a gap the time counts anew.
_NOTE_INTAKE = """
INSERT INTO alert_intake AS i (since, seen_at) VALUES (clock_timestamp(), clock_timestamp())
    ON CONFLICT (one) DO UPDATE
   SET since = CASE WHEN i.seen_at < clock_timestamp() - %(gap)s THEN clock_timestamp() ELSE i.since END,
       seen_at = greatest(i.seen_at, clock_timestamp())
"""


@dataclass(frozen=True, slots=True)
class AlertEnd:
    """When an alert ends that is not repeated; `stated` by its sender."""

    at: datetime
    stated: bool


def begin(connection: Connection, orgs: Mapping[str, str], ends: Mapping[str, AlertEnd]) -> None:
    """New incidents end then, {incident: end}; {incident: organization} tells whose they are."""
    if ends:
        connection.exec_driver_sql(_BEGIN, _columns(orgs, ends))


def prolong(connection: Connection, orgs: Mapping[str, str], ends: Mapping[str, AlertEnd]) -> None:
    """Open incidents last until then. Raises Contended when one has just ended: its alert is to be taken in anew."""
    if not ends:
        return
    found = {row[0] for row in connection.exec_driver_sql(_PROLONG, _columns(orgs, ends))}
    missing = {id_: end for id_, end in ends.items() if id_ not in found}
    if not missing:
        return
    # It had no end until now, or is over. A statement of its own sees what whoever held the row has committed.
    rows = connection.exec_driver_sql(_STILL_OPEN, {"incidents": words(missing)}).all()
    if len(rows) < len(missing):
        raise Contended("An alert ended at the very moment in which it was repeated.")
    begin(connection, orgs, missing)


def prolong_keys(connection: Connection, ends: Mapping[str, AlertEnd]) -> None:
    """What is open under these keys, whosever it is, lasts until then; for the worker's role."""
    if ends:
        parameters = {"keys": texts(ends), **_times(ends.values())}
        connection.exec_driver_sql(_PROLONG_KEYS, parameters)


def expire(connection: Connection, now: datetime, *, limit: int) -> tuple[int, bool]:
    """Resolve what was not repeated in time, up to `limit`: how many, and whether there may be more.

    For the worker's role.
    """
    parameters = {"now": now, "limit": limit, "gap_from": now - INTAKE_GAP, "grace_from": now - GRACE}
    rows = connection.exec_driver_sql(_DUE, parameters).all()
    if not rows:
        return 0, False
    endings = [
        Alteration(
            id_, EventType.RESOLVED, now, correlation_id,
            status=Status.RESOLVED, data={"reason": ALERT_EXPIRED, "ends_at": ends_at.isoformat()},
        )
        for id_, ends_at, status, correlation_id in rows
        if status != Status.RESOLVED
    ]  # fmt: skip
    resolved = incidents.alter_all(connection, endings)
    connection.exec_driver_sql(_FORGET, {"incidents": words(row[0] for row in rows)})
    return len(resolved), len(rows) == limit


def note_intake(connection: Connection) -> None:
    """Alerts come in at this moment."""
    connection.exec_driver_sql(_NOTE_INTAKE, {"gap": INTAKE_GAP})


def _columns(orgs: Mapping[str, str], ends: Mapping[str, AlertEnd]) -> dict[str, str]:
    return {"incidents": words(ends), "orgs": words(orgs[id_] for id_ in ends), **_times(ends.values())}


def _times(ends: Iterable[AlertEnd]) -> dict[str, str]:
    found = list(ends)
    return {
        "ends": moments(end.at for end in found),
        "stated": words("true" if end.stated else "false" for end in found),
    }
