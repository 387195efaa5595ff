"""What follows from an attempt: the tables of the pure core."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from common.domain.delivery import (
    Attempt,
    ChannelChange,
    Outcome,
    Poison,
    Reason,
    Standing,
    after_attempt,
)
from common.domain.matching import LedgerStatus

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
FRESH = Standing(first_attempt_at=NOW)
SENT, DEAD, PENDING = LedgerStatus.SENT, LedgerStatus.DEAD, LedgerStatus.PENDING


def _old(hours: float) -> Standing:
    return Standing(first_attempt_at=NOW - timedelta(hours=hours))


@pytest.mark.parametrize(
    ("attempt", "standing", "status", "reason", "channel"),
    [
        # Taken: done, and the channel is well.
        (Attempt(Outcome.DELIVERED, 200), FRESH, SENT, Reason.DELIVERED, ChannelChange.WELL),
        # Taken at last, after more than a day: it is sent, not expired.
        (Attempt(Outcome.DELIVERED, 200), _old(30), SENT, Reason.DELIVERED, ChannelChange.WELL),
        # Refused: dead at once; a receiver that answers is no failing channel.
        (Attempt(Outcome.REJECTED, 404), FRESH, DEAD, Reason.REJECTED, ChannelChange.ANSWERS),
        # Gone for good: nothing more is sent there.
        (Attempt(Outcome.REJECTED, 410, gone=True), FRESH, DEAD, Reason.GONE, ChannelChange.DISABLE),
        # Not taken: again later.
        (Attempt(Outcome.FAILED, 503), FRESH, PENDING, Reason.RETRYING, ChannelChange.FAILING),
        # Perhaps taken: again as well, the id tells the receiver.
        (Attempt(Outcome.UNKNOWN), FRESH, PENDING, Reason.RETRYING, ChannelChange.FAILING),
        # One minute short of a day, and a day after the first attempt.
        (Attempt(Outcome.FAILED, 503), _old(23.98), PENDING, Reason.RETRYING, ChannelChange.FAILING),
        (Attempt(Outcome.FAILED, 503), _old(24), DEAD, Reason.EXPIRED, ChannelChange.FAILING),
        (Attempt(Outcome.UNKNOWN), _old(24), DEAD, Reason.EXPIRED, ChannelChange.FAILING),
        # Nothing could be sent: dead, and no word about the channel.
        (
            Attempt(Outcome.REJECTED, poison=Poison.SECRET_UNREADABLE),
            FRESH,
            DEAD,
            Poison.SECRET_UNREADABLE,
            ChannelChange.NONE,
        ),
    ],
)
def test_what_follows_from_an_attempt(
    attempt: Attempt, standing: Standing, status: LedgerStatus, reason: Reason | Poison, channel: ChannelChange
) -> None:
    decision = after_attempt(attempt, standing, NOW)
    assert (decision.status, decision.reason, decision.channel) == (status, reason, channel)
    assert (decision.next_attempt_at is not None) is (channel is ChannelChange.FAILING)


@pytest.mark.parametrize(
    ("failures", "failing_for", "retry_after_s", "wait_s"),
    [
        # The first failure, and how the wait grows with the failures before.
        (0, None, None, 1),
        (1, timedelta(seconds=1), None, 2),
        (2, timedelta(seconds=3), None, 4),
        (3, timedelta(seconds=7), None, 8),
        (4, timedelta(seconds=15), None, 16),
        (5, timedelta(seconds=31), None, 30),
        (6, timedelta(seconds=61), None, 30),
        (100, timedelta(minutes=59), None, 30),
        # After the first hour every five minutes.
        (119, timedelta(hours=1), None, 300),
        (500, timedelta(hours=23), None, 300),
        # The receiver asks for more time, for less than it gets anyway, and for more than we honour.
        (0, None, 120.0, 120),
        (5, timedelta(minutes=1), 3.0, 30),
        (0, None, 86_400.0, 3600),
    ],
)
def test_a_failing_channel_is_left_alone_for(
    failures: int, failing_for: timedelta | None, retry_after_s: float | None, wait_s: int
) -> None:
    since = None if failing_for is None else NOW - failing_for
    decision = after_attempt(
        Attempt(Outcome.FAILED, 503, retry_after_s=retry_after_s), Standing(NOW, failures, since), NOW
    )
    assert decision.next_attempt_at == NOW + timedelta(seconds=wait_s)
