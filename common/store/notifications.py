"""The ledger of notifications: write, claim, suppress.

A notification is claimable when it is pending and due, nobody holds a live lease on it, no older one of the same
(incident, channel) is pending, and its channel is enabled. From a healthy channel several are claimed at once, from a
failing one only a single trial when its time has come; trials rotate over incidents, because a failed one becomes due
later than the others. `settlements` writes what came of the attempts.

Locks: claims never wait (SKIP LOCKED); settlements lock channels, then notifications, each in order of ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import DBAPIError
from uuid_utils import uuid7

from common.domain.delivery import LEASE, TRIAL
from common.domain.incident import EventType
from common.domain.matching import LedgerStatus, Match
from common.store.engine import Connection

#: What a transaction raises when PostgreSQL will never take a statement; an absent database is Unavailable, a lost race
#: Contended.
Refused = DBAPIError

# One row per (event, channel), in the order given: `no` is the order of delivery within an incident.
_WRITE = """
INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, reason, next_attempt_at)
SELECT u.id, u.org_id, u.event_id, u.incident_id, u.channel_id, u.event_type, u.status, u.reason, %(now)s
  FROM unnest(%(ids)s::uuid[], %(orgs)s::uuid[], %(events)s::uuid[], %(incidents)s::uuid[], %(channels)s::uuid[],
              %(types)s::text[], %(statuses)s::text[], %(reasons)s::text[])
       WITH ORDINALITY AS u(id, org_id, event_id, incident_id, channel_id, event_type, status, reason, n)
 ORDER BY u.n
    ON CONFLICT (event_id, channel_id) DO NOTHING
RETURNING id::text, status
"""

# When a notification `n` may be claimed, its channel aside: it is the oldest pending one of its (incident, channel),
# that is the first entry of notifications_in_order from there on. Said so oddly because the planner, with statistics
# of a quiet time, runs the plain NOT EXISTS by the channel's index: over 30 s with a backlog of 25,000, this 54 ms.
_CLAIMABLE = """
n.status = 'pending' AND n.next_attempt_at <= %(now)s AND (n.leased_until IS NULL OR n.leased_until <= %(now)s)
AND n.no = (SELECT o.no FROM notifications o
             WHERE (o.incident_id, o.channel_id) >= (n.incident_id, n.channel_id) AND o.status = 'pending'
             ORDER BY o.incident_id, o.channel_id, o.no LIMIT 1)
"""

# Channels that have something pending, by jumping through the index from one to the next.
_WAITING = """
waiting AS (
  (SELECT channel_id FROM notifications WHERE status = 'pending' ORDER BY channel_id LIMIT 1)
  UNION ALL
  SELECT (SELECT n.channel_id FROM notifications n WHERE n.status = 'pending' AND n.channel_id > w.channel_id
           ORDER BY n.channel_id LIMIT 1)
    FROM waiting w WHERE w.channel_id IS NOT NULL
)
"""

# How many of the caller's attempts are under way at each channel.
_BUSY = "unnest(%(busy)s::uuid[], %(busy_counts)s::int[]) AS b(channel_id, count)"

# Take the notifications in `chosen` and say all that sending them needs. A lease that was left behind means that its
# holder died, perhaps after sending.
_LEASE = """
UPDATE notifications n
   SET lease_token = gen_random_uuid(), leased_until = %(leased_until)s, attempts = n.attempts + 1,
       first_attempt_at = COALESCE(n.first_attempt_at, %(now)s),
       unknown_outcome = n.unknown_outcome OR n.lease_token IS NOT NULL
  FROM chosen, channels c, incident_events e
 WHERE n.id = chosen.id AND c.id = n.channel_id AND e.id = n.event_id
RETURNING n.id::text, n.org_id::text, n.incident_id::text, n.channel_id::text, n.event_type, n.attempts,
          n.first_attempt_at, n.lease_token::text, c.type, c.config, c.secrets, c.failures, c.failing_since,
          e.id::text, e.at, e.snapshot, e.correlation_id
"""

# From each healthy channel as many as it has room for; channels in random order, so that none is always last when the
# limit is reached.
_CLAIM_DUE = f"""
WITH RECURSIVE {_WAITING}, room AS (
  SELECT c.id, %(per_channel)s - COALESCE(b.count, 0) AS free
    FROM waiting w JOIN channels c ON c.id = w.channel_id LEFT JOIN {_BUSY} ON b.channel_id = c.id
   WHERE c.enabled AND c.deleted_at IS NULL AND c.failures = 0
   ORDER BY random()
), chosen AS (
  SELECT due.id FROM room CROSS JOIN LATERAL (
    SELECT n.id FROM notifications n WHERE n.channel_id = room.id AND {_CLAIMABLE}
     LIMIT greatest(room.free, 0) FOR UPDATE OF n SKIP LOCKED
  ) due
   LIMIT %(limit)s
)
{_LEASE}
"""

# The same for notifications that a message named; what does not fit waits for a sweep.
_CLAIM_NAMED = f"""
WITH named AS (
  SELECT n.id, c.id AS channel_id, row_number() OVER (PARTITION BY c.id ORDER BY n.no) AS place
    FROM notifications n JOIN channels c ON c.id = n.channel_id
   WHERE n.id = ANY(%(ids)s::uuid[]) AND c.enabled AND c.deleted_at IS NULL AND c.failures = 0 AND {_CLAIMABLE}
), chosen AS (
  SELECT n.id FROM notifications n JOIN named ON named.id = n.id LEFT JOIN {_BUSY} ON b.channel_id = named.channel_id
   WHERE named.place <= %(per_channel)s - COALESCE(b.count, 0) AND {_CLAIMABLE}
   LIMIT %(limit)s FOR UPDATE OF n SKIP LOCKED
)
{_LEASE}
"""

# From each failing channel whose time has come the notification that was tried longest ago. The channel's row is locked
# and its next trial put off, so that two notifiers do not try it at once.
_CLAIM_TRIALS = f"""
WITH ready AS (
  SELECT c.id FROM channels c
   WHERE c.failures > 0 AND c.enabled AND c.deleted_at IS NULL AND (c.retry_at IS NULL OR c.retry_at <= %(now)s)
   LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
), chosen AS (
  SELECT trial.id, ready.id AS channel_id FROM ready CROSS JOIN LATERAL (
    SELECT n.id FROM notifications n WHERE n.channel_id = ready.id AND {_CLAIMABLE}
     ORDER BY n.next_attempt_at, n.no LIMIT 1 FOR UPDATE OF n SKIP LOCKED
  ) trial
), put_off AS (
  UPDATE channels c SET retry_at = %(trial_until)s FROM chosen WHERE c.id = chosen.channel_id
)
{_LEASE}
"""

# What waits for a channel that was disabled or deleted meanwhile.
_SUPPRESS_DISABLED = f"""
WITH RECURSIVE {_WAITING}, chosen AS (
  SELECT n.id FROM waiting w JOIN channels c ON c.id = w.channel_id JOIN notifications n ON n.channel_id = c.id
   WHERE (NOT c.enabled OR c.deleted_at IS NOT NULL) AND n.status = 'pending'
     AND (n.leased_until IS NULL OR n.leased_until <= %(now)s)
   LIMIT 1000 FOR UPDATE OF n SKIP LOCKED
)
UPDATE notifications n
   SET status = 'suppressed', reason = %(reason)s, unknown_outcome = n.unknown_outcome OR n.lease_token IS NOT NULL,
       lease_token = NULL, leased_until = NULL
  FROM chosen WHERE n.id = chosen.id
RETURNING n.id::text
"""

# The whole ledger by status.
_COUNT = "SELECT status, count(*) FROM notifications GROUP BY status"


@dataclass(frozen=True, slots=True)
class NewNotification:
    """A ledger row to write; `match` is why it is pending or suppressed."""

    org_id: str
    event_id: str
    incident_id: str
    channel_id: str
    event_type: EventType
    status: LedgerStatus
    match: Match


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one notifier has under way: at one channel, in one claim, and at each channel right now."""

    per_channel: int
    limit: int
    busy: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A notification that is ours until its lease ends, with its channel and event as they stand."""

    id: str
    org_id: str
    incident_id: str
    channel_id: str
    event_type: str
    number: int
    first_attempt_at: datetime
    lease_token: str
    channel_type: str
    channel_config: Mapping[str, Any]
    channel_secrets: str | None
    failures: int
    failing_since: datetime | None
    event_id: str
    event_at: datetime
    snapshot: Mapping[str, Any] | None
    correlation_id: str
    message_id: str | None = None


def write(connection: Connection, rows: Sequence[NewNotification], now: datetime) -> list[str]:
    """Write ledger rows in delivery order; the ids of the pending ones. A row that exists already stays as it is."""
    if not rows:
        return []
    written = connection.exec_driver_sql(
        _WRITE,
        {
            "now": now,
            "ids": [str(uuid7()) for _ in rows],
            "orgs": [row.org_id for row in rows],
            "events": [row.event_id for row in rows],
            "incidents": [row.incident_id for row in rows],
            "channels": [row.channel_id for row in rows],
            "types": [row.event_type.value for row in rows],
            "statuses": [row.status.value for row in rows],
            "reasons": [row.match.value if row.status is LedgerStatus.SUPPRESSED else None for row in rows],
        },
    )
    return [row[0] for row in written if row[1] == LedgerStatus.PENDING]


def claim_due(connection: Connection, limits: Limits, now: datetime) -> list[Claimed]:
    """Claim what is due at healthy channels."""
    return _claimed(connection.exec_driver_sql(_CLAIM_DUE, _parameters(limits, now)))


def claim_named(connection: Connection, ids: Sequence[str], limits: Limits, now: datetime) -> list[Claimed]:
    """Claim those of the named notifications that are claimable, at healthy channels."""
    return _claimed(connection.exec_driver_sql(_CLAIM_NAMED, {**_parameters(limits, now), "ids": list(ids)}))


def claim_trials(connection: Connection, limits: Limits, now: datetime) -> list[Claimed]:
    """Claim one notification of each failing channel that may be tried again."""
    return _claimed(connection.exec_driver_sql(_CLAIM_TRIALS, {**_parameters(limits, now), "trial_until": now + TRIAL}))


def suppress_disabled(connection: Connection, now: datetime) -> list[str]:
    """Suppress what waits for channels that are disabled or deleted; the ids, up to 1000."""
    rows = connection.exec_driver_sql(_SUPPRESS_DISABLED, {"now": now, "reason": Match.CHANNEL_DISABLED.value})
    return [row[0] for row in rows]


def count_by_status(connection: Connection) -> dict[LedgerStatus, int]:
    """How many rows of the ledger stand where."""
    return {LedgerStatus(row[0]): row[1] for row in connection.exec_driver_sql(_COUNT)}


def _parameters(limits: Limits, now: datetime) -> dict[str, Any]:
    return {
        "now": now,
        "leased_until": now + LEASE,
        "per_channel": limits.per_channel,
        "limit": limits.limit,
        "busy": list(limits.busy),
        "busy_counts": list(limits.busy.values()),
    }


def _claimed(rows: Any) -> list[Claimed]:
    return [Claimed(*row) for row in rows]
