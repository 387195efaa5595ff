"""A channel's cap: so many messages in a window, the last takes along all that waits, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from common.clock import utc_now
from common.store.notifications import Limits
from tests.conftest import Databases
from tests.integration.test_groups import bundled, forward, group, told
from tests.sink import Answer, Sink
from tests.world import Post, World, posting


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def post(world: World) -> Iterator[Post]:
    with posting(world) as post:
        yield post


def _capped(world: World, url: str, count: int, window_s: int = 60) -> str:
    channel = world.channel(url)
    world.run(
        "UPDATE channels SET cap_count = %(count)s, cap_window_s = %(window)s WHERE id = %(id)s",
        id=channel,
        count=count,
        window=window_s,
    )
    return channel


def _next_window(world: World) -> None:
    """Let the cap's window be over; what waits has waited since before its end."""
    world.run("UPDATE channels SET cap_started_at = now() - cap_window_s * interval '1 second' - interval '1 second'")
    world.run("UPDATE notifications SET next_attempt_at = now() - interval '10 seconds' WHERE status = 'pending'")


def _open(world: World, count: int = 1) -> list[str]:
    opened = world.open(count)
    world.relay_all()
    return opened


def test_beyond_the_cap_what_comes_waits_and_leaves_as_one_when_the_window_is_over(
    world: World, sink: Sink, post: Post
) -> None:
    _capped(world, sink.url(), 2)
    for _ in range(2):
        _open(world)
        assert post.round() == 1
    waiting = _open(world, 3)
    assert post.round() == 0
    assert [r.type for r in sink.received] == ["opened"] * 2
    assert {status for _, status, _ in world.statuses()[2:]} == {"pending"}

    _next_window(world)
    assert post.round() == 1
    assert told(sink.received[2]) == [("opened", incident) for incident in waiting]
    # The window has room for one more, and what comes now was not held back.
    (last,) = _open(world)
    assert post.round() == 1
    assert sink.received[3].json["data"]["incident"]["id"] == last
    assert {row[1] for row in world.statuses()} == {"sent"}


def test_of_a_burst_the_last_message_that_the_cap_allows_takes_along_all_the_rest(
    world: World, sink: Sink, post: Post
) -> None:
    _capped(world, sink.url(), 3)
    opened = _open(world, 10)
    assert post.round() == 3
    singles = {r.json["data"]["incident"]["id"] for r in sink.received if r.type == "opened"}
    (digest,) = [told(r) for r in sink.received if r.type == "group"]
    assert singles == set(opened[:2])
    assert digest == [("opened", incident) for incident in opened[2:]]


def test_a_group_counts_as_one_message(world: World, sink: Sink, post: Post) -> None:
    _capped(world, sink.url(), 2)
    world.open(5)
    group(world, "one")
    world.open(5)
    group(world, "other")
    assert post.round() == 2
    assert sorted(len(told(r)) for r in sink.received) == [5, 5]


def test_groups_and_singles_wait_for_the_same_message(world: World, sink: Sink, post: Post) -> None:
    _capped(world, sink.url(), 1)
    _open(world)
    post.round()
    grouped = world.open(2)
    group(world)
    single = _open(world)
    assert post.round() == 0
    _next_window(world)
    assert post.round() == 1
    assert [incident for _, incident in told(sink.received[1])] == [*grouped, *single]


def test_trying_again_does_not_count(world: World, sink: Sink, post: Post) -> None:
    channel = _capped(world, sink.url(), 1)
    sink.script["/hook"].extend([Answer(503), Answer(503)])
    _open(world)
    for _ in range(3):
        assert post.round() == 1
        forward(world)
    assert len({(r.headers["webhook-id"], r.body) for r in sink.received}) == 1
    assert world.run("SELECT cap_used FROM channels WHERE id = %(id)s", id=channel) == [(1,)]
    assert world.statuses() == [("opened", "sent", None)]


def test_while_a_capped_channel_fails_no_more_is_tried_than_the_cap_lets_go(
    world: World, sink: Sink, post: Post
) -> None:
    _capped(world, sink.url(), 2, window_s=1)
    sink.default["/hook"] = Answer(503)
    for _ in range(6):
        _open(world)
        world.run("UPDATE channels SET retry_at = now(), cap_started_at = now() - interval '1 minute'")
        world.run("UPDATE notifications SET next_attempt_at = next_attempt_at - interval '1 hour'")
        assert post.round() == 1
    assert len({r.headers["webhook-id"] for r in sink.received}) == 2

    del sink.default["/hook"]
    for _ in range(4):
        _next_window(world)
        forward(world)
        post.round()
    assert {row[1] for row in world.statuses()} == {"sent"}
    # The two that were tried, and everything else at most in what two windows allow.
    assert len(sink.accepted()) <= 4


def test_two_notifiers_count_the_same_cap(world: World, sink: Sink) -> None:
    _capped(world, sink.url(), 2)
    free = Limits(10, 256, {})

    def claim() -> None:
        with world.worker.begin() as other:
            bundled(other, free, utc_now())

    _open(world)
    meanwhile = threading.Thread(target=claim)
    with world.worker.begin() as one:
        assert len(bundled(one, free, utc_now())) == 1
        _open(world)
        meanwhile.start()
        # Whoever counted without holding the channel would wait here for our count, and write over it.
        meanwhile.join(1)
    meanwhile.join(60)
    ((leased,),) = world.run("SELECT count(*) FROM notifications WHERE lease_token IS NOT NULL")
    assert world.run("SELECT cap_used FROM channels") == [(leased,)]
    claim()
    claim()
    assert world.run("SELECT cap_used FROM channels") == [(2,)]


def test_an_incident_s_end_waits_for_its_beginning_under_a_cap_too(world: World, sink: Sink, post: Post) -> None:
    _capped(world, sink.url(), 5)
    (incident,) = _open(world)
    world.resolve(incident)
    world.relay_all()
    assert post.round() == 1
    assert post.round() == 1
    assert [r.type for r in sink.received] == ["opened", "resolved"]


def test_a_digest_that_was_tried_stays_the_same_when_the_cap_is_taken_away(
    world: World, sink: Sink, post: Post
) -> None:
    _capped(world, sink.url(), 1)
    sink.script["/hook"].append(Answer(503))
    _open(world, 3)
    post.round()
    world.run("UPDATE channels SET cap_count = NULL, cap_window_s = NULL, failures = 0, retry_at = NULL")
    forward(world)
    _open(world)
    post.until(lambda: len(sink.accepted()) == 2)
    first, *rest = sink.received
    assert len(told(first)) == 3
    assert sorted(r.type for r in rest) == ["group", "opened"]
    assert [r.body for r in rest if r.type == "group"] == [first.body]
