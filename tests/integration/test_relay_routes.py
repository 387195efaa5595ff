"""The relay by routes, silences, cooldowns and groups, against a real PostgreSQL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg.types.json import Jsonb

from common import telemetry
from common.domain.incident import EventType, Severity, Status
from common.store import bundles, cooldowns, ledger, outbox, route_books
from common.store.notifications import Limits
from common.store.route_books import RouteBooks
from notifier import relay as relay_module
from notifier.relay import Relay, relay
from tests.conftest import Databases
from tests.routing_world import RoutingWorld

PENDING = ("pending", None)


def suppressed(reason: str) -> tuple[str, str]:
    return ("suppressed", reason)


@pytest.fixture
def world(databases: Databases) -> RoutingWorld:
    return RoutingWorld(databases.owner, databases.worker)


# Routes ---------------------------------------------------------------------------------------------------------------


def test_an_event_goes_where_its_routes_lead_and_each_channel_hears_once_by_the_first(world: RoutingWorld) -> None:
    shop, both, last, default = (world.channel(f"http://{n}") for n in ("shop", "both", "last", "default"))
    world.run("UPDATE channels SET is_default = id = %(id)s", id=default)
    first = world.route(shop, both, matchers=[("team", "=", "shop")])
    second = world.route(both, last, match={"severity": "critical", "source": "pay*"})
    world.route(default, match={"name": "other"})

    incident = world.happen(Severity.CRITICAL, source="payments", labels={"team": "shop"})
    world.relay_at()

    assert world.outcome("opened") == dict.fromkeys((shop, both, last), PENDING)
    assert world.column("route_id") == [first, first, second]
    assert len(world.rows(incident)) == 3


def test_a_route_that_does_not_continue_ends_the_search(world: RoutingWorld) -> None:
    one, two = world.channel("http://one"), world.channel("http://two")
    world.route(one, match={"name": "Shop"}, continues=False)
    world.route(two)
    world.happen()
    world.happen(name="Other")
    world.relay_at()
    assert [row[1] for row in world.rows()] == [one, two]


@pytest.mark.parametrize("change", ["enabled = false", "deleted_at = now()"])
def test_a_route_that_is_off_leads_nowhere_and_what_is_unrouted_goes_to_the_defaults(
    world: RoutingWorld, change: str
) -> None:
    default, other = world.channel("http://default"), world.channel("http://other", is_default=False)
    route = world.route(other)
    world.change_rules(f"UPDATE routes SET {change} WHERE id = %(id)s", id=route)
    before = _unrouted()
    world.happen()
    world.relay_at()
    assert world.outcome("opened") == {default: PENDING}
    assert world.column("route_id") == [None]
    assert _unrouted() == before + 1


def test_a_route_to_channels_that_are_not_ours_or_gone_is_no_way_to_lose_an_event(world: RoutingWorld) -> None:
    default, gone = world.channel("http://default"), world.channel("http://gone", is_default=False)
    foreign = RoutingWorld(world.owner, world.worker).channel("http://foreign")
    world.route(gone, foreign)
    world.change_rules("UPDATE channels SET deleted_at = now(), enabled = false WHERE id = %(id)s", id=gone)
    world.happen()
    world.relay_at()
    assert world.outcome("opened") == {default: PENDING}


def test_a_severity_is_that_of_the_event_not_of_the_incident_by_now(world: RoutingWorld) -> None:
    calm, pager = world.channel("http://calm"), world.channel("http://pager")
    world.route(calm, match={"severity": "warning"})
    world.route(pager, match={"severity": "critical"})
    incident = world.happen(Severity.WARNING)
    world.worsen(incident, Severity.CRITICAL)
    world.relay_at()
    assert world.outcome("opened") == {calm: PENDING}
    # The worse one goes to whom it concerns, and to everybody who heard of the milder one.
    assert world.outcome("escalated") == {pager: PENDING, calm: PENDING}


def test_an_event_without_a_name_is_matched_by_its_title(world: RoutingWorld) -> None:
    named, default = world.channel("http://named", is_default=False), world.channel("http://default")
    world.route(named, match={"name": "Shop is *"})
    world.happen(name="")
    world.run("UPDATE incidents SET title = 'Shop is down'")
    world.relay_at()
    assert world.outcome("opened") == {named: PENDING}
    assert default != named


def test_a_rule_that_cannot_be_read_stops_neither_the_others_nor_other_organizations(world: RoutingWorld) -> None:
    other = RoutingWorld(world.owner, world.worker)
    ours, theirs = world.channel("http://ours"), other.channel("http://theirs")
    route = world.route(ours)
    world.change_rules(
        "UPDATE routes SET matchers = %(m)s WHERE id = %(id)s",
        id=world.route(ours), m=Jsonb([{"label": "x", "op": "=~", "value": "(("}]),
    )  # fmt: skip
    world.change_rules(
        "UPDATE silences SET matchers = %(m)s WHERE id = %(id)s",
        id=world.silence(), m=Jsonb([{"label": "x", "op": "by the stars", "value": ""}]),
    )  # fmt: skip
    for each in (world, other):
        each.happen()
    world.relay_at()
    assert world.outcome("opened") == {ours: PENDING, theirs: PENDING}
    assert world.column("route_id") == [route, None]


# Silences -------------------------------------------------------------------------------------------------------------


def test_a_silence_holds_back_announcements_and_reminders_and_no_end_of_what_was_heard(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    route = world.route(channel)
    heard = world.happen()
    world.relay_at()
    silence = world.silence(("source", "=", "test"))
    silenced = world.happen()
    for incident in (heard, silenced):
        world.worsen(incident)
        world.remind(incident, route)
        world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
        world.resolve(incident)
    world.relay_at()

    assert [row[0::2] + row[3:] for row in world.rows(heard)] == [
        ("opened", *PENDING),
        ("escalated", *suppressed("silenced")),
        ("reminder", *suppressed("silenced")),
        ("acknowledged", *PENDING),
        ("resolved", *PENDING),
    ]
    assert [row[0::2] + row[3:] for row in world.rows(silenced)] == [
        ("opened", *suppressed("silenced")),
        ("escalated", *suppressed("silenced")),
        # Nobody heard by its route: there is nobody to remind.
        ("acknowledged", *suppressed("not_announced")),
        ("resolved", *suppressed("not_announced")),
    ]
    assert {row for row in world.column("silence_id") if row} == {silence}


@pytest.mark.parametrize(("at", "held"), [(9.999, False), (10, True), (19.999, True), (20, False)])
def test_a_silence_counts_from_its_start_until_just_before_its_end(
    world: RoutingWorld, at: float, *, held: bool
) -> None:
    channel = world.channel("http://a")
    world.silence(("severity", "=", "error"), starts=10, ends=20)
    world.happen()
    world.relay_at(at)
    assert world.outcome("opened") == {channel: suppressed("silenced") if held else PENDING}


# Cooldown -------------------------------------------------------------------------------------------------------------


def test_a_cooldown_holds_back_the_same_problem_of_the_same_route_and_nothing_else(world: RoutingWorld) -> None:
    cool, plain = world.channel("http://cool"), world.channel("http://plain")
    world.route(cool, cooldown_s=60)
    world.route(plain)

    def flap(at: float, key: str = "k") -> str:
        incident = world.happen(key=key)
        world.relay_at(at)
        world.resolve(incident)
        world.relay_at(at)
        return incident

    first, within, other, after = flap(0), flap(59.999), flap(59.999, "other"), flap(60)

    assert world.outcome("opened", first) == {cool: PENDING, plain: PENDING}
    assert world.outcome("opened", within) == {cool: suppressed("cooldown"), plain: PENDING}
    assert world.outcome("resolved", within) == {cool: suppressed("not_announced"), plain: PENDING}
    assert world.outcome("opened", other) == {cool: PENDING, plain: PENDING}
    assert world.outcome("opened", after) == {cool: PENDING, plain: PENDING}
    assert world.outcome("resolved", after) == {cool: PENDING, plain: PENDING}


def test_a_cooldown_holds_back_no_worsening_and_counts_from_it(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    first = world.happen(key="k")
    world.resolve(first)
    second = world.happen(key="k")
    world.relay_at(0)
    world.worsen(second)
    world.relay_at(30)
    world.resolve(second)
    third = world.happen(key="k")
    world.relay_at(70)  # more than 60 s after the opening, less than 60 s after the worsening

    assert world.outcome("opened", second) == {channel: suppressed("cooldown")}
    assert world.outcome("escalated", second) == {channel: PENDING}
    assert world.outcome("resolved", second) == {channel: PENDING}
    assert world.outcome("opened", third) == {channel: suppressed("cooldown")}


def test_what_is_held_back_begins_no_cooldown(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    world.silence(("severity", "=", "error"), ends=5)
    world.resolve(world.happen(key="k"))
    world.relay_at(0)
    assert world.run("SELECT 1 FROM route_cooldowns") == []
    incident = world.happen(key="k")
    world.relay_at(10)
    assert world.outcome("opened", incident) == {channel: PENDING}


def test_two_problems_in_one_batch_are_one_announcement_within_a_cooldown(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    first = world.happen(key='a "quoted" \\ key, {1}')
    world.resolve(first)
    second = world.happen(key='a "quoted" \\ key, {1}')
    world.relay_at()
    assert world.outcome("opened", first) == {channel: PENDING}
    assert world.outcome("opened", second) == {channel: suppressed("cooldown")}


def test_cooldowns_that_nothing_can_ask_for_any_more_are_forgotten(world: RoutingWorld) -> None:
    world.route(world.channel("http://a"), cooldown_s=60)
    world.happen(key="old")
    world.happen(key="new")
    world.relay_at()
    world.run("UPDATE route_cooldowns SET last_at = last_at - interval '8 days' WHERE dedup_key = 'old'")
    with world.worker.begin() as connection:
        assert cooldowns.forget(connection) == 1
    assert world.run("SELECT dedup_key FROM route_cooldowns") == [("new",)]


# Groups ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def grouped(world: RoutingWorld) -> RoutingWorld:
    """One channel whose route groups by team: 30 s for others to join, 300 s between messages."""
    world.route(world.channel("http://a"), group_by=["team"], group_wait_s=30, group_interval_s=300)
    return world


def test_a_group_waits_for_others_and_leaves_together(grouped: RoutingWorld) -> None:
    grouped.happen(labels={"team": "a"})
    assert grouped.relay_at(0) == []  # nothing to hint: nobody may send it yet
    grouped.happen(labels={"team": "a"})
    grouped.happen(labels={"team": "b"})
    grouped.relay_at(20)
    assert grouped.dues() == [30, 30, 50]
    keys = grouped.column("group_key")
    assert keys[0] == keys[1] != keys[2]


def test_a_group_s_next_message_comes_no_sooner_than_its_interval(grouped: RoutingWorld) -> None:
    grouped.happen(labels={"team": "a"})
    grouped.relay_at(0)
    grouped.tell(at=31)
    grouped.happen(labels={"team": "a"})
    grouped.happen(labels={"team": "a"})
    grouped.relay_at(100)
    assert grouped.dues() == [331, 331]
    grouped.tell(at=331)
    grouped.happen(labels={"team": "a"})
    grouped.relay_at(1000)
    assert grouped.dues() == [1030]


def test_what_is_being_told_right_now_is_not_joined(grouped: RoutingWorld) -> None:
    grouped.happen(labels={"team": "a"})
    grouped.relay_at(0)
    grouped.run("UPDATE notifications SET attempts = 1, next_attempt_at = %(later)s", later=grouped.time(40))
    grouped.happen(labels={"team": "a"})
    grouped.relay_at(35)
    assert grouped.dues() == [40, 335]


def test_what_joins_a_group_leaves_with_it_even_if_its_time_comes_meanwhile(grouped: RoutingWorld) -> None:
    """The relay has decided, but not committed: a claim would leave without the new one."""
    (channel,) = (row[0] for row in grouped.run("SELECT id::text FROM channels LIMIT 1"))
    grouped.happen(labels={"team": "a"})
    grouped.relay_at(0)
    (key,) = grouped.column("group_key")
    due = grouped.time(30)
    with grouped.worker.begin() as relaying, grouped.worker.begin() as claiming:
        state = ledger.group_states(relaying, {(channel, key)})[channel, key]
        assert (state.waits_until, state.under_way) == (due, False)
        assert bundles.claim_bundles(claiming, [channel], Limits(10, 100, {}), due) == []
    with grouped.worker.begin() as claiming, grouped.worker.begin() as relaying:
        (claim,) = bundles.claim_bundles(claiming, [channel], Limits(10, 100, {}), due)
        state = ledger.group_states(relaying, {(channel, key)})[channel, key]
        assert (state.waits_until, state.under_way) == (None, True)
        assert claim.together == (claim,)


def test_all_of_an_incident_stays_in_its_group_and_in_order(grouped: RoutingWorld) -> None:
    incident = grouped.happen(labels={"team": "a"})
    grouped.relay_at(0)
    grouped.resolve(incident)
    grouped.relay_at(10)
    assert grouped.dues() == [30, 30]
    grouped.tell(at=30)
    late = grouped.happen(labels={"team": "a"})
    grouped.worsen(late)
    grouped.relay_at(40)
    grouped.resolve(late)
    grouped.relay_at(200)
    assert grouped.dues() == [330, 330, 330]
    assert len(set(grouped.column("group_key"))) == 1


def test_an_end_does_not_wait_for_a_group_whose_route_is_gone(grouped: RoutingWorld) -> None:
    incident = grouped.happen(labels={"team": "a"})
    grouped.relay_at(0)
    grouped.tell(at=30)
    grouped.change_rules("UPDATE routes SET deleted_at = now()")
    grouped.resolve(incident)
    grouped.relay_at(40)
    assert grouped.dues() == [40]
    assert len(set(grouped.column("group_key"))) == 1


def test_a_group_belongs_to_a_channel(world: RoutingWorld) -> None:
    one, two = world.channel("http://one"), world.channel("http://two")
    world.route(one, two, group_by=[], group_wait_s=30, group_interval_s=300)
    world.happen()
    world.relay_at(0)
    world.tell(one, at=30)
    world.happen()
    world.relay_at(20)
    assert world.dues() == [30, 330, 30]


# Reminders ------------------------------------------------------------------------------------------------------------


def test_a_reminder_goes_to_those_who_heard_through_its_route(world: RoutingWorld) -> None:
    shop, other, refused, off = (world.channel(f"http://{n}") for n in ("shop", "other", "refused", "off"))
    route = world.route(shop, refused, off)
    world.route(other)
    incident = world.happen()
    world.relay_at()
    world.tell(refused, status="dead", reason="rejected", sent_at=None)
    world.tell()
    world.disable(off)
    world.remind(incident, route)
    world.relay_at()
    assert world.outcome("reminder") == {shop: PENDING, off: suppressed("channel_disabled")}


# Versions and batches -------------------------------------------------------------------------------------------------


def test_rules_are_read_again_when_their_version_moves_and_only_then(
    world: RoutingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [RoutingWorld(world.owner, world.worker) for _ in range(2)]
    read: list[set[str]] = []
    really = route_books._read
    monkeypatch.setattr(
        route_books, "_read", lambda connection, orgs: read.append(set(orgs)) or really(connection, orgs)
    )
    runner = Relay(world.worker, lambda _ids: None, lambda: world.time(0))

    def happen() -> None:
        for each in (world, *others):
            each.happen()
        while runner.step():
            pass

    old, new = world.channel("http://old", is_default=False), world.channel("http://new", is_default=False)
    route = world.route(old)
    happen()
    happen()
    world.change_rules("UPDATE routes SET channel_ids = %(new)s::uuid[] WHERE id = %(id)s", new=[new], id=route)
    happen()
    assert read == [{world.org_id, *(each.org_id for each in others)}, {world.org_id}]
    assert [row[1] for row in world.rows()] == [old, old, new]


def test_organizations_unseen_for_longest_are_forgotten(world: RoutingWorld) -> None:
    worlds = [world, *(RoutingWorld(world.owner, world.worker) for _ in range(3))]
    for each in worlds:
        channel = each.channel("http://a")
        for _ in range(9):
            each.route(channel)
    books = RouteBooks(most_kept=20)
    with world.worker.begin() as connection:
        for each in worlds:
            books.of(connection, {each.org_id: 9})
        assert list(books._kept) == [each.org_id for each in worlds[2:]]
        # Whoever is needed now is never forgotten.
        assert len(books.of(connection, {each.org_id: 9 for each in worlds})) == 4


def test_a_change_of_routes_waits_for_the_relay_which_goes_by_the_old_ones_whole(world: RoutingWorld) -> None:
    old, new = world.channel("http://old", is_default=False), world.channel("http://new", is_default=False)
    route = world.route(old)
    first, second = world.happen(), world.happen()
    books = RouteBooks()

    def change() -> None:
        world.change_rules("UPDATE routes SET channel_ids = %(new)s::uuid[] WHERE id = %(id)s", new=[new], id=route)

    with ThreadPoolExecutor(1) as pool:
        with world.worker.begin() as connection:
            taken = outbox.claim(connection, limit=1)
            changed = pool.submit(change)
            time.sleep(0.3)
            assert not changed.done()
            relay(connection, taken, books, world.time(0))
        changed.result(60)
    assert world.outcome("opened", first) == {old: PENDING}
    world.relay_at()
    assert world.outcome("opened", second) == {new: PENDING}


def test_an_organization_whose_routes_are_being_changed_is_left_to_later(world: RoutingWorld) -> None:
    old, new = world.channel("http://old", is_default=False), world.channel("http://new", is_default=False)
    route = world.route(old)
    world.happen()
    with world.owner.begin() as changing:
        changing.exec_driver_sql("UPDATE organizations SET routing_version = routing_version + 1")
        changing.exec_driver_sql(
            "UPDATE routes SET channel_ids = %(new)s::uuid[] WHERE id = %(id)s", {"new": [new], "id": route}
        )
        world.relay_at()
        assert world.rows() == []
    world.relay_at()
    assert world.outcome("opened") == {new: PENDING}


def test_an_event_for_many_channels_makes_its_batch_smaller(
    world: RoutingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_ROWS", 10)
    for n in range(7):
        world.channel(f"http://{n}")
    incidents = [world.happen() for _ in range(5)]
    for incident in incidents:
        world.resolve(incident)
    hinted: list[str] = []
    runner = Relay(world.worker, hinted.extend, lambda: world.time(0))
    assert runner.step()
    assert len(world.rows()) == 14  # two events: the second began below the limit
    while runner.step():
        pass
    assert len(world.rows()) == len(hinted) == 70
    assert set(world.outcome("resolved").values()) == {PENDING}
    assert world.run("SELECT count(*) FROM outbox") == [(0,)]


def test_a_channel_that_is_off_has_its_fallback_told(world: RoutingWorld) -> None:
    off, fallback = world.channel("http://off"), world.channel("http://fallback", is_default=False)
    world.change_rules("UPDATE channels SET enabled = false, fallback_id = %(f)s WHERE id = %(o)s", f=fallback, o=off)
    incident = world.happen()
    world.resolve(incident)
    hinted = world.relay_at()
    assert world.outcome("opened") == {off: suppressed("channel_disabled"), fallback: ("pending", "fallback")}
    assert world.outcome("resolved")[fallback] == ("pending", "fallback")
    assert len(hinted) == 2


def test_relays_side_by_side_keep_cooldowns_and_groups(world: RoutingWorld) -> None:
    worlds = [world, *(RoutingWorld(world.owner, world.worker) for _ in range(5))]
    for each in worlds:
        channel = each.channel("http://a")
        each.route(channel, cooldown_s=600, group_by=["team"], group_wait_s=30)
        for n in range(20):
            incident = each.happen(key=f"k{n % 5}", labels={"team": "x"})
            each.resolve(incident)

    def run() -> None:
        runner = Relay(world.worker, lambda _ids: None, lambda: world.time(0), batch=7)
        idle = 0
        while idle < 3:
            idle = 0 if runner.step() else idle + 1

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = world.run("SELECT status, reason, event_type, count(*) FROM notifications GROUP BY 1, 2, 3 ORDER BY 1, 3")
    assert counted == [
        ("pending", None, "opened", 30),
        ("pending", None, "resolved", 30),
        ("suppressed", "cooldown", "opened", 90),
        ("suppressed", "not_announced", "resolved", 90),
    ]
    assert set(world.dues()) == {30}


def _unrouted() -> float:
    return float(telemetry.EVENTS_UNROUTED._value.get())
