"""The ledger of notifications: claim, suppress; `ledger` writes it.

A notification is claimable when it is pending and due, nobody holds a live lease on it, no older one of the same
(incident, channel) is pending, and its channel is enabled. What leaves on its own at a healthy channel is claimed here;
`bundles` claims what leaves together, what a cap counts, and the trials of failing channels. `settlements` writes what
came of the attempts.

Locks: claims never wait (SKIP LOCKED); settlements lock channels, then organizations, then notifications, each in order
of ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import DBAPIError

from common.domain.delivery import LEASE
from common.domain.matching import LedgerStatus, Match
from common.store import fallbacks
from common.store.engine import Connection

#: What a transaction raises when PostgreSQL will never take a statement; an absent database is Unavailable, a lost race
#: Contended.
Refused = DBAPIError

#: No channel's id is smaller.
FIRST = "00000000-0000-0000-0000-000000000000"

#: Channels that one look covers; the next goes on behind them. So its cost has a bound, and nobody is left out.
MOST_CHANNELS = 500

#: Of notification `o`: pending, in the words of the index notifications_in_order. Of all that is partial, only that
#: index is proven by them, so it is the one that is read, whatever the planner believes. With statistics of a quiet
#: time nothing is pending, all indexes of what is pending cost the same, and any may be read to its end for each row.
PENDING_IN_ORDER = "o.status NOT IN ('sent', 'dead', 'suppressed')"

#: When a notification `n` may be claimed, its channel aside: it is the oldest pending one of its (incident, channel),
#: that is the first entry of notifications_in_order from there on.
CLAIMABLE = f"""
n.status = 'pending' AND n.next_attempt_at <= %(now)s AND (n.leased_until IS NULL OR n.leased_until <= %(now)s)
AND n.no = (SELECT o.no FROM notifications o
             WHERE (o.incident_id, o.channel_id) >= (n.incident_id, n.channel_id) AND {PENDING_IN_ORDER}
             ORDER BY o.incident_id, o.channel_id, o.no LIMIT 1)
"""

# Channels that have something pending, in order of ids, by jumping through the index from one to the next.
_WAITING = """
WITH RECURSIVE waiting AS (
  (SELECT channel_id, 1 AS place FROM notifications WHERE status = 'pending' AND channel_id > %(after)s::uuid
    ORDER BY channel_id LIMIT 1)
  UNION ALL
  SELECT (SELECT n.channel_id FROM notifications n WHERE n.status = 'pending' AND n.channel_id > w.channel_id
           ORDER BY n.channel_id LIMIT 1), w.place + 1
    FROM waiting w WHERE w.channel_id IS NOT NULL AND w.place < %(most)s
)
SELECT channel_id::text FROM waiting WHERE channel_id IS NOT NULL
"""

# How many of the caller's attempts are under way at each channel.
_BUSY = "unnest(%(busy)s::uuid[], %(busy_counts)s::int[]) AS b(channel_id, count)"

#: What a claim changes besides its token. A lease that was left behind means that its holder died, perhaps after
#: sending.
LEASED = """
leased_until = %(leased_until)s, attempts = n.attempts + 1,
first_attempt_at = COALESCE(n.first_attempt_at, %(now)s),
unknown_outcome = n.unknown_outcome OR n.lease_token IS NOT NULL
"""
# What earlier events of the incident said of it; only an Alertmanager needs it, to which labels are what an alert is.
_EARLIER = """
CASE WHEN c.type = 'alertmanager' THEN (
  SELECT jsonb_agg(DISTINCT jsonb_build_object(
           'severity', p.snapshot->'incident'->'severity', 'source', p.snapshot->'incident'->'source',
           'name', p.snapshot->'incident'->'name', 'labels', p.snapshot->'incident'->'labels',
           'monitor', p.snapshot->'monitor'->'name'))
    FROM incident_events p
   WHERE p.org_id = n.org_id AND p.incident_id = n.incident_id AND p.version < e.version AND p.snapshot IS NOT NULL)
END
"""
#: All that sending needs, as Claimed has it.
CLAIMED = f"""
n.id::text, n.org_id::text, n.incident_id::text, n.channel_id::text, n.event_type, n.attempts,
n.first_attempt_at, n.lease_token::text, c.type, c.config, c.secrets, c.failures, c.failing_since,
e.id::text, e.at, e.snapshot, e.correlation_id, n.message_id::text, n.route_id::text, {_EARLIER}
"""

# Take the notifications in `chosen`.
_LEASE = f"""
UPDATE notifications n SET lease_token = gen_random_uuid(), {LEASED}
  FROM chosen, channels c, incident_events e
 WHERE n.id = chosen.id AND c.id = n.channel_id AND e.id = n.event_id
RETURNING {CLAIMED}
"""

# What leaves on its own; at a channel without a cap, which would have to count it.
_ALONE = "n.group_key IS NULL AND n.message_id IS NULL"

# From each healthy channel as many as it has room for; channels in random order, so that none is always last when the
# limit is reached.
_CLAIM_DUE = f"""
WITH room AS (
  SELECT c.id, %(per_channel)s - COALESCE(b.count, 0) AS free
    FROM channels c LEFT JOIN {_BUSY} ON b.channel_id = c.id
   WHERE c.id = ANY(%(channels)s::uuid[])
     AND c.enabled AND c.deleted_at IS NULL AND c.failures = 0 AND c.cap_count IS NULL
   ORDER BY random()
), chosen AS (
  SELECT due.id FROM room CROSS JOIN LATERAL (
    SELECT n.id FROM notifications n WHERE n.channel_id = room.id AND {_ALONE} AND {CLAIMABLE}
     ORDER BY n.no
     LIMIT greatest(room.free, 0) FOR UPDATE OF n SKIP LOCKED
  ) due
   LIMIT %(limit)s
)
{_LEASE}
"""

# Of rows that are found by their ids, in words that prove no partial index: else one may be read to its end per id.
_CLAIMABLE_BY_ID = CLAIMABLE.replace("n.status = 'pending'", "n.status || '' = 'pending'")

# The same for notifications that a message named; what does not fit waits for a sweep.
_CLAIM_NAMED = f"""
WITH named AS (
  SELECT n.id, c.id AS channel_id, row_number() OVER (PARTITION BY c.id ORDER BY n.no) AS place
    FROM notifications n JOIN channels c ON c.id = n.channel_id
   WHERE n.id = ANY(%(ids)s::uuid[]) AND c.enabled AND c.deleted_at IS NULL AND c.failures = 0 AND c.cap_count IS NULL
     AND {_ALONE} AND {_CLAIMABLE_BY_ID}
), chosen AS (
  SELECT n.id FROM notifications n JOIN named ON named.id = n.id LEFT JOIN {_BUSY} ON b.channel_id = named.channel_id
   WHERE named.place <= %(per_channel)s - COALESCE(b.count, 0) AND {_CLAIMABLE_BY_ID}
   LIMIT %(limit)s FOR UPDATE OF n SKIP LOCKED
)
{_LEASE}
"""

# What waits for a channel that was disabled or deleted meanwhile.
_SUPPRESS_DISABLED = """
WITH chosen AS (
  SELECT lost.id FROM channels c CROSS JOIN LATERAL (
    SELECT n.id FROM notifications n
     WHERE n.channel_id = c.id AND n.status = 'pending' AND (n.leased_until IS NULL OR n.leased_until <= %(now)s)
     LIMIT 1000 FOR UPDATE OF n SKIP LOCKED
  ) lost
   WHERE NOT c.enabled OR c.deleted_at IS NOT NULL
   LIMIT 1000
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
class Limits:
    """How much one notifier has under way: at one channel, in one claim, and at each channel right now."""

    per_channel: int
    limit: int
    busy: Mapping[str, int]

    def after(self, claims: Sequence[Claimed]) -> Limits:
        """What is left when these are under way too."""
        busy = Counter(self.busy)
        busy.update(claim.channel_id for claim in claims)
        return Limits(self.per_channel, self.limit - len(claims), busy)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A notification that is ours until its lease ends, with its channel and event as they stand.

    `earlier` is, for an Alertmanager, what makes the labels in each earlier event of the incident.
    `others` leave with it, after it, in the same message and under the same lease; they have none themselves.
    """

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
    route_id: str | None = None
    earlier: Sequence[Mapping[str, Any]] | None = None
    others: tuple[Claimed, ...] = ()

    @property
    def together(self) -> tuple[Claimed, ...]:
        """All notifications of the message, in order."""
        return (self, *self.others)


def waiting_channels(connection: Connection, *, after: str = FIRST, most: int = MOST_CHANNELS) -> list[str]:
    """Channels that have something pending, those beyond `after` first and then from the beginning; `most` at most."""
    found = _waiting(connection, after, most)
    if len(found) == most or after == FIRST:
        return found
    return found + [channel for channel in _waiting(connection, FIRST, most - len(found)) if channel <= after]


def claim_due(connection: Connection, channels: Sequence[str], limits: Limits, now: datetime) -> list[Claimed]:
    """Claim what is due at those of these channels that are healthy."""
    parameters = {**_parameters(limits, now), "channels": list(channels)}
    return _claimed(connection.exec_driver_sql(_CLAIM_DUE, parameters))


def claim_named(connection: Connection, ids: Sequence[str], limits: Limits, now: datetime) -> list[Claimed]:
    """Claim those of the named notifications that are claimable, at healthy channels."""
    return _claimed(connection.exec_driver_sql(_CLAIM_NAMED, {**_parameters(limits, now), "ids": list(ids)}))


def suppress_disabled(connection: Connection, now: datetime) -> list[str]:
    """Suppress what waits for channels that are disabled or deleted, and give it to fallbacks; the ids, up to 1000."""
    rows = connection.exec_driver_sql(_SUPPRESS_DISABLED, {"now": now, "reason": Match.CHANNEL_DISABLED.value})
    suppressed = [row[0] for row in rows]
    fallbacks.hand_over(connection, suppressed, now)
    return suppressed


def count_by_status(connection: Connection) -> dict[LedgerStatus, int]:
    """How many rows of the ledger stand where."""
    return {LedgerStatus(row[0]): row[1] for row in connection.exec_driver_sql(_COUNT)}


def lease(now: datetime) -> dict[str, Any]:
    """The parameters of LEASED."""
    return {"now": now, "leased_until": now + LEASE}


def _parameters(limits: Limits, now: datetime) -> dict[str, Any]:
    return {
        **lease(now),
        "per_channel": limits.per_channel,
        "limit": limits.limit,
        "busy": list(limits.busy),
        "busy_counts": list(limits.busy.values()),
    }


def _waiting(connection: Connection, after: str, most: int) -> list[str]:
    return [row[0] for row in connection.exec_driver_sql(_WAITING, {"after": after, "most": most})]


def _claimed(rows: Any) -> list[Claimed]:
    return [Claimed(*row) for row in rows]
