"""What came of attempts: the notifications, the attempts' own rows, the channels' health, and what follows from these.

All of it is one transaction. A settlement is that of a whole message and counts only while its lease is still the
claimer's. The attempt itself is recorded in any case. Locks: channels, then organizations, then notifications, each in
order of ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from uuid_utils import uuid7

from common.domain.delivery import Attempt, ChannelChange, Decision, Outcome, Poison
from common.domain.matching import ANNOUNCING, LedgerStatus
from common.store import fallbacks, following, notices, reminders
from common.store.engine import Connection
from common.store.notifications import Claimed

#: A receiver that refuses one notification is there and listens: what it was failing of is over.
_WELL = (ChannelChange.WELL, ChannelChange.ANSWERS)

# Channels first and in one order, so that settlers wait for each other instead of deadlocking.
_LOCK_CHANNELS = "SELECT 1 FROM channels WHERE id = ANY(%(channels)s::uuid[]) ORDER BY id FOR NO KEY UPDATE"

# Settle what is still ours. A row whose lease is another's is left alone: that one settles it.
_SETTLE = """
WITH ours AS (
  SELECT n.id FROM notifications n JOIN unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS u(id, token) ON u.id = n.id
   WHERE n.lease_token = u.token
   ORDER BY n.id FOR UPDATE OF n
)
UPDATE notifications n
   SET status = u.status, reason = u.reason, unknown_outcome = n.unknown_outcome OR u.unknown,
       next_attempt_at = COALESCE(u.next_attempt_at, n.next_attempt_at), sent_at = u.sent_at,
       lease_token = NULL, leased_until = NULL
  FROM ours JOIN unnest(%(ids)s::uuid[], %(statuses)s::text[], %(reasons)s::text[], %(unknowns)s::bool[],
                        %(nexts)s::timestamptz[], %(sents)s::timestamptz[])
                 AS u(id, status, reason, unknown, next_attempt_at, sent_at) ON u.id = ours.id
 WHERE n.id = ours.id
RETURNING n.id::text
"""

# Every attempt that was made.
_RECORD = """
INSERT INTO delivery_attempts (id, org_id, notification_id, number, outcome, status_code, error, duration_ms, at,
                               message_id)
SELECT * FROM unnest(%(attempt_ids)s::uuid[], %(orgs)s::uuid[], %(ids)s::uuid[], %(numbers)s::int[],
                     %(outcomes)s::text[], %(codes)s::int[], %(errors)s::text[], %(durations)s::real[],
                     %(ats)s::timestamptz[], %(messages)s::uuid[])
"""

# The channels' health. Several attempts that fail at the same time are one failure in a row: only the first of them
# finds the count that it was claimed with.
_SAVE_HEALTH = """
UPDATE channels c
   SET failures = CASE WHEN u.is_well THEN 0 WHEN u.change = 'failing' THEN c.failures + 1 ELSE c.failures END,
       failing_since = CASE WHEN u.is_well THEN NULL WHEN u.change = 'failing' THEN COALESCE(c.failing_since, %(now)s)
                            ELSE c.failing_since END,
       retry_at = CASE WHEN u.is_well THEN NULL ELSE u.retry_at END,
       enabled = c.enabled AND u.change <> 'disable',
       disabled_reason = CASE u.change WHEN 'disable' THEN 'gone' ELSE c.disabled_reason END,
       updated_at = CASE u.change WHEN 'disable' THEN %(now)s ELSE c.updated_at END
  FROM unnest(%(channels)s::uuid[], %(changes)s::text[], %(well)s::bool[], %(seen)s::int[], %(retries)s::timestamptz[])
       AS u(id, change, is_well, seen, retry_at)
 WHERE c.id = u.id
   AND CASE u.change WHEN 'failing' THEN c.failures = u.seen WHEN 'disable' THEN c.enabled ELSE c.failures > 0 END
RETURNING c.id::text, u.change, u.is_well
"""

# A channel that is well again gets all it missed at once; what was never tried waits for something else (its group).
# Rows that somebody is claiming right now need no help.
_MAKE_DUE = """
UPDATE notifications SET next_attempt_at = %(now)s
 WHERE id IN (SELECT id FROM notifications
               WHERE channel_id = ANY(%(channels)s::uuid[]) AND status = 'pending' AND next_attempt_at > %(now)s
                 AND first_attempt_at IS NOT NULL AND lease_token IS NULL
                 FOR UPDATE SKIP LOCKED)
"""

# Whether something can be claimed at these channels now that these attempts are over.
_MORE = """
SELECT EXISTS (SELECT 1 FROM notifications
                WHERE channel_id = ANY(%(channels)s::uuid[]) AND status = 'pending' AND next_attempt_at <= %(now)s
                  AND (leased_until IS NULL OR leased_until <= %(now)s))
"""

# A row that cannot be settled must not be sent again and again.
_SET_ASIDE = """
UPDATE notifications SET status = 'dead', reason = %(reason)s, unknown_outcome = true, lease_token = NULL,
                         leased_until = NULL
 WHERE channel_id = %(channel)s AND status = 'pending' AND lease_token = %(token)s
"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """One attempt, made of a claim with all that left in its message, and what follows from it."""

    claim: Claimed
    attempt: Attempt
    decision: Decision
    duration_ms: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Settled:
    """The ids that were still ours, and whether more can be claimed at the same channels."""

    ours: frozenset[str]
    more: bool


def settle(connection: Connection, settlements: Sequence[Settlement], now: datetime) -> Settled:
    """Write what came of these attempts."""
    channels = sorted({s.claim.channel_id for s in settlements})
    connection.exec_driver_sql(_LOCK_CHANNELS, {"channels": channels})
    notices.lock(connection, {s.claim.org_id for s in settlements if s.decision.channel is ChannelChange.DISABLE})
    ours = _settle(connection, settlements)
    _record(connection, settlements)
    winners = [s for s in settlements if s.claim.id in ours]
    gone = _save_health(connection, winners, now)
    notices.channels_gone(connection, gone, now)
    handed_over = _bury(connection, [s for s in winners if s.decision.status is LedgerStatus.DEAD], now)
    reminders.plan(connection, [claim for s in winners if _sent(s) for claim in s.claim.together], now)
    quiet = {s.claim.channel_id for s in winners if s.decision.channel is ChannelChange.FAILING}
    # A failing channel is tried again in its time; only the others are worth another look at once.
    more = connection.exec_driver_sql(_MORE, {"channels": [c for c in channels if c not in quiet], "now": now}).scalar()
    return Settled(ours, more=handed_over or bool(more))


def _settle(connection: Connection, settlements: Sequence[Settlement]) -> frozenset[str]:
    rows = [(s, claim) for s in settlements for claim in s.claim.together]
    settled = connection.exec_driver_sql(
        _SETTLE,
        {
            "ids": [claim.id for _, claim in rows],
            "tokens": [claim.lease_token for _, claim in rows],
            "statuses": [s.decision.status.value for s, _ in rows],
            "reasons": [None if _sent(s) else s.decision.reason.value for s, _ in rows],
            "unknowns": [s.attempt.outcome is Outcome.UNKNOWN for s, _ in rows],
            "nexts": [s.decision.next_attempt_at for s, _ in rows],
            "sents": [s.at if _sent(s) else None for s, _ in rows],
        },
    )
    return frozenset(row[0] for row in settled)


def _sent(settlement: Settlement) -> bool:
    return settlement.decision.status is LedgerStatus.SENT


def _record(connection: Connection, settlements: Sequence[Settlement]) -> None:
    rows = [(s, claim) for s in settlements for claim in s.claim.together]
    connection.exec_driver_sql(
        _RECORD,
        {
            "attempt_ids": [str(uuid7()) for _ in rows],
            "orgs": [claim.org_id for _, claim in rows],
            "ids": [claim.id for _, claim in rows],
            "numbers": [claim.number for _, claim in rows],
            "outcomes": [s.attempt.outcome.value for s, _ in rows],
            "codes": [s.attempt.status_code for s, _ in rows],
            "errors": [s.attempt.error or None for s, _ in rows],
            "durations": [s.duration_ms for s, _ in rows],
            "ats": [s.at for s, _ in rows],
            "messages": [s.claim.message_id or s.claim.id for s, _ in rows],
        },
    )


def _save_health(connection: Connection, settlements: Sequence[Settlement], now: datetime) -> list[str]:
    """One change per channel, the strongest of what its attempts say; the channels that were disabled by it."""
    strength = list(ChannelChange)
    strongest: dict[str, Settlement] = {}
    for settlement in settlements:
        best = strongest.get(settlement.claim.channel_id)
        if best is None or strength.index(settlement.decision.channel) < strength.index(best.decision.channel):
            strongest[settlement.claim.channel_id] = settlement
    chosen = list(strongest.values())
    rows = connection.exec_driver_sql(
        _SAVE_HEALTH,
        {
            "now": now,
            "channels": [s.claim.channel_id for s in chosen],
            "changes": [s.decision.channel.value for s in chosen],
            "well": [s.decision.channel in _WELL for s in chosen],
            "seen": [s.claim.failures for s in chosen],
            "retries": [s.decision.next_attempt_at or now for s in chosen],
        },
    ).all()
    recovered = [row[0] for row in rows if row[2]]
    if recovered:
        connection.exec_driver_sql(_MAKE_DUE, {"channels": recovered, "now": now})
    return [row[0] for row in rows if row[1] == ChannelChange.DISABLE]


def _bury(connection: Connection, settlements: Sequence[Settlement], now: datetime) -> bool:
    """What follows from deaths: nobody is told the end of what nobody heard, and the fallback is told what was not.

    Whether a fallback got anything.
    """
    dead = [claim for s in settlements for claim in s.claim.together if claim.event_type in ANNOUNCING]
    if not dead:
        return False
    following.give_up(connection, dead)
    return bool(fallbacks.hand_over(connection, [claim.id for claim in dead], now))


def set_aside(connection: Connection, claim: Claimed) -> None:
    """Give up on a message whose settlement PostgreSQL refuses, in the plainest words; it may have arrived."""
    connection.exec_driver_sql(
        _SET_ASIDE, {"channel": claim.channel_id, "token": claim.lease_token, "reason": Poison.UNSETTLED.value}
    )
