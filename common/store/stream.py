"""What an organization's stream is made of: numbered events in order, and monitors that changed since the last look.

The relay numbers an organization's events while it holds the organization's row, so whoever sees a number sees all
before it. Changed monitors are found by transaction id, as the scheduler finds them (decision 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.store.arrays import texts, words
from common.store.engine import Connection
from common.store.incidents_read import EVENT, EVENT_ACTORS

#: How far back a stream can be resumed.
REPLAY_HOURS = 24

# How far the numbering of these organizations is; disabled and deleted ones are absent.
_HEADS = """
SELECT o.id::text, o.last_seq FROM organizations o
 WHERE o.id = ANY(%(orgs)s::uuid[]) AND o.disabled_at IS NULL AND o.deleted_at IS NULL
"""

# Whether the first event that is missing is young enough; no row when it is not there any more.
_RESUMABLE = f"""
SELECT 1 FROM incident_events e
 WHERE e.org_id = %(org_id)s AND e.seq = %(seq)s AND e.at > clock_timestamp() - interval '{REPLAY_HOURS} hours'
"""

# The next events, with the names of those who still belong to the organization.
_EVENTS = f"""
SELECT e.incident_id::text AS incident_id, {EVENT}
  FROM incident_events e {EVENT_ACTORS}
 WHERE e.org_id = %(org_id)s AND e.seq > %(after)s
 ORDER BY e.seq LIMIT %(limit)s
"""

_SNAPSHOT = "SELECT pg_snapshot_xmax(s)::text, ARRAY(SELECT pg_snapshot_xip(s))::text FROM pg_current_snapshot() AS s"

# Monitors whose state or settings a transaction changed that an earlier snapshot did not see, because it began later or
# was open then; some of each organization. Ranges of indexes, whatever else is stored and however long a transaction
# stays open. The newest vote is that of state.status.
_CHANGED = """
SELECT o.id::text AS org_id, m.id::text AS id, m.enabled, m.deleted_at IS NOT NULL AS deleted, s.health, s.maintenance,
       s.since, s.open_incident::text AS incident_id, v.last_slot, v.last_verdict, v.latency_ms,
       (SELECT w.reason FROM votes w WHERE w.monitor_no = m.monitor_no AND w.reason <> 0
         ORDER BY w.last_slot DESC LIMIT 1) AS reason,
       (s.changed_xid::text, m.changed_xid::text)::text AS mark
  FROM unnest(%(orgs)s::uuid[]) AS o(id)
 CROSS JOIN LATERAL (
   (SELECT x.monitor_no FROM monitor_states x
     WHERE x.org_id = o.id AND x.changed_xid >= %(next)s::text::xid8
       AND x.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
     ORDER BY x.changed_xid LIMIT %(limit)s)
   UNION
   (SELECT x.monitor_no FROM monitors x
     WHERE x.org_id = o.id AND x.changed_xid >= %(next)s::text::xid8
       AND x.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
     ORDER BY x.changed_xid LIMIT %(limit)s)
   UNION
   (SELECT x.monitor_no FROM monitor_states x
     WHERE x.org_id = o.id AND x.changed_xid = ANY(%(open)s::text::xid8[]) LIMIT %(limit)s)
   UNION
   (SELECT x.monitor_no FROM monitors x
     WHERE x.org_id = o.id AND x.changed_xid = ANY(%(open)s::text::xid8[]) LIMIT %(limit)s)
 ) c
  JOIN monitors m ON m.monitor_no = c.monitor_no AND m.org_id = o.id
  JOIN monitor_states s ON s.monitor_no = c.monitor_no
  LEFT JOIN LATERAL (
    SELECT x.last_slot, x.last_verdict, x.latency_ms FROM votes x
     WHERE x.monitor_no = c.monitor_no AND x.last_slot > 'epoch' ORDER BY x.last_slot DESC LIMIT 1
  ) v ON true
"""

# What these keys are now; those that are revoked or have expired are absent.
_KEYS_NOW = """
SELECT k.key_id::text, k.role, k.scopes
  FROM unnest(%(prefixes)s::text[]) AS asked(prefix) CROSS JOIN LATERAL auth_key(asked.prefix) k
 WHERE k.expires_at IS NULL OR k.expires_at > clock_timestamp()
"""

# What these sessions are now, by their place among those asked for; those that have ended are absent.
_SESSIONS_NOW = """
SELECT asked.place, s.role, s.tokens_valid_after
  FROM unnest(%(users)s::uuid[], %(orgs)s::uuid[], %(families)s::uuid[]) WITH ORDINALITY
       AS asked(user_id, org_id, family_id, place)
 CROSS JOIN LATERAL auth_session(asked.user_id, asked.org_id, asked.family_id) s
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was visible: all before `next` but what was `open` (an array's text), by transaction id."""

    next: str
    open: str


@dataclass(frozen=True, slots=True)
class KeyNow:
    """A key that is good; `scopes` None: everything that the role may do."""

    id: str
    role: str
    scopes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class SessionNow:
    """A session that goes on; access tokens from before `tokens_valid_after` are void."""

    role: str
    tokens_valid_after: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """A monitor that changed; the same `mark` is the same change. `row` is what its state is shown from."""

    id: str
    mark: str
    deleted: bool
    incident_id: str | None
    row: Mapping[str, Any]


def heads(connection: Connection, orgs: Sequence[str]) -> dict[str, int]:
    """{organization: number of its last event}; organizations that are gone are absent."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_HEADS, {"orgs": words(orgs)})}


def resumable(connection: Connection, *, org_id: str, after: int) -> bool:
    """Whether all events after this number are still there and young enough."""
    found = connection.exec_driver_sql(_RESUMABLE, {"org_id": org_id, "seq": after + 1})
    return found.first() is not None


def events(connection: Connection, *, org_id: str, after: int, limit: int) -> list[dict[str, Any]]:
    """The next events of an organization, in the order of their numbers (`seq`)."""
    rows = connection.exec_driver_sql(_EVENTS, {"org_id": org_id, "after": after, "limit": limit})
    return [dict(row) for row in rows.mappings()]


def keys_now(connection: Connection, prefixes: Sequence[str]) -> list[KeyNow]:
    """Which of the keys with these prefixes are good; needs no organization."""
    if not prefixes:
        return []
    rows = connection.exec_driver_sql(_KEYS_NOW, {"prefixes": texts(prefixes)})
    return [KeyNow(row[0], row[1], None if row[2] is None else tuple(row[2])) for row in rows]


def sessions_now(connection: Connection, asked: Sequence[tuple[str, str, str]]) -> list[SessionNow | None]:
    """Each of these sessions (user, organization, family), None where it has ended; needs no organization."""
    found: list[SessionNow | None] = [None] * len(asked)
    if asked:
        users, orgs, families = (words(column) for column in zip(*asked, strict=True))
        keys = {"users": users, "orgs": orgs, "families": families}
        for place, role, valid_after in connection.exec_driver_sql(_SESSIONS_NOW, keys):
            found[place - 1] = SessionNow(role, valid_after)
    return found


def snapshot(connection: Connection) -> Snapshot:
    """What is visible now; take it before what is to be followed by `changed`."""
    return Snapshot(*connection.exec_driver_sql(_SNAPSHOT).one())


def changed(connection: Connection, orgs: Sequence[str], *, since: Snapshot, limit: int) -> dict[str, list[Change]]:
    """Monitors of these organizations whose change that snapshot did not see; of one with more, more than `limit`."""
    keys = {"orgs": words(orgs), "next": since.next, "open": since.open, "limit": limit + 1}
    found: dict[str, list[Change]] = {}
    for row in connection.exec_driver_sql(_CHANGED, keys).mappings():
        change = Change(row["id"], row["mark"], row["deleted"], row["incident_id"], dict(row))
        found.setdefault(row["org_id"], []).append(change)
    return found
