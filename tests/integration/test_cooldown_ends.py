"""What a cooldown held back and is still wrong when it ends is announced then, whatever happens at the same moment."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.domain.incident import EventType, Status
from common.store import routes, routing_versions
from common.store.routes import RouteConfig
from notifier.cooldowns import CooldownEnds
from tests.conftest import Databases
from tests.integration.test_notifier_process import Notifiers
from tests.routing_world import RoutingWorld
from tests.sink import Sink
from tests.stack import wait_until

PENDING = ("pending", None)
SENT = ("sent", None)
COOLDOWN = ("suppressed", "cooldown")
NOT_ANNOUNCED = ("suppressed", "not_announced")


@pytest.fixture
def world(databases: Databases) -> RoutingWorld:
    return RoutingWorld(databases.owner, databases.worker)


def flap(world: RoutingWorld, at: float, key: str = "k") -> str:
    """A problem is told at 0, over, and comes again: held back."""
    world.resolve(world.happen(key=key))
    world.relay_at(0)
    world.tell(at=0)
    again = world.happen(key=key)
    world.relay_at(at)
    return again


def waiting(world: RoutingWorld) -> list[float]:
    rows = world.run("SELECT held_until FROM notifications WHERE held_until IS NOT NULL ORDER BY no")
    return [round((row[0] - world.began).total_seconds(), 3) for row in rows]


def test_what_is_still_wrong_is_announced_and_its_end_too(world: RoutingWorld) -> None:
    a, b = world.channel("http://a"), world.channel("http://b")
    world.route(a, b, cooldown_s=60)
    incident = flap(world, 30)
    assert world.outcome("opened", incident) == {a: COOLDOWN, b: COOLDOWN}
    assert waiting(world) == [60, 60]

    assert world.end_cooldowns_at(59.999) == []
    assert len(world.end_cooldowns_at(60)) == 2
    assert world.outcome("opened", incident) == {a: PENDING, b: PENDING}
    assert world.dues() == [60, 60]
    assert waiting(world) == []
    assert world.end_cooldowns_at(61) == []
    world.resolve(incident)
    world.relay_at(62)
    assert world.outcome("resolved", incident) == {a: PENDING, b: PENDING}


def test_its_announcement_begins_the_cooldown_again(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    second = flap(world, 30)
    world.end_cooldowns_at(60)
    world.resolve(second)
    third = world.happen(key="k")
    world.relay_at(119)
    assert world.outcome("opened", third) == {channel: COOLDOWN}
    assert waiting(world) == [120]


def test_what_is_over_by_then_is_never_told_and_not_looked_at_again(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    world.resolve(incident)
    world.relay_at(31)
    assert world.end_cooldowns_at(60) == []
    assert world.outcome("opened", incident) == {channel: COOLDOWN}
    assert world.outcome("resolved", incident) == {channel: NOT_ANNOUNCED}
    assert waiting(world) == []


def test_an_acknowledgement_meanwhile_is_told_after_it(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.relay_at(31)
    world.end_cooldowns_at(60)
    told = [row[0::2] + row[3:] for row in world.rows(incident)]
    assert told == [("opened", *PENDING), ("acknowledged", *PENDING)]
    assert world.outcome("opened", incident) == {channel: PENDING}


def test_a_worsening_that_was_told_meanwhile_stands_for_it(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    world.worsen(incident)
    world.relay_at(40)
    for at in (60, 100):  # the worsening began the cooldown again
        world.end_cooldowns_at(at)
        assert world.outcome("opened", incident) == {channel: COOLDOWN}
        assert world.outcome("escalated", incident) == {channel: PENDING}
    assert waiting(world) == []


def test_a_silence_takes_it_over_and_announces_it(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    world.silence(("source", "=", "test"), starts=40, ends=90)
    assert world.end_cooldowns_at(60) == []
    assert world.outcome("opened", incident) == {channel: ("suppressed", "silenced")}
    assert waiting(world) == []
    assert len(world.end_silences_at(90)) == 1
    assert world.outcome("opened", incident) == {channel: PENDING}


def test_a_channel_that_is_off_is_told_nothing_and_its_fallback_is(world: RoutingWorld) -> None:
    off, fallback = world.channel("http://off"), world.channel("http://fallback")
    world.route(off, cooldown_s=60)
    incident = flap(world, 30)
    world.change_rules("UPDATE channels SET enabled = false, fallback_id = %(f)s WHERE id = %(o)s", f=fallback, o=off)
    assert len(world.end_cooldowns_at(60)) == 1
    assert world.outcome("opened", incident) == {
        off: ("suppressed", "channel_disabled"),
        fallback: ("pending", "fallback"),
    }


def test_a_cooldown_that_was_made_longer_ends_later(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    route = world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    world.change_rules("UPDATE routes SET cooldown_s = 100 WHERE id = %(id)s", id=route)
    assert world.end_cooldowns_at(60) == []
    assert waiting(world) == [100]
    world.end_cooldowns_at(100)
    assert world.outcome("opened", incident) == {channel: PENDING}


def change_cooldown(world: RoutingWorld, route: str, seconds: int) -> None:
    with world.owner.begin() as connection:
        routing_versions.move(connection, world.org_id)
        stored = routes.get(connection, org_id=world.org_id, route_id=route)
        config = RouteConfig(
            "r", {}, [], stored["channel_ids"], seconds, None, 30, 300, None, continues=True, enabled=True
        )
        routes.change(connection, org_id=world.org_id, route_id=route, route=config, position=0)


def test_a_cooldown_that_was_made_shorter_ends_sooner(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    route = world.route(channel, cooldown_s=600)
    incident = flap(world, 0)
    assert waiting(world) == [600]
    change_cooldown(world, route, 60)
    world.end_cooldowns_at(30)
    assert waiting(world) == [60], "it is asked again when it ends now"
    assert len(world.end_cooldowns_at(60)) == 1
    assert world.outcome("opened", incident) == {channel: PENDING}


def test_a_cooldown_that_was_taken_away_is_over(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    route = world.route(channel, cooldown_s=600)
    flap(world, 0)
    change_cooldown(world, route, 0)
    assert len(world.end_cooldowns_at(5)) == 1


def test_a_route_that_is_gone_has_no_cooldown_any_more(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    route = world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    world.change_rules("UPDATE routes SET deleted_at = now() WHERE id = %(id)s", id=route)
    world.end_cooldowns_at(60)
    assert world.outcome("opened", incident) == {channel: PENDING}


def test_very_much_is_announced_in_parts_and_all_channels_of_an_incident_at_once(world: RoutingWorld) -> None:
    a, b = world.channel("http://a"), world.channel("http://b")
    world.route(a, b, cooldown_s=60)
    incidents = [flap(world, 30, key=f"k{n}") for n in range(5)]
    hinted: list[str] = []
    ends = CooldownEnds(world.worker, hinted.extend, lambda: world.time(60), batch=1)
    steps = 0
    while ends.step():
        steps += 1
    assert steps == 5
    assert len(set(hinted)) == len(hinted) == 10
    assert all(world.outcome("opened", each) == {a: PENDING, b: PENDING} for each in incidents)


def test_a_notifier_that_dies_on_the_way_leaves_it_to_the_next(
    world: RoutingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    with monkeypatch.context() as patch:
        patch.setattr("common.store.cooldowns.note", _die)
        with pytest.raises(RuntimeError):
            world.end_cooldowns_at(60)
    assert world.outcome("opened", incident) == {channel: COOLDOWN}
    world.end_cooldowns_at(61)
    assert world.outcome("opened", incident) == {channel: PENDING}


def _die(*_args: object) -> None:
    raise RuntimeError


def test_one_that_is_refused_does_not_hold_up_the_others(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    good, bad, better = (flap(world, 30 + n, key=f"k{n}") for n in range(3))
    world.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.incident_id = '{bad}' THEN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$"
    )
    world.run("CREATE TRIGGER refuse BEFORE UPDATE ON notifications FOR EACH ROW EXECUTE FUNCTION refuse()")
    world.end_cooldowns_at(60)
    assert world.outcome("opened", good) == world.outcome("opened", better) == {channel: PENDING}
    assert world.outcome("opened", bad) == {channel: COOLDOWN}


def test_an_incident_that_is_being_resolved_is_left_to_the_next_look(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    incident, other = flap(world, 30, key="a"), flap(world, 30, key="b")
    with world.owner.begin() as resolving:
        resolving.exec_driver_sql(
            "UPDATE incidents SET status = 'resolved', resolved_at = now() WHERE id = %(id)s", {"id": incident}
        )
        assert len(world.end_cooldowns_at(60)) == 1  # the other one need not wait
        assert waiting(world) == [60]
    assert world.end_cooldowns_at(61) == []
    assert world.outcome("opened", incident) == {channel: COOLDOWN}
    assert world.outcome("opened", other) == {channel: PENDING}
    assert waiting(world) == []


def test_several_notifiers_announce_each_once(world: RoutingWorld) -> None:
    world.route(world.channel("http://a"), cooldown_s=60)
    for n in range(12):
        flap(world, 30, key=f"k{n}")

    def end(_n: int) -> list[str]:
        hinted: list[str] = []
        ends = CooldownEnds(world.worker, hinted.extend, lambda: world.time(60), batch=2)
        while ends.step():
            pass
        return hinted

    with ThreadPoolExecutor(3) as pool:
        hinted = [id_ for ids in pool.map(end, range(3)) for id_ in ids]
    assert len(hinted) == len(set(hinted)) == 12
    assert waiting(world) == []


def test_it_waits_for_whoever_holds_the_organization(world: RoutingWorld) -> None:
    channel = world.channel("http://a")
    world.route(channel, cooldown_s=60)
    incident = flap(world, 30)
    with ThreadPoolExecutor(1) as pool:
        with world.owner.begin() as holder:
            holder.exec_driver_sql("SELECT 1 FROM organizations FOR NO KEY UPDATE")
            ending = pool.submit(world.end_cooldowns_at, 60)
            time.sleep(0.3)
            assert not ending.done()
        assert len(ending.result(60)) == 1
    assert world.outcome("opened", incident) == {channel: PENDING}


def let_pass(world: RoutingWorld, route: str, seconds: int) -> None:
    """So long ago is what began a cooldown, and so much sooner ends what it holds back."""
    world.run(
        "WITH begun AS (UPDATE route_cooldowns SET last_at = last_at - %(s)s * interval '1 s' WHERE route_id = %(id)s)"
        " UPDATE notifications SET held_until = held_until - %(s)s * interval '1 s'",
        s=seconds, id=route,
    )  # fmt: skip


def test_a_running_notifier_announces_it(
    world: RoutingWorld, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
    with Sink() as sink:
        channel = world.channel(sink.url("/hook"))
        route = world.route(channel, cooldown_s=600)
        try:
            notifiers.start(TOCSIN_EGRESS="internal")
            first = world.happen(key="k")
            wait_until(lambda: world.outcome("opened", first) == {channel: SENT}, 60)
            world.resolve(first)
            again = world.happen(key="k")
            wait_until(lambda: world.outcome("opened", again) == {channel: COOLDOWN}, 60)
            wait_until(lambda: world.outcome("resolved", first) == {channel: SENT}, 60)
            assert len(sink.received) == 2  # opened, resolved
            let_pass(world, route, 601)
            wait_until(lambda: world.outcome("opened", again) == {channel: SENT}, 60)
            assert len(sink.received) == 3
        finally:
            notifiers.close()
