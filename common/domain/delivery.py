"""What follows from one attempt to deliver: for the notification, and for its channel.

Backoff belongs to the channel: its failures in a row decide when it is tried again, whichever of its notifications
that will be. A refusal (4xx) concerns the one notification only; it shows that the channel's receiver is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from common.domain.matching import LedgerStatus

#: Seconds to the next trial after the n-th failure in a row; the last one repeats for the first hour.
INTERVALS_S = (1, 2, 4, 8, 16, 30)
FIRST_HOUR = timedelta(hours=1)
LATER_INTERVAL = timedelta(minutes=5)
MAX_RETRY_AFTER = timedelta(hours=1)

#: Counted from the notification's first attempt; after it the next failure is the last.
GIVE_UP_AFTER = timedelta(hours=24)

#: A channel that fails for so long lets its fallback be told of what waits there, although it may still arrive itself.
FALLBACK_AFTER = timedelta(minutes=5)

#: The whole of one attempt: look-up, connection, TLS, request and response.
SEND_DEADLINE_S = 20.0

#: How long a claimed notification belongs to its claimer: an attempt and its commit (docs/decisions/0012).
LEASE = timedelta(seconds=SEND_DEADLINE_S + 6)

#: While a failing channel is being tried nobody else tries it, for as long as an attempt can take and a little more.
TRIAL = timedelta(seconds=SEND_DEADLINE_S + 5)


class Outcome(StrEnum):
    """What an attempt came to, as stored with it."""

    DELIVERED = "delivered"
    REJECTED = "rejected"  # it will never be taken: repeating it is pointless
    FAILED = "failed"  # it certainly was not taken; later it may be
    UNKNOWN = "unknown"  # it may have been taken: silence or a broken connection after it was sent


class Poison(StrEnum):
    """Why a notification is set aside instead of tried (again), so that it holds up nobody."""

    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - a reason, not a secret
    MESSAGE_INVALID = "message_invalid"
    CHANNEL_TYPE_UNKNOWN = "channel_type_unknown"
    CHANNEL_INVALID = "channel_invalid"
    UNSETTLED = "unsettled"  # tried, but PostgreSQL refuses to store what came of it


class Reason(StrEnum):
    """Why a notification stands where it does after an attempt."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    GONE = "gone"
    RETRYING = "retrying"
    EXPIRED = "expired"


class ChannelChange(StrEnum):
    """What an attempt says about the channel. Listed from the strongest to the weakest."""

    DISABLE = "disable"  # the receiver says that it is gone for good (410)
    WELL = "well"  # it takes notifications: all of its pending ones are due
    FAILING = "failing"  # one more failure in a row
    ANSWERS = "answers"  # it refused this one, so it is there: as well as one that takes them
    NONE = "none"  # nothing was sent


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a channel reports of one attempt. `error` is for people, without secrets.

    `gone`: the receiver asked never to be sent to again. `poison`: nothing was sent, and it never can be.
    """

    outcome: Outcome
    status_code: int | None = None
    error: str = ""
    retry_after_s: float | None = None
    gone: bool = False
    poison: Poison | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stood when the notification was claimed. `failures` are the channel's, in a row."""

    first_attempt_at: datetime
    failures: int = 0
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write: the notification's status and reason, and what becomes of the channel.

    `next_attempt_at` is when to try again; None when there is nothing to try.
    """

    status: LedgerStatus
    reason: Reason | Poison
    channel: ChannelChange
    next_attempt_at: datetime | None = None


def after_attempt(attempt: Attempt, standing: Standing, now: datetime) -> Decision:
    """Decide what follows from an attempt that ended at `now`."""
    if attempt.poison is not None:
        return Decision(LedgerStatus.DEAD, attempt.poison, ChannelChange.NONE)
    if attempt.outcome is Outcome.DELIVERED:
        return Decision(LedgerStatus.SENT, Reason.DELIVERED, ChannelChange.WELL)
    if attempt.gone:
        return Decision(LedgerStatus.DEAD, Reason.GONE, ChannelChange.DISABLE)
    if attempt.outcome is Outcome.REJECTED:
        return Decision(LedgerStatus.DEAD, Reason.REJECTED, ChannelChange.ANSWERS)
    retry_at = now + backoff(attempt, standing, now)
    if now - standing.first_attempt_at >= GIVE_UP_AFTER:
        # The channel still has to wait: its other notifications may be younger.
        return Decision(LedgerStatus.DEAD, Reason.EXPIRED, ChannelChange.FAILING, retry_at)
    return Decision(LedgerStatus.PENDING, Reason.RETRYING, ChannelChange.FAILING, retry_at)


def backoff(attempt: Attempt, standing: Standing, now: datetime) -> timedelta:
    """How long the channel is left alone after this failure; the receiver may ask for longer, up to an hour."""
    failing_since = standing.failing_since or now
    if now - failing_since >= FIRST_HOUR:
        wait = LATER_INTERVAL
    else:
        wait = timedelta(seconds=INTERVALS_S[min(standing.failures, len(INTERVALS_S) - 1)])
    if attempt.retry_after_s is None:
        return wait
    return max(wait, min(timedelta(seconds=attempt.retry_after_s), MAX_RETRY_AFTER))
