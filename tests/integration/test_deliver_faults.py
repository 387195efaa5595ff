"""Delivery as a process, under receivers that fail in every way and deaths at every point: nothing lost, order held."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from common.domain.delivery import SEND_DEADLINE_S
from tests.conftest import Databases
from tests.integration.test_groups import group, told
from tests.integration.test_notifier_process import Notifiers, _hint_until_dead
from tests.sink import Answer, Sink
from tests.world import World

_HEALTHY = [f"/healthy{n}" for n in range(5)]


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def notifiers(world: World, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Notifiers]:
    notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
    yield notifiers
    notifiers.close()


def test_one_receiver_that_hangs_costs_the_others_nothing(world: World, sink: Sink, notifiers: Notifiers) -> None:
    for path in ("/hangs", *_HEALTHY):
        world.channel(sink.url(path))
    sink.default["/hangs"] = Answer(wait_s=30)
    notifiers.start()
    assert sink.wait_for(lambda: bool(notifiers.logged("notifier_started")))
    committed: dict[str, float] = {}
    for _ in range(50):
        (incident,) = world.open()
        committed[incident] = time.time()
        time.sleep(0.02)

    assert sink.wait_for(lambda: len(sink.accepted()) >= 250)

    waits = sorted(r.at - committed[r.json["data"]["incident"]["id"]] for r in sink.accepted())
    assert Counter(r.path for r in sink.accepted()) == dict.fromkeys(_HEALTHY, 50)
    # Whoever waited for one that hangs would go on when that is given up.
    assert waits[int(len(waits) * 0.95)] < SEND_DEADLINE_S - 5, waits[-20:]


def test_each_failing_receiver_gets_everything_once_it_is_well_and_the_wait_it_asked_for(
    world: World, sink: Sink, notifiers: Notifiers
) -> None:
    paths = {"/busy": 2, "/broken": 2, "/resets": 1, "/forgets": 0}
    for path in paths:
        world.channel(sink.url(path))
    sink.script["/busy"].extend([Answer(429, {"Retry-After": "3"}), Answer(429, {"Retry-After": "3"})])
    sink.script["/broken"].extend([Answer(500), Answer(503)])
    sink.script["/resets"].append(Answer(reset=True))
    sink.default["/forgets"] = Answer(reset_after_status=True)
    notifiers.start()
    (incident,) = world.open()
    assert sink.wait_for(lambda: len(sink.received) >= len(paths))
    world.resolve(incident)

    assert sink.wait_for(lambda: len(sink.accepted()) == 2 * len(paths))

    for path, failures in paths.items():
        here = [r for r in sink.received if r.path == path]
        assert [r.type for r in here] == ["opened"] * (failures + 1) + ["resolved"], path
        assert len({(r.headers["webhook-id"], r.body) for r in here}) == 2, path
    busy = [r.at for r in sink.received if r.path == "/busy"]
    assert all(later - earlier >= 2.9 for earlier, later in pairwise(busy[:3])), busy
    assert sink.wait_for(lambda: _all_sent(world))


@pytest.mark.parametrize(
    ("failpoint", "most"),
    [("before_claim", 1), ("after_claim", 1), ("after_send", 2), ("before_settle", 2), ("after_settle", 1)],
)
def test_a_group_whose_notifier_dies_is_not_lost_and_repeated_only_as_the_same_message(
    world: World, sink: Sink, notifiers: Notifiers, tmp_path: Path, failpoint: str, most: int
) -> None:
    world.channel(sink.url())
    early = world.open(5)
    group(world)
    wounded = notifiers.start("tests.notifier_driver", failpoint, str(tmp_path / "mark"))
    if failpoint == "before_claim":
        # The sweeper claims without a hint, and may be first: then the hint meets the failpoint afterwards.
        _hint_until_dead(world, notifiers, wounded)
    assert wounded.wait(60) == -signal.SIGKILL
    for incident in early:
        world.resolve(incident)
    world.open(3)
    group(world)
    # In life this takes the lease's 26 seconds.
    world.run("UPDATE notifications SET leased_until = now() - interval '1 second' WHERE leased_until IS NOT NULL")

    notifiers.start("tests.notifier_driver", failpoint, str(tmp_path / "mark"))

    assert sink.wait_for(lambda: {row[1] for row in world.statuses()} == {"sent"})
    contents: dict[str, set[bytes]] = {}
    for request in sink.received:
        contents.setdefault(request.headers["webhook-id"], set()).add(request.body)
    assert all(len(bodies) == 1 for bodies in contents.values()), "one id, one content"
    times = Counter(r.headers["webhook-id"] for r in sink.received)
    assert sum(times.values()) - len(times) == most - 1
    last: dict[str, list[str]] = {}
    for request in {r.headers["webhook-id"]: r for r in sink.received}.values():
        for event, incident in told(request):
            last.setdefault(incident, []).append(event)
    assert all(last[incident] == ["opened", "resolved"] for incident in early)
    assert len(last) == 8
    assert all(events in (["opened", "resolved"], ["opened"]) for events in last.values())


def test_under_a_cap_a_storm_and_a_death_lose_nothing(world: World, sink: Sink, notifiers: Notifiers) -> None:
    world.channel(sink.url())
    world.run("UPDATE channels SET cap_count = 3, cap_window_s = 2")
    first = notifiers.start()
    assert sink.wait_for(lambda: bool(notifiers.logged("notifier_started")))
    opened = []
    for n in range(60):
        opened += world.open()
        if n == 30:
            first.kill()
            notifiers.start()
        threading.Event().wait(0.05)
    assert sink.wait_for(lambda: _all_sent(world), 80)
    heard: Counter[str] = Counter()
    for request in {r.headers["webhook-id"]: r for r in sink.received}.values():
        heard.update(i for _, i in told(request)) if request.type == "group" else heard.update(
            [request.json["data"]["incident"]["id"]]
        )
    assert heard == Counter(opened)
    # When each message was first let go: when it arrives is ours and the machine's matter as well.
    first = (
        "SELECT extract(epoch FROM min(first_attempt_at))::float FROM notifications GROUP BY COALESCE(message_id, id)"
    )
    spans = sorted(row[0] for row in world.run(first))
    assert len(spans) == len({r.headers["webhook-id"] for r in sink.received})
    # Windows are fixed, so any two seconds see at most two windows' messages.
    assert all(sum(start <= at < start + 2 for at in spans) <= 6 for start in spans)


def _all_sent(world: World) -> bool:
    return not world.run("SELECT 1 FROM notifications WHERE status <> 'sent'") and not world.run("SELECT 1 FROM outbox")
