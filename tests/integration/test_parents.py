"""While a monitor above is down, what begins below is not told; what is still wrong once it has recovered is, once."""

from __future__ import annotations

import time

import pytest

from common.domain.health import Health
from common.domain.incident import EventType, Status
from common.store import holds
from tests.conftest import Databases
from tests.maintenance_world import MAINTENANCE, NOT_ANNOUNCED, PARENT_DOWN, PENDING, MaintenanceWorld
from tests.sink import Sink
from tests.world import posting

SHOP = ("team", "=", "shop")


@pytest.fixture
def world(databases: Databases) -> MaintenanceWorld:
    return MaintenanceWorld(databases.owner, databases.worker)


def family(world: MaintenanceWorld) -> tuple[str, str, str]:
    """A channel that is told of everything, a monitor, and one below it."""
    channel, switch = world.channel("http://a"), world.monitor()
    return channel, switch, world.monitor(parent=switch)


def fallen(world: MaintenanceWorld, switch: str, shop: str) -> str:
    """Both are down, the upper one first; the lower one's incident, whose beginning was looked at."""
    world.fail(switch, at=0)
    (below,) = world.fail(shop, at=1)
    world.look(2)
    return below


def test_what_begins_below_a_monitor_that_is_down_is_held_back_and_its_timeline_says_by_which(
    world: MaintenanceWorld,
) -> None:
    channel = world.channel("http://a")
    switch = world.monitor(name="Switch")
    rack = world.monitor(parent=switch)
    shop = world.monitor(parent=rack)
    (above,) = world.fail(switch, at=1)
    world.look(1)
    below, lower = world.fail(rack, shop, at=2)
    world.look(3)
    assert world.outcome("opened", above) == {channel: PENDING}
    assert world.outcome("opened", below) == world.outcome("opened", lower) == {channel: PARENT_DOWN}
    assert world.timeline(below)[1] == (
        "held_back",
        {"reason": "parent_down", "parent_id": switch, "parent": "Switch", "parent_incident_id": above},
    )
    assert world.timeline(lower)[1][1]["parent_id"] == rack  # the nearest one that is down
    assert world.look(299) == []


def test_both_in_one_commit_are_held_back_too(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    below, above = world.fail(shop, switch, at=1)
    world.look(1)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}
    assert world.outcome("opened", above) == {channel: PENDING}


def test_a_child_that_recovers_with_its_parent_is_never_told(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    switch = world.monitor()
    shop = world.monitor(parent=switch, interval_s=10)
    (above,) = world.fail(switch, at=1)
    (below,) = world.fail(shop, at=2)
    world.look(3)
    world.recover(switch, above, 20)
    # Its own check, at most an interval later, has not come yet.
    for at in (20.5, 22, 25, 29):
        world.look(at)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}
    world.recover(shop, below, 30)
    for at in (31, 60, 600):
        world.look(at)
    assert world.rows(below) == [("opened", channel, *PARENT_DOWN), ("resolved", channel, *NOT_ANNOUNCED)]


def test_a_child_that_a_check_since_finds_still_down_is_told_once(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    switch = world.monitor()
    shop = world.monitor(parent=switch, interval_s=10)
    (above,) = world.fail(switch, at=1)
    (below,) = world.fail(shop, at=2)
    world.look(3)
    world.tell(at=4)
    world.recover(switch, above, 20)
    world.look(21)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}
    world.check(shop, 22, 3)
    world.look(22.5)
    world.look(24)
    assert world.outcome("opened", below) == {channel: PENDING}
    world.tell(at=25)
    assert world.look(26) == world.look(3600) == []
    world.recover(shop, below, 40)
    world.look(41)
    assert world.outcome("resolved", below) == {channel: PENDING}


def test_a_child_that_nobody_checks_any_more_is_told_when_its_time_is_up(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    switch = world.monitor()
    shop = world.monitor(parent=switch, interval_s=10)  # two intervals, the timeout of 1 s and 5 s
    (above,) = world.fail(switch, at=1)
    (below,) = world.fail(shop, at=2)
    world.look(3)
    world.recover(switch, above, 20)
    world.look(21)
    world.look(45)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}
    world.look(46.1)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_child_on_its_way_up_is_given_the_checks_that_it_needs(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    switch = world.monitor()
    shop = world.monitor(parent=switch, interval_s=10, recovery_threshold=3)
    (above,) = world.fail(switch, at=1)
    (below,) = world.fail(shop, at=2)
    world.look(3)
    world.recover(switch, above, 20)
    for at in (22.0, 32.0):
        world.check(shop, at, 1)
        world.look(at + 5)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}
    world.check(shop, 42, 3)
    world.look(45)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_failure_that_was_seen_before_the_recovery_waits_for_a_check_after_it(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    (above,) = world.fail(switch, at=1)
    world.look(2)
    world.recover(switch, above, 20)
    (below,) = world.fail(shop, at=19)  # written a moment later than the parent's recovery
    world.look(20.2)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}
    world.check(shop, 29, 3)
    world.look(31)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_what_fails_long_after_its_parent_recovered_is_told_at_once(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    (above,) = world.fail(switch, at=1)
    world.recover(switch, above, 10)
    (below,) = world.fail(shop, at=12)
    world.look(12.1)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_child_that_was_told_before_gets_its_end_whatever_its_parent_does(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    (below,) = world.fail(shop, at=1, health=Health.DEGRADED)
    world.look(2)
    world.tell(at=3)
    world.fail(switch, at=4)
    world.worsen(below)
    world.change(below, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.look(5)
    assert world.outcome("escalated", below) == {channel: PARENT_DOWN}
    assert world.outcome("acknowledged", below) == {channel: PENDING}
    world.recover(shop, below, 6)
    world.look(7)
    assert world.outcome("resolved", below) == {channel: PENDING}


@pytest.mark.parametrize("health", [Health.DEGRADED, Health.UP])
def test_a_parent_that_is_not_down_holds_nothing_back(world: MaintenanceWorld, health: Health) -> None:
    channel, switch, shop = family(world)
    if health is Health.DEGRADED:
        world.fail(switch, at=0, health=health)
    (below,) = world.fail(shop, at=1)
    world.look(2)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_parent_that_eases_to_degraded_lets_go(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    below = fallen(world, switch, shop)
    number = world.numbers([switch])[switch]
    world.run(
        "UPDATE monitor_states SET health = 2, since = %(at)s WHERE monitor_no = %(no)s", no=number, at=world.time(3)
    )
    world.look(3)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}  # nobody has looked at it since
    assert world.run("SELECT 1 FROM parent_holds") == []
    world.check(shop, 4, 3)
    world.look(13)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_parent_that_flaps_lets_go_of_no_child_that_was_not_checked_since_it_was_up(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    switch = world.monitor()
    children = world.monitors(5, parent=switch)
    world.fail(switch, at=0)
    below = world.fail(*children, at=1)
    world.look(2)
    number = world.numbers([switch])[switch]
    turn = "UPDATE monitor_states SET health = %(health)s, since = %(at)s, flapping = true WHERE monitor_no = %(no)s"
    # Up and down within one incident.
    world.run(turn, no=number, health=1, at=world.time(3))
    world.look(4)
    assert [world.outcome("opened", one) for one in below] == [{channel: PARENT_DOWN}] * 5
    world.run(turn, no=number, health=3, at=world.time(6))
    for child in children:
        world.check(child, 7, 3)
    world.look(12)
    assert [world.outcome("opened", one) for one in below] == [{channel: PARENT_DOWN}] * 5
    world.run(turn, no=number, health=1, at=world.time(16))
    world.check(children[0], 17, 3)
    world.look(18)
    world.look(30)
    told = [world.outcome("opened", one) == {channel: PENDING} for one in below]
    assert told == [True, False, False, False, False]
    world.look(46)
    assert [world.outcome("opened", one) for one in below] == [{channel: PENDING}] * 5


def test_a_loop_of_parents_holds_nothing_back(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    upper = world.monitor()
    lower = world.monitor(parent=upper)
    shop = world.monitor(parent=lower)
    world.run("UPDATE monitors SET parent_id = %(lower)s WHERE id = %(upper)s", lower=lower, upper=upper)
    first, second, below = world.fail(upper, lower, shop, at=1)
    world.look(2)
    assert world.outcome("opened", first) == world.outcome("opened", second) == {channel: PENDING}
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}


def test_a_parent_that_falls_again_keeps_what_it_held(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    (above,) = world.fail(switch, at=0)
    (below,) = world.fail(shop, at=1)
    world.look(2)
    world.recover(switch, above, 10)
    world.look(11)
    (again,) = world.fail(switch, at=12)
    world.check(shop, 13, 3)
    world.look(14)
    assert world.outcome("opened", below) == {channel: PARENT_DOWN}
    assert world.run("SELECT silence_id::text FROM notifications WHERE incident_id = %(id)s", id=below) == [(again,)]
    world.recover(switch, again, 30)
    world.check(shop, 33, 3)
    world.look(34)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_child_whose_parent_is_taken_away_is_told_in_minutes(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    below = fallen(world, switch, shop)
    world.run("UPDATE monitors SET parent_id = NULL WHERE id = %(id)s", id=shop)
    world.look(2 + holds.LOOK_AGAIN.total_seconds())
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_window_of_the_parent_covers_what_its_children_have_to_tell(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    switch = world.monitor(labels={"team": "shop"})
    shop = world.monitor(parent=world.monitor(parent=switch))
    world.window(SHOP, ends=60)
    (below,) = world.fail(shop, at=1)
    world.look(2)
    assert world.outcome("opened", below) == {channel: MAINTENANCE}
    assert world.shown() == {switch}
    world.look(60)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_a_parent_s_open_incident_that_was_resolved_by_hand_holds_no_more(world: MaintenanceWorld) -> None:
    channel, switch, shop = family(world)
    (above,) = world.fail(switch, at=0)
    (below,) = world.fail(shop, at=1)
    world.look(2)
    world.resolve(above)
    world.run("UPDATE incidents SET resolved_at = %(at)s WHERE id = %(id)s", at=world.time(5), id=above)
    world.run("UPDATE monitor_states SET open_incident = NULL WHERE open_incident = %(id)s", id=above)
    world.check(shop, 8, 3)
    world.look(9)
    assert world.outcome("opened", below) == {channel: PENDING}


def test_all_that_holds_back_has_to_be_over_and_then_it_is_told_once(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=500)
    switch = world.monitor()
    shop = world.monitor(parent=switch, labels={"team": "shop"})
    # Told once, at 0: the route cools down until 500.
    (first,) = world.fail(shop, at=0)
    world.look(0)
    world.tell(at=0)
    world.recover(shop, first, 1)
    world.look(1)
    world.tell(at=1)
    # Silence until 100, window until 200, parent until 300.
    world.silence(SHOP, ends=100)
    world.window(SHOP, ends=200, at=2)
    (above,) = world.fail(switch, at=3)
    (below,) = world.fail(shop, at=4)
    seen = []
    for at in (5, 99, 100, 101, 199, 200, 201, 299):
        world.look(at)
        seen.append(world.outcome("opened", below)[channel][1])
    assert seen == ["silenced", "silenced", *["maintenance"] * 3, *["parent_down"] * 3]
    world.recover(switch, above, 300)
    world.check(shop, 301, 3)
    for at, reason in ((302, "cooldown"), (499, "cooldown"), (500, None)):
        world.look(at)
        assert world.outcome("opened", below)[channel][1] == reason, at
    assert world.outcome("opened", below) == {channel: PENDING}
    world.tell(at=501)
    for at in (502, 1000, 5000):
        world.look(at)
    assert len(world.rows(below)) == 1


def test_what_waits_for_its_group_when_the_parent_is_found_down_does_not_leave(world: MaintenanceWorld) -> None:
    with Sink() as sink, posting(world) as post:
        channel = world.channel(sink.url())
        world.route(channel, group_by=[], group_wait_s=1)
        switch = world.monitor()
        shop = world.monitor(parent=switch)
        (below,) = world.fail(shop, at=0)
        world.relay_at(0)
        assert world.outcome("opened", below) == {channel: PENDING}
        (above,) = world.fail(switch, at=0.2)  # seconds after its child, since its threshold is higher
        world.relay_at(0.3)
        time.sleep(1.2)
        assert post.until(lambda: world.outcome("opened", above) == {channel: ("sent", None)})
        assert world.outcome("opened", below) == {channel: PARENT_DOWN}
        bodies = [request.json for request in sink.accepted()]
        assert len(bodies) == 1
        assert below not in str(bodies[0])
        assert above in str(bodies[0])
        # It is decided on once more, in the organization's name, and stays held back.
        world.look(4)
        assert world.outcome("opened", below) == {channel: PARENT_DOWN}
        assert [type_ for type_, _ in world.timeline(below)] == ["opened", "held_back"]
        world.recover(switch, above, 5)
        world.check(shop, 6, 3)
        world.look(7)
        assert world.outcome("opened", below) == {channel: PENDING}


def test_five_thousand_children_under_one_parent_are_one_announcement_in_bounded_time(world: MaintenanceWorld) -> None:
    channel = world.channel("http://a")
    switch = world.monitor(name="Core switch")
    children = world.monitors(5_000, parent=switch)
    # All in one batch of events, in no particular order.
    above, *below = world.fail(switch, *children, at=1)
    slowest: list[float] = []

    def timed(step: str, at: float) -> None:
        began = time.monotonic()
        world.look(at)
        slowest.append(time.monotonic() - began)
        print(f"{step}: {slowest[-1]:.2f} s")

    timed("held back", 2)
    tally = dict(world.run("SELECT coalesce(reason, status), count(*) FROM notifications GROUP BY 1"))
    assert tally == {"pending": 1, "parent_down": 5_000}
    assert world.outcome("opened", above) == {channel: PENDING}
    world.tell(at=3)
    assert world.run("SELECT count(*) FROM incident_events WHERE type = 'held_back'") == [(5_000,)]
    world.recover(switch, above, 20)
    timed("parent recovers", 21)
    assert world.run("SELECT count(*) FROM notifications WHERE event_type = 'opened' AND status = 'pending'") == [(0,)]
    # All but three recover, too.
    world.run(
        "UPDATE incidents SET status = 'resolved', resolved_at = %(at)s WHERE id = ANY(%(ids)s::uuid[])",
        at=world.time(25), ids=below[3:],
    )  # fmt: skip
    world.run("UPDATE votes SET last_slot = %(at)s, last_verdict = 3", at=world.time(24))
    timed("children checked", 40)
    assert world.run("SELECT count(*) FROM notifications WHERE event_type = 'opened' AND status = 'pending'") == [(3,)]
    assert world.look(4000) == []
    assert max(slowest) < 45  # of many transactions; here they take less than one second
