"""What follows from an attempt, and who hears of an event: the tables of the pure core."""

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
from common.domain.errors import DomainError
from common.domain.incident import ANNOUNCED, EventType
from common.domain.matching import (
    ANNOUNCING,
    FOLLOWING,
    STATUS_OF,
    Candidate,
    LedgerStatus,
    Match,
    announced,
    recipients,
)

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


# The cast: one channel as each event may find it. (usable, is_default, heard)
_DEFAULT, _HEARD, _HEARD_ONCE_DEFAULT = (True, True, False), (True, False, True), (True, True, True)
_OFF, _OFF_HEARD, _STRANGER = (False, True, False), (False, False, True), (True, False, False)


@pytest.mark.parametrize(
    ("event", "channel", "match"),
    [
        # An opening goes to the defaults.
        (EventType.OPENED, _DEFAULT, Match.DEFAULT_CHANNEL),
        (EventType.OPENED, _STRANGER, None),
        (EventType.OPENED, _OFF, Match.CHANNEL_DISABLED),
        # An escalation goes to them and to whoever heard before.
        (EventType.ESCALATED, _DEFAULT, Match.DEFAULT_CHANNEL),
        (EventType.ESCALATED, _HEARD, Match.ANNOUNCED_HERE),
        (EventType.ESCALATED, _STRANGER, None),
        (EventType.ESCALATED, _OFF_HEARD, Match.CHANNEL_DISABLED),
        # What follows goes to those who heard, whatever the rules say by now, and to nobody else.
        (EventType.ACKNOWLEDGED, _HEARD, Match.ANNOUNCED_HERE),
        (EventType.ACKNOWLEDGED, _DEFAULT, Match.NOT_ANNOUNCED),
        (EventType.RESOLVED, _HEARD, Match.ANNOUNCED_HERE),
        (EventType.RESOLVED, _HEARD_ONCE_DEFAULT, Match.ANNOUNCED_HERE),
        (EventType.RESOLVED, _DEFAULT, Match.NOT_ANNOUNCED),
        (EventType.RESOLVED, _STRANGER, None),
        (EventType.RESOLVED, _OFF_HEARD, Match.CHANNEL_DISABLED),
        (EventType.RESOLVED, _OFF, Match.CHANNEL_DISABLED),
    ],
)
def test_who_hears_of_an_event(event: EventType, channel: tuple[bool, bool, bool], match: Match | None) -> None:
    usable, is_default, heard = channel
    found = recipients(event, [Candidate("c", usable=usable, is_default=is_default)], {"c"} if heard else set())
    assert [recipient.match for recipient in found] == ([] if match is None else [match])


@pytest.mark.parametrize(
    ("status", "unknown_outcome", "heard"),
    [
        (LedgerStatus.SENT, False, True),
        (LedgerStatus.PENDING, False, True),
        (LedgerStatus.DEAD, True, True),  # a timeout, a reset: it may have arrived
        (LedgerStatus.DEAD, False, False),  # refused, or never reached
        (LedgerStatus.SUPPRESSED, False, False),
    ],
)
def test_an_opening_counts_as_heard(status: LedgerStatus, *, unknown_outcome: bool, heard: bool) -> None:
    assert announced(status, unknown_outcome=unknown_outcome) is heard


def test_every_announced_event_either_announces_or_follows() -> None:
    assert ANNOUNCING | FOLLOWING == ANNOUNCED
    assert not ANNOUNCING & FOLLOWING
    assert STATUS_OF.keys() == set(Match)


def test_matching_an_event_that_nobody_announces_is_a_bug() -> None:
    with pytest.raises(DomainError):
        recipients(EventType.COMMENTED, [], set())
