"""Groups: what is due of one (channel, group) leaves as one message, which stays the same over all attempts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from common.clock import utc_now
from common.domain.delivery import Attempt
from common.domain.incident import EventType, Status
from common.store import bundles, notifications
from common.store.engine import Connection
from common.store.notifications import Claimed, Limits
from notifier.deliver import Deliverer
from tests.conftest import Databases
from tests.sink import Answer, Received, Sink
from tests.world import Post, World, posting

_FREE = Limits(10, 256, {})


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


def group(world: World, key: str | None = "storm") -> None:
    """Relay what has happened; what has no group yet is of this one."""
    world.relay_all()
    world.run(
        "UPDATE notifications SET group_key = %(key)s WHERE group_key IS NULL AND attempts = 0 AND status = 'pending'",
        key=key,
    )


def told(request: Received) -> list[tuple[str, str]]:
    """(event, incident) of a group's message, in order."""
    assert request.json["type"] == "incident.group", request.json
    return [(e["type"].removeprefix("incident."), e["incident"]["id"]) for e in request.json["data"]["incidents"]]


def bundled(connection: Connection, limits: Limits, now: datetime) -> list[Claimed]:
    """What a look at everything claims of what leaves together."""
    return bundles.claim_bundles(connection, notifications.waiting_channels(connection), limits, now)


def forward(world: World) -> None:
    """Let every wait be over, leases included."""
    world.run("UPDATE channels SET retry_at = now() - interval '1 second' WHERE retry_at IS NOT NULL")
    world.run(
        "UPDATE notifications SET next_attempt_at = now() - interval '1 second',"
        " leased_until = now() - interval '1 second' WHERE status = 'pending'"
    )


def test_what_is_due_of_a_group_leaves_as_one_message_in_order(world: World, sink: Sink, post: Post) -> None:
    channel = world.channel(sink.url())
    opened = world.open(5)
    group(world)

    assert post.round() == 1

    (request,) = sink.received
    assert told(request) == [("opened", incident) for incident in opened]
    ((message_id, count),) = world.run("SELECT message_id::text, count(*) FROM notifications GROUP BY message_id")
    assert (request.headers["webhook-id"], count) == (f"msg_{message_id}", 5)
    assert world.ledger() == [("opened", channel, "sent", None, 1)] * 5
    assert [tuple(row[:2]) for row in world.attempts()] == [("delivered", 200)] * 5
    assert post.round() == 0


def test_one_alone_of_a_group_is_an_ordinary_message_with_the_same_id_every_time(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(Answer(500))
    world.open()
    group(world)
    post.round()
    forward(world)
    world.open()
    group(world)
    forward(world)
    post.until(lambda: len(sink.accepted()) == 2)

    assert [r.type for r in sink.received] == ["opened"] * 3
    first, second, third = (r.headers["webhook-id"] for r in sink.received)
    assert first == second != third


def test_groups_channels_and_what_has_no_group_keep_to_themselves(world: World, sink: Sink, post: Post) -> None:
    for path in ("/a", "/b"):
        world.channel(sink.url(path))
    one = world.open(2)
    group(world, "one")
    other = world.open(3)
    group(world, "other")
    alone = world.open(2)
    world.relay_all()

    post.until(lambda: not world.run("SELECT 1 FROM notifications WHERE status = 'pending'"))

    for path in ("/a", "/b"):
        here = [r for r in sink.received if r.path == path]
        groups = [{incident for _, incident in told(r)} for r in here if r.type == "group"]
        assert sorted(groups, key=len) == [set(one), set(other)]
        assert {r.json["data"]["incident"]["id"] for r in here if r.type == "opened"} == set(alone)
    assert len({r.headers["webhook-id"] for r in sink.received}) == len(sink.received) == 8


def test_a_message_that_was_tried_stays_the_same_and_what_comes_later_is_the_next(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    sink.script["/hook"].extend([Answer(503), Answer(reset=True)])
    early = world.open(3)
    group(world)
    post.round()
    late = world.open(2)
    group(world)
    world.resolve(early[0])
    group(world)
    for _ in range(4):
        forward(world)
        post.round()

    first = [r for r in sink.received if told(r) == [("opened", incident) for incident in early]]
    assert len(first) == 3
    assert len({r.headers["webhook-id"] for r in first}) == len({r.body for r in first}) == 1
    rest = [entry for r in sink.received[3:] for entry in told(r)]
    assert sorted(rest) == sorted([*(("opened", incident) for incident in late), ("resolved", early[0])])
    assert {row[1] for row in world.statuses()} == {"sent"}


def test_the_whole_story_of_an_incident_may_be_in_one_message_in_order(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    one, other = world.open(2)
    world.change(one, EventType.ESCALATED)
    world.change(one, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.resolve(one)
    world.resolve(other)
    group(world)

    assert post.round() == 1

    story = told(sink.received[0])
    assert [event for event, incident in story if incident == one] == [
        "opened", "escalated", "acknowledged", "resolved",
    ]  # fmt: skip
    assert [event for event, incident in story if incident == other] == ["opened", "resolved"]


def test_nothing_of_an_incident_leaves_before_an_older_one_that_waits(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    waits, free = world.open(2)
    world.resolve(waits)
    group(world)
    world.run(
        "UPDATE notifications SET next_attempt_at = now() + interval '1 hour'"
        " WHERE incident_id = %(id)s AND event_type = 'opened'",
        id=waits,
    )
    post.round()
    assert [r.json["data"]["incident"]["id"] for r in sink.received] == [free]
    forward(world)
    post.round()
    assert told(sink.received[1]) == [("opened", waits), ("resolved", waits)]


def test_a_hundred_fit_into_a_message(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    world.open(130)
    group(world)
    post.round()
    assert sorted(len(told(r)) for r in sink.received) == [30, 100]
    assert {row[1] for row in world.statuses()} == {"sent"}


def test_what_nobody_settled_is_sent_again_as_the_same_message(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    early = world.open(3)
    group(world)
    with world.worker.begin() as connection:
        (lost,) = bundled(connection, _FREE, utc_now())
    world.open(2)
    group(world)
    forward(world)

    post.until(lambda: len(sink.accepted()) == 2)

    (again,) = [r for r in sink.received if r.headers["webhook-id"] == f"msg_{lost.message_id}"]
    assert told(again) == [("opened", incident) for incident in early]
    assert world.run("SELECT count(*) FROM notifications WHERE unknown_outcome") == [(3,)]
    assert len(sink.received) == 2


def test_two_notifiers_make_one_message_of_a_group(world: World, sink: Sink) -> None:
    world.channel(sink.url())
    world.open(4)
    group(world)
    with world.worker.begin() as one, world.worker.begin() as other:
        (claim,) = bundled(one, _FREE, utc_now())
        assert len(claim.together) == 4
        assert bundled(other, _FREE, utc_now()) == []
    with world.worker.begin() as other:
        assert bundled(other, _FREE, utc_now()) == []
        (again,) = bundled(other, _FREE, utc_now() + timedelta(seconds=61))
    assert again.message_id == claim.message_id
    assert [c.id for c in again.together] == [c.id for c in claim.together]
    assert len({c.lease_token for c in again.together} | {claim.lease_token}) == 2


def test_a_message_of_which_somebody_holds_a_row_is_left_alone_whole(world: World, sink: Sink) -> None:
    world.channel(sink.url())
    world.open(3)
    group(world)
    with world.owner.begin() as holder, world.worker.begin() as claimer:
        holder.exec_driver_sql("SELECT 1 FROM notifications ORDER BY no DESC LIMIT 1 FOR UPDATE")
        assert bundled(claimer, _FREE, utc_now()) == []
    assert world.run("SELECT count(*) FROM notifications WHERE lease_token IS NOT NULL") == [(0,)]


def test_a_hint_starts_its_group(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    world.open(3)
    group(world)
    (named,) = world.run("SELECT id::text FROM notifications ORDER BY no LIMIT 1")[0]
    assert post.round([named]) == 1
    assert len(told(sink.received[0])) == 3


def test_a_channel_with_no_room_is_given_no_message(world: World, sink: Sink) -> None:
    channel = world.channel(sink.url())
    world.open(3)
    group(world)
    with world.worker.begin() as connection:
        assert bundled(connection, Limits(10, 256, {channel: 10}), utc_now()) == []


def test_what_cannot_be_told_dies_alone_with_what_follows_it_and_the_rest_is_told(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    spoilt, *sound = world.open(3)
    world.resolve(spoilt)
    group(world)
    world.run("UPDATE incident_events SET snapshot = NULL WHERE incident_id = %(id)s AND type = 'opened'", id=spoilt)
    post.round()
    assert told(sink.received[0]) == [("opened", incident) for incident in sound]
    assert [row[:3] for row in world.statuses()] == [
        ("opened", "dead", "message_invalid"), ("opened", "sent", None), ("opened", "sent", None),
        ("resolved", "dead", "message_invalid"),
    ]  # fmt: skip


def test_a_refused_message_is_dead_with_all_its_notifications(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(Answer(404))
    world.open(3)
    group(world)
    post.round()
    assert world.statuses() == [("opened", "dead", "rejected")] * 3


class _Overtaken(Deliverer):
    """Another notifier takes the lease over while we send."""

    async def send(self, claim: Claimed) -> Attempt:
        with self._parts.database.begin() as connection:
            connection.exec_driver_sql("UPDATE notifications SET lease_token = '00000000-0000-0000-0000-000000000001'")
        return await super().send(claim)


def test_a_message_whose_lease_is_another_s_is_settled_by_that_one_alone(world: World, sink: Sink) -> None:
    world.channel(sink.url())
    world.open(3)
    group(world)
    with posting(world, _Overtaken) as post:
        post.round()
    assert world.statuses() == [("opened", "pending", None)] * 3
    assert [row[0] for row in world.attempts()] == ["delivered"] * 3


def test_a_failing_channel_is_tried_with_one_group_at_a_time_in_turn_and_then_gets_all(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    sink.default["/hook"] = Answer(503)
    for key in ("a", "b", "c"):
        world.open(4)
        group(world, key)
    sent = 3  # at once, while it seemed well
    assert post.round() == sent
    for _ in range(4):
        world.run("UPDATE channels SET retry_at = now() - interval '1 second'")
        world.run("UPDATE notifications SET next_attempt_at = next_attempt_at - interval '1 hour'")
        assert post.round() == 1
    assert len(sink.received) == sent + 4
    assert len({(r.headers["webhook-id"], r.body) for r in sink.received}) == 3
    assert len({r.headers["webhook-id"] for r in sink.received[sent:]}) == 3

    del sink.default["/hook"]
    forward(world)
    assert post.until(lambda: not world.run("SELECT 1 FROM notifications WHERE status = 'pending'"))
    assert len(sink.accepted()) == 3


def test_a_channel_that_recovers_does_not_hurry_a_group_that_still_gathers(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(Answer(503))
    world.open()
    world.relay_all()
    post.round()
    world.open(2)
    group(world)
    waits = "UPDATE notifications SET next_attempt_at = now() + interval '1 hour' WHERE group_key IS NOT NULL"
    world.run(waits)
    world.run("UPDATE channels SET retry_at = now() - interval '1 second'")
    world.run("UPDATE notifications SET next_attempt_at = now() - interval '1 second' WHERE group_key IS NULL")
    post.round()
    assert len(sink.accepted()) == 1
    gathering: list[Any] = world.run("SELECT next_attempt_at > now() + interval '50 minutes' FROM notifications"
                                     " WHERE group_key IS NOT NULL")  # fmt: skip
    assert gathering == [(True,), (True,)]
    assert post.round() == 0
