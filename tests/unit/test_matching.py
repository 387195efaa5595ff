"""Who hears of an event: the tables of the pure core."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from common.domain.errors import DomainError
from common.domain.groups import GroupState, grouping_of
from common.domain.incident import ANNOUNCED, TOLD_AS, EventType
from common.domain.labels import Matcher, Op
from common.domain.matching import (
    ANNOUNCING,
    FOLLOWING,
    STATUS_OF,
    Announcement,
    LedgerStatus,
    Match,
    Recipient,
    Told,
    announced,
    note,
    recipients,
)
from common.domain.routing import Grouping, Route
from common.domain.rules import Channels, Rules, Silence

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)

ROUTE = Route("r1", "shop", (Matcher("team", Op.EQ, "shop"),), ("shop", "both"), cooldown=HOUR)
SECOND = Route("r2", "all", (), ("all", "both"))
#: The cast of channels: those that routes name, the default one, and `off`, a default one that is disabled.
CHANNELS = Channels({"shop": True, "both": True, "all": True, "default": True, "off": False}, ("default", "off"))
RULES = Rules([ROUTE, SECOND], [], CHANNELS)
UNROUTED = Rules([], [], CHANNELS)
SHOP = {"team": "shop"}

HEARD, UNHEARD = Announcement(heard=True), Announcement(heard=False)


def _decide(
    type_: EventType, known: Mapping[str, Announcement] | None = None, rules: Rules = UNROUTED, **told: object
) -> dict[str, Match]:
    subject = Told(type_, SHOP, rules.lead(SHOP) if type_ in ANNOUNCING else {}, **told)  # type: ignore[arg-type]
    return {row.channel_id: row.match for row in recipients(subject, rules, known or {})}


@pytest.mark.parametrize(
    ("event", "known", "rows"),
    [
        # An opening goes to the defaults, as far as they are on.
        (EventType.OPENED, {}, {"default": Match.DEFAULT_CHANNEL, "off": Match.CHANNEL_DISABLED}),
        # An escalation too, and to whoever heard before: once each.
        (
            EventType.ESCALATED,
            {"all": HEARD, "default": HEARD},
            {"default": Match.ANNOUNCED_HERE, "all": Match.ANNOUNCED_HERE, "off": Match.CHANNEL_DISABLED},
        ),
        # Whoever did not hear the opening hears the worse one; whoever is no default and did not hear does not.
        (
            EventType.ESCALATED,
            {"all": UNHEARD, "default": UNHEARD},
            {"default": Match.DEFAULT_CHANNEL, "off": Match.CHANNEL_DISABLED},
        ),
        # What follows goes to those who heard, whatever the rules say by now, and to nobody else.
        (
            EventType.RESOLVED,
            {"all": HEARD, "shop": UNHEARD, "off": HEARD, "deleted": HEARD},
            {
                "all": Match.ANNOUNCED_HERE,
                "shop": Match.NOT_ANNOUNCED,
                "off": Match.CHANNEL_DISABLED,
                "deleted": Match.CHANNEL_DISABLED,
                "default": Match.NOT_ANNOUNCED,  # it came later
            },
        ),
        (
            EventType.ACKNOWLEDGED,
            {"default": HEARD, "off": UNHEARD},
            {"default": Match.ANNOUNCED_HERE, "off": Match.CHANNEL_DISABLED},
        ),
        # It was led by a route: the default channels are nobody's business.
        (EventType.RESOLVED, {"all": Announcement(heard=True, route_id="r2")}, {"all": Match.ANNOUNCED_HERE}),
    ],
)
def test_who_hears_of_an_event(event: EventType, known: dict[str, Announcement], rows: dict[str, Match]) -> None:
    assert _decide(event, known) == rows


@pytest.mark.parametrize(
    ("event", "told", "rows"),
    [
        # Every channel once, by the first route that names it; the defaults hear nothing.
        (EventType.OPENED, {}, {"shop": Match.ROUTED, "both": Match.ROUTED, "all": Match.ROUTED}),
        # A silence holds back all of them.
        (
            EventType.OPENED,
            {"silence_id": "s"},
            {"shop": Match.SILENCED, "both": Match.SILENCED, "all": Match.SILENCED},
        ),
        # A cooldown is a route's: the other route's channels hear.
        (
            EventType.OPENED,
            {"cooling": {"r1"}},
            {"shop": Match.COOLDOWN, "both": Match.COOLDOWN, "all": Match.ROUTED},
        ),
        # A silence goes before a cooldown.
        (
            EventType.OPENED,
            {"cooling": {"r1"}, "silence_id": "s"},
            {"shop": Match.SILENCED, "both": Match.SILENCED, "all": Match.SILENCED},
        ),
        # A worsening is held back by a silence, but by no cooldown.
        (EventType.ESCALATED, {"cooling": {"r1"}}, {"shop": Match.ROUTED, "both": Match.ROUTED, "all": Match.ROUTED}),
    ],
)
def test_where_routes_lead_an_event(event: EventType, told: dict[str, object], rows: dict[str, Match]) -> None:
    assert _decide(event, rules=RULES, **told) == rows


def test_a_channel_that_is_off_goes_before_every_other_reason() -> None:
    rules = Rules([ROUTE], [], Channels({"shop": False, "both": True}, ()))
    found = recipients(Told(EventType.OPENED, SHOP, rules.lead(SHOP), {"r1"}, "s"), rules, {})
    assert [(row.channel_id, row.match, row.silence_id) for row in found] == [
        ("shop", Match.CHANNEL_DISABLED, None),
        ("both", Match.SILENCED, "s"),
    ]


def test_a_route_whose_channels_are_all_gone_leaves_its_events_to_the_defaults() -> None:
    rules = Rules([ROUTE], [], Channels({"default": True}, ("default",)))
    assert rules.lead(SHOP) == {}
    assert _decide(EventType.OPENED, rules=rules) == {"default": Match.DEFAULT_CHANNEL}


def test_rows_carry_what_led_them_and_later_events_what_led_the_first() -> None:
    grouped = Route("r1", "shop", (), ("shop",), grouping=Grouping(("team",), HOUR, HOUR))
    rules = Rules([grouped], [], CHANNELS)
    opened = Told(EventType.OPENED, SHOP, rules.lead(SHOP))
    (first,) = recipients(opened, rules, {})
    assert (first.route_id, first.group_key) == ("r1", grouped.group_key(SHOP))

    known: dict[str, Announcement] = {}
    note(known, opened, [first])
    (end,) = recipients(Told(EventType.RESOLVED, {"team": "other"}), UNROUTED, known)
    assert (end.match, end.route_id, end.group_key) == (Match.ANNOUNCED_HERE, "r1", first.group_key)


def test_an_announcement_that_is_heard_is_kept_and_one_that_is_not_is_replaced() -> None:
    told = Told(EventType.ESCALATED, SHOP)
    known = {"a": Announcement(heard=True, route_id="r1"), "b": UNHEARD}
    note(known, told, [Recipient("a", Match.SILENCED, "r2"), Recipient("b", Match.ROUTED, "r2")])
    assert known == {"a": Announcement(heard=True, route_id="r1"), "b": Announcement(heard=True, route_id="r2")}
    note(known, Told(EventType.RESOLVED, SHOP), [Recipient("c", Match.NOT_ANNOUNCED)])
    assert "c" not in known


@pytest.mark.parametrize(
    ("route_id", "silence_id", "rows"),
    [
        ("r1", None, {"shop": Match.ANNOUNCED_HERE, "off": Match.CHANNEL_DISABLED}),
        ("r1", "s", {"shop": Match.SILENCED, "off": Match.CHANNEL_DISABLED}),
        # An acknowledgement has expired: that is no route's business.
        (
            None,
            None,
            {"shop": Match.ANNOUNCED_HERE, "all": Match.ANNOUNCED_HERE, "default": Match.ANNOUNCED_HERE,
             "off": Match.CHANNEL_DISABLED},
        ),
    ],
)  # fmt: skip
def test_a_reminder_goes_to_those_who_heard_by_its_route(
    route_id: str | None, silence_id: str | None, rows: dict[str, Match]
) -> None:
    by_route, by_other = Announcement(heard=True, route_id="r1"), Announcement(heard=True, route_id="r2")
    known = {"shop": by_route, "all": by_other, "both": Announcement(heard=False, route_id="r1"), "default": HEARD}
    known["off"] = by_route
    assert _decide(EventType.REMINDER, known, RULES, route_id=route_id, silence_id=silence_id) == rows


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


def test_every_announced_event_announces_follows_or_reminds() -> None:
    assert ANNOUNCING | FOLLOWING | {EventType.REMINDER} == ANNOUNCED - set(TOLD_AS)
    assert not ANNOUNCING & FOLLOWING
    assert STATUS_OF.keys() == set(Match)


def test_matching_an_event_that_nobody_announces_is_a_bug() -> None:
    with pytest.raises(DomainError):
        recipients(Told(EventType.COMMENTED, {}), RULES, {})


@pytest.mark.parametrize(
    ("at", "found"),
    [
        (-1, None),  # not yet
        (0, "short"),  # the first instant belongs to it
        (30, "long"),  # of two the one that ends last
        (60, "long"),
        (119.999, "long"),
        (120, None),  # the last instant does not
    ],
)
def test_a_silence_holds_from_its_start_until_just_before_its_end(at: float, found: str | None) -> None:
    def moment(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    matchers = (Matcher("team", Op.EQ, "shop"),)
    rules = Rules(
        [], [Silence("short", matchers, moment(0), moment(60)), Silence("long", matchers, moment(1), moment(120)),
             Silence("other", (Matcher("team", Op.EQ, "x"),), moment(-9), moment(999))], CHANNELS,
    )  # fmt: skip
    assert rules.silence(SHOP, moment(at)) == found


_GROUPING = Grouping(("team",), timedelta(seconds=30), timedelta(seconds=300))


@pytest.mark.parametrize(
    ("state", "due_s"),
    [
        # The first of a group waits for others.
        (GroupState(), 30),
        # It joins what waits already, also what leaves this instant.
        (GroupState(waits_until=NOW + timedelta(seconds=7)), 7),
        (GroupState(waits_until=NOW), 0),
        # What was due before is about to be taken without it; what is under way may arrive now.
        (GroupState(waits_until=NOW - timedelta(seconds=1)), 300),
        (GroupState(under_way=True, told_at=NOW - HOUR), 300),
        # No sooner after the last message than the interval, …
        (GroupState(told_at=NOW - timedelta(seconds=100)), 200),
        # … and long after it like the first one.
        (GroupState(told_at=NOW - HOUR), 30),
        (GroupState(told_at=NOW - timedelta(seconds=280)), 30),
    ],
)
def test_a_group_leaves_together_and_not_too_often(state: GroupState, due_s: float) -> None:
    assert state.due(_GROUPING, NOW) == NOW + timedelta(seconds=due_s)


def test_without_its_route_a_group_waits_for_nothing_but_what_waits_already() -> None:
    waiting = NOW + timedelta(seconds=7)
    assert GroupState(waits_until=waiting, under_way=True).due(None, NOW) == waiting
    assert GroupState(under_way=True, told_at=NOW).due(None, NOW) == NOW


def test_only_a_key_that_the_route_made_is_under_its_grouping() -> None:
    route = Route("r1", "", (), (), grouping=_GROUPING)
    assert grouping_of(route, route.group_key(SHOP)) == _GROUPING
    assert grouping_of(route, "message:0195") is None  # a fallback keeps together what left together
    assert grouping_of(route, None) is None
    assert grouping_of(None, "r1:x") is None
