"""Notifications that are about to leave and whose incident is silenced by now: held back, as if it had been before.

What is claimed here was pending when the silence began, or has come back: it waited for its group, for a cap or for a
channel that fails. When the silence ends, what is still wrong is announced (silence_ends).

Whoever holds something back holds the silence too, so that its end either finds what was held back or has come before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from common.domain.matching import Hold
from common.domain.routing import labels_of
from common.store.arrays import words
from common.store.engine import Connection
from common.store.notifications import Claimed

# Those of these organizations in which anything is silenced now, with the versions of their rules.
_SILENCING = """
SELECT o.id::text, o.routing_version FROM organizations o
 WHERE o.id = ANY(%(orgs)s::uuid[]) AND EXISTS (
   SELECT 1 FROM silences s
    WHERE s.org_id = o.id AND s.ends_at > %(now)s AND s.starts_at <= %(now)s AND s.settled_at IS NULL)
"""

# Incidents as the relay sees them, but for the severity, which is the event's.
_INCIDENTS = """
SELECT id::text, labels, severity, source, COALESCE(NULLIF(name, ''), title) FROM incidents
 WHERE id = ANY(%(incidents)s::uuid[])
"""

# Silences that are still on, held until the transaction ends. One that is being changed or settled is not waited for.
_HOLD = """
SELECT id::text FROM silences
 WHERE id = ANY(%(silences)s::uuid[]) AND ends_at > %(now)s AND settled_at IS NULL
   FOR SHARE SKIP LOCKED
"""

# As if it had never been claimed; what was tried may have arrived, and that stays written.
_SUPPRESS = """
UPDATE notifications n
   SET status = 'suppressed', reason = u.reason, silence_id = u.silence_id, held_until = u.held_until,
       attempts = n.attempts - 1, message_id = NULL, first_attempt_at = NULL, lease_token = NULL, leased_until = NULL
  FROM unnest(%(ids)s::uuid[], %(silences)s::uuid[], %(reasons)s::text[], %(untils)s::timestamptz[])
       AS u(id, silence_id, reason, held_until)
 WHERE n.id = u.id
"""

# What followed these in their own messages.
_RELEASE = """
UPDATE notifications n SET attempts = n.attempts - 1, message_id = NULL, first_attempt_at = NULL, lease_token = NULL,
                           leased_until = NULL
 WHERE n.id = ANY(%(ids)s::uuid[]) AND n.lease_token IS NOT NULL
"""

# To be looked at again in a moment, as it was before the claim, or as if it had never been tried.
_PUT_BACK = """
UPDATE notifications n
   SET attempts = n.attempts - 1, next_attempt_at = %(now)s + interval '1 second', lease_token = NULL,
       leased_until = NULL,
       message_id = CASE WHEN %(anew)s OR n.first_attempt_at = %(now)s THEN NULL ELSE n.message_id END,
       first_attempt_at = CASE WHEN %(anew)s OR n.first_attempt_at = %(now)s THEN NULL ELSE n.first_attempt_at END
 WHERE n.id = ANY(%(ids)s::uuid[])
"""

# New messages that do not leave do not count, and a failing channel is tried with another one. Who claimed these holds
# the channels.
_UNCOUNT = """
UPDATE channels c
   SET cap_used = CASE WHEN c.cap_count IS NULL THEN c.cap_used ELSE greatest(0, c.cap_used - u.fresh) END,
       retry_at = CASE WHEN c.failures > 0 THEN %(now)s ELSE c.retry_at END
  FROM unnest(%(channels)s::uuid[], %(fresh)s::int[]) AS u(id, fresh)
 WHERE c.id = u.id AND (c.cap_count IS NOT NULL OR c.failures > 0)
"""


def silencing(connection: Connection, orgs: Collection[str], now: datetime) -> dict[str, int]:
    """{organization: routing_version} of those in which anything is silenced."""
    rows = connection.exec_driver_sql(_SILENCING, {"orgs": words(orgs), "now": now})
    return {row[0]: row[1] for row in rows}


def labels(connection: Connection, claims: Sequence[Claimed]) -> dict[str, dict[str, str]]:
    """{notification: all that matchers see of its incident}."""
    rows = connection.exec_driver_sql(_INCIDENTS, {"incidents": words({claim.incident_id for claim in claims})})
    incidents = {row[0]: row[1:] for row in rows}
    found = {}
    for claim in claims:
        own, severity, source, name = incidents[claim.incident_id]
        told = (claim.snapshot or {}).get("incident") or {}
        found[claim.id] = labels_of(own, severity=told.get("severity") or severity, source=source, name=name)
    return found


def hold(connection: Connection, silences: Collection[str], now: datetime) -> set[str]:
    """Those of these silences that are still on and that nobody is changing: they stay until the transaction ends."""
    rows = connection.exec_driver_sql(_HOLD, {"silences": words(silences), "now": now})
    return {row[0] for row in rows}


def suppress(connection: Connection, held: Mapping[str, Hold], until: Mapping[str, datetime]) -> None:
    """These claimed notifications are held back, {notification: by what}; `until` is when to look at them again."""
    untils = [until[id_].isoformat() if id_ in until else None for id_ in held]
    parameters = {
        "ids": words(held),
        "silences": words(hold.by for hold in held.values()),
        "reasons": words(hold.reason for hold in held.values()),
        "untils": words(untils),
    }
    connection.exec_driver_sql(_SUPPRESS, parameters)


def release(connection: Connection, ids: Collection[str]) -> None:
    """These, which are not told either, may have been claimed with them."""
    if ids:
        connection.exec_driver_sql(_RELEASE, {"ids": words(ids)})


def put_back(connection: Connection, ids: Collection[str], now: datetime, *, anew: bool = False) -> None:
    """These claimed notifications are looked at again in a moment; `anew`: as if they had never been tried."""
    if ids:
        connection.exec_driver_sql(_PUT_BACK, {"ids": words(ids), "now": now, "anew": anew})


def uncount(connection: Connection, fresh: Mapping[str, int], now: datetime) -> None:
    """Messages that were claimed do not leave: {channel: how many of them were new}."""
    if fresh:
        counts = "{" + ",".join(map(str, fresh.values())) + "}"
        connection.exec_driver_sql(_UNCOUNT, {"channels": words(fresh), "fresh": counts, "now": now})
