"""Windows and parents through notifiers as processes: killed at the worst moment, two at once, real webhooks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.clock import utc_now
from tests.conftest import Databases
from tests.integration.test_notifier_process import Notifiers
from tests.maintenance_world import MAINTENANCE, PARENT_DOWN, MaintenanceWorld
from tests.sink import Sink
from tests.stack import wait_until

SHOP = ("team", "=", "shop")
TEAM = {"team": "shop"}


@pytest.fixture
def world(databases: Databases) -> MaintenanceWorld:
    return MaintenanceWorld(databases.owner, databases.worker)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def notifiers(world: MaintenanceWorld, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Notifiers]:
    notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
    yield notifiers
    notifiers.close()


def now(world: MaintenanceWorld) -> float:
    return (utc_now() - world.began).total_seconds()


def told(sink: Sink) -> list[tuple[str, str]]:
    return [(request.type, request.json["data"]["incident"]["id"]) for request in sink.accepted()]


def test_a_notifier_killed_after_the_end_of_a_window_leaves_the_announcement_to_the_next_once(
    world: MaintenanceWorld, notifiers: Notifiers, sink: Sink
) -> None:
    channel = world.channel(sink.url())
    shop, inside = world.monitor(labels=TEAM), world.monitor(labels=TEAM)
    window = world.window(SHOP, ends=3600)
    first = notifiers.start()
    still, over = world.fail(shop, inside, at=now(world))
    wait_until(lambda: world.outcome("opened", still) == {channel: MAINTENANCE}, 60, "the hold")
    wait_until(lambda: len(world.shown()) == 2, 30, "the states")
    world.recover(inside, over, now(world))
    wait_until(lambda: world.outcome("resolved", over), 30, "the relay")
    wait_until(lambda: "held_back" in dict(world.timeline(still)), 30, "the timeline")
    assert told(sink) == []
    os.kill(first.pid, signal.SIGSTOP)
    world.end_window(window, now(world))  # committed; whoever announces is gone
    first.kill()
    first.wait()
    assert told(sink) == []
    notifiers.start()
    notifiers.start()
    assert sink.wait_for(lambda: len(sink.accepted()) == 1)
    wait_until(lambda: world.shown() == set(), 30, "the states")
    world.recover(shop, still, now(world))
    assert sink.wait_for(lambda: len(sink.accepted()) == 2)
    assert told(sink) == [("opened", still), ("resolved", still)]
    assert [type_ for type_, _ in world.timeline(still)] == ["opened", "held_back", "resolved"]


def test_a_window_that_began_while_no_notifier_ran_holds_before_anything_is_told(
    world: MaintenanceWorld, notifiers: Notifiers, sink: Sink
) -> None:
    channel = world.channel(sink.url())
    shop = world.monitor(labels=TEAM)
    world.window(SHOP, starts=0.1, ends=3600, at=-60)
    (incident,) = world.fail(shop, at=now(world))
    assert world.spans() == {}
    notifiers.start()
    wait_until(world.rows, 60, "the relay")
    assert world.outcome("opened", incident) == {channel: MAINTENANCE}
    assert told(sink) == []


def test_the_end_of_a_window_that_comes_by_itself_is_told_by_one_of_two(
    world: MaintenanceWorld, notifiers: Notifiers, sink: Sink
) -> None:
    world.channel(sink.url())
    shop = world.monitor(labels=TEAM)
    notifiers.start()
    notifiers.start()
    wait_until(lambda: len(notifiers.logged("notifier_started")) == 2, 60, "the notifiers")
    at = now(world)
    world.window(SHOP, starts=at + 1, ends=at + 8, at=at)
    wait_until(lambda: world.shown() == {shop}, 30, "the beginning")
    assert now(world) - at >= 1
    (still,) = world.fail(shop, at=now(world))
    assert sink.wait_for(lambda: len(sink.accepted()) == 1, 30)
    assert now(world) - at >= 8
    wait_until(lambda: world.shown() == set(), 30, "the states")
    assert told(sink) == [("opened", still)]


def test_children_of_a_parent_that_falls_and_comes_back_with_all_but_one(
    world: MaintenanceWorld, notifiers: Notifiers, sink: Sink
) -> None:
    channel = world.channel(sink.url())
    switch = world.monitor(name="Switch")
    children = world.monitors(20, parent=switch, interval_s=3)
    notifiers.start()
    notifiers.start()
    (above,) = world.fail(switch, at=now(world))
    assert sink.wait_for(lambda: len(sink.accepted()) == 1)
    below = world.fail(*children, at=now(world))
    wait_until(lambda: len(world.rows()) == 21, 30, "the ledger")
    # What was received a moment ago may not be settled yet.
    wait_until(lambda: {row[2:] for row in world.rows() if row[1] == channel} == {("sent", None), PARENT_DOWN}, 30)
    world.recover(switch, above, now(world))
    for child, incident in zip(children[1:], below[1:], strict=True):
        world.recover(child, incident, now(world))
    world.check(children[0], now(world) + 0.1, 3)
    assert sink.wait_for(lambda: len(sink.accepted()) == 3)
    first, *others = told(sink)
    assert first == ("opened", above)
    # In an order for each incident alone: two notifiers send these.
    assert sorted(others) == sorted([("resolved", above), ("opened", below[0])])
