"""The resolve contract, corner by corner: who hears of an incident's end, given what came of its beginning.

A resolve goes exactly to the channels whose opening is sent, still pending (after it, in order), or dead with an
attempt of unknown outcome; elsewhere it is a row suppressed / not_announced. Routes are not consulted for it. What is
acknowledged goes by the same rule: every corner is tried with both.
"""

from __future__ import annotations

import pytest

from common.domain.incident import EventType, Severity, Status
from tests.conftest import Databases
from tests.routing_world import RoutingWorld

PENDING = ("pending", None)
NOT_ANNOUNCED = ("suppressed", "not_announced")
CHANNEL_DISABLED = ("suppressed", "channel_disabled")

FOLLOWING = [("acknowledged", Status.ACKNOWLEDGED), ("resolved", Status.RESOLVED)]


@pytest.fixture
def world(databases: Databases) -> RoutingWorld:
    return RoutingWorld(databases.owner, databases.worker)


@pytest.fixture(params=FOLLOWING, ids=[name for name, _ in FOLLOWING])
def follow(request: pytest.FixtureRequest, world: RoutingWorld) -> object:
    """Lets an incident be acknowledged or resolved: {channel: (status, reason)} of that."""
    name, status = request.param

    def run(incident: str) -> dict[str, tuple[str, str | None]]:
        world.change(incident, EventType(name), status)
        world.relay_at(10)
        return world.outcome(name, incident)

    return run


@pytest.fixture
def channel(world: RoutingWorld) -> str:
    return world.channel("http://a")


@pytest.fixture
def opened(world: RoutingWorld, channel: str) -> str:
    """An incident whose opening is pending at the channel."""
    incident = world.happen()
    world.relay_at()
    return incident


def test_the_opening_was_sent(world, channel, opened, follow) -> None:
    world.tell(at=1)
    assert follow(opened) == {channel: PENDING}


def test_the_opening_is_still_pending_so_it_comes_after_it(world, channel, opened, follow) -> None:
    assert follow(opened) == {channel: PENDING}
    assert world.rows()[0][0] == "opened"
    assert [row[2] for row in world.rows()] == ["pending", "pending"]


def test_the_opening_is_dead_and_may_have_arrived(world, channel, opened, follow) -> None:
    world.tell(status="dead", reason="expired", sent_at=None, unknown_outcome=True)
    assert follow(opened) == {channel: PENDING}


def test_the_opening_was_refused(world, channel, opened, follow) -> None:
    world.tell(status="dead", reason="rejected", sent_at=None)
    assert follow(opened) == {channel: NOT_ANNOUNCED}


def test_the_opening_never_left(world, channel, opened, follow) -> None:
    world.tell(status="dead", reason="expired", sent_at=None)
    assert follow(opened) == {channel: NOT_ANNOUNCED}


def test_the_opening_was_silenced_whatever_the_silence_says_by_now(world, channel, follow) -> None:
    silence = world.silence(("source", "=", "test"))
    incident = world.happen()
    world.relay_at()
    world.change_rules("UPDATE silences SET matchers = '[]' WHERE id = %(id)s", id=silence)
    assert follow(incident) == {channel: NOT_ANNOUNCED}


def test_a_silence_does_not_hold_back_the_end_of_what_was_announced(world, channel, opened, follow) -> None:
    world.tell(at=1)
    world.silence(("source", "=", "test"))
    assert follow(opened) == {channel: PENDING}


def test_the_opening_fell_into_a_cooldown(world, channel, follow) -> None:
    world.route(channel, cooldown_s=600)
    world.resolve(world.happen(key="k"))
    world.relay_at()
    incident = world.happen(key="k")
    world.relay_at(1)
    assert world.outcome("opened", incident) == {channel: ("suppressed", "cooldown")}
    assert follow(incident) == {channel: NOT_ANNOUNCED}


def test_a_cooldown_does_not_hold_back_the_end(world, channel, follow) -> None:
    world.route(channel, cooldown_s=600)
    incident = world.happen(key="k")
    world.relay_at()
    assert follow(incident) == {channel: PENDING}


def test_the_channel_was_off_at_the_opening_and_is_on_again(world, channel, follow) -> None:
    world.disable(channel)
    incident = world.happen()
    world.relay_at()
    assert world.outcome("opened") == {channel: CHANNEL_DISABLED}
    world.enable(channel)
    assert follow(incident) == {channel: NOT_ANNOUNCED}


def test_the_channel_was_disabled_meanwhile(world, channel, opened, follow) -> None:
    world.tell(at=1)
    world.disable(channel)
    assert follow(opened) == {channel: CHANNEL_DISABLED}


def test_the_channel_was_deleted_meanwhile(world, channel, opened, follow) -> None:
    world.tell(at=1)
    world.change_rules("UPDATE channels SET deleted_at = now(), enabled = false WHERE id = %(id)s", id=channel)
    assert follow(opened) == {channel: CHANNEL_DISABLED}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE routes SET channel_ids = array[%(new)s::uuid]",
        'UPDATE routes SET match = \'{"severity": "critical"}\'',
        "UPDATE routes SET enabled = false",
        "UPDATE routes SET deleted_at = now()",
    ],
)
def test_the_routes_changed_meanwhile_and_exactly_the_old_channels_hear(world, follow, change: str) -> None:
    old, new, default = (world.channel(f"http://{n}", is_default=n == "default") for n in ("old", "new", "default"))
    route = world.route(old)
    incident = world.happen()
    world.relay_at()
    world.change_rules(f"{change} WHERE id = %(id)s", id=route, new=new)
    assert follow(incident) == {old: PENDING}
    assert default not in dict(world.outcome("opened"))


def test_a_new_route_covers_it_meanwhile(world, channel, opened, follow) -> None:
    new = world.channel("http://new", is_default=False)
    world.route(new)
    assert follow(opened) == {channel: PENDING}


def test_a_channel_became_a_default_one_meanwhile(world, channel, opened, follow) -> None:
    late = world.channel("http://late")
    assert follow(opened) == {channel: PENDING, late: NOT_ANNOUNCED}


def test_a_channel_is_no_default_one_any_more(world, channel, opened, follow) -> None:
    world.change_rules("UPDATE channels SET is_default = false WHERE id = %(id)s", id=channel)
    assert follow(opened) == {channel: PENDING}


def test_the_escalation_was_heard_where_the_opening_was_not(world, follow) -> None:
    calm, pager = world.channel("http://calm"), world.channel("http://pager")
    world.route(calm, match={"severity": "warning"})
    world.route(pager, match={"severity": "critical"})
    incident = world.happen(Severity.WARNING)
    world.relay_at()
    world.tell(calm, status="dead", reason="rejected", sent_at=None)
    world.worsen(incident)
    world.relay_at(1)
    # The calm one refused the opening and no route leads the worse one there.
    assert world.outcome("escalated") == {pager: PENDING}
    assert follow(incident) == {calm: NOT_ANNOUNCED, pager: PENDING}


def test_two_channels_have_different_fates(world, channel, follow) -> None:
    refused, off = world.channel("http://refused"), world.channel("http://off")
    incident = world.happen()
    world.relay_at()
    world.tell(refused, status="dead", reason="rejected", sent_at=None)
    world.tell(at=1)
    world.disable(off)
    assert follow(incident) == {channel: PENDING, refused: NOT_ANNOUNCED, off: CHANNEL_DISABLED}


def test_a_reopened_incident_starts_anew(world, channel, opened, follow) -> None:
    world.tell(at=1)
    world.resolve(opened)
    world.relay_at(2)
    # The next incident of the same problem finds the channel off: what it heard of the first one is of no account.
    world.disable(channel)
    again = world.happen()
    world.run("UPDATE incidents SET reopened_from = %(first)s WHERE id = %(id)s", first=opened, id=again)
    world.relay_at(3)
    world.enable(channel)
    assert follow(again) == {channel: NOT_ANNOUNCED}


def test_nobody_was_there_to_hear_the_opening(world, follow) -> None:
    incident = world.happen()
    world.relay_at()
    late = world.channel("http://late")
    assert follow(incident) == {late: NOT_ANNOUNCED}


def test_the_opening_and_the_end_are_relayed_in_one_batch(world, channel, follow) -> None:
    incident = world.happen()
    assert follow(incident) == {channel: PENDING}
    assert world.rows()[0][0] == "opened"


def test_the_opening_reached_a_fallback(world, follow) -> None:
    off, fallback = world.channel("http://off"), world.channel("http://fallback", is_default=False)
    world.change_rules("UPDATE channels SET enabled = false, fallback_id = %(f)s WHERE id = %(o)s", f=fallback, o=off)
    incident = world.happen()
    world.relay_at()
    assert follow(incident) == {off: CHANNEL_DISABLED, fallback: PENDING}
