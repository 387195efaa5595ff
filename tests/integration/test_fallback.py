"""Fallback channels: what a channel could not be told goes on to the next, in order, end included; and 410's notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from common.clock import utc_now
from common.domain.incident import EventType, Status
from common.store import channels, fallbacks, notifications
from notifier.fallbacks import Fallbacks
from tests.conftest import Databases
from tests.integration.test_groups import forward, group, told
from tests.sink import Answer, Sink
from tests.world import Post, World, posting

Rows = list[tuple[str, str, str | None]]


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


@pytest.fixture
def chain(world: World, sink: Sink) -> dict[str, str]:
    """/a falls back to /b, that to /c; only /a is told by rule."""
    ids = {path: world.channel(sink.url(path), is_default=path == "/a") for path in ("/c", "/b", "/a")}
    for path, fallback in (("/a", "/b"), ("/b", "/c")):
        world.run("UPDATE channels SET fallback_id = %(to)s WHERE id = %(id)s", id=ids[path], to=ids[fallback])
    return ids


def _at(world: World, channel: str) -> Rows:
    return [(event, status, reason) for event, id_, status, reason, _ in world.ledger() if id_ == channel]


def _heard(sink: Sink, path: str) -> list[str]:
    """What arrived there, Tocsin's notices of its own aside."""
    return [r.type for r in sink.accepted(path) if r.json["data"]["incident"]["source"] != "tocsin"]


def _until_settled(world: World, post: Post) -> None:
    assert post.until(lambda: not world.run("SELECT 1 FROM notifications WHERE status = 'pending'"))


def _suppress(world: World) -> None:
    with world.worker.begin() as connection:
        notifications.suppress_disabled(connection, utc_now())


@pytest.mark.parametrize(
    ("answer", "damage", "reason"),
    [
        (Answer(404), "", "rejected"),
        (Answer(410), "", "gone"),
        (Answer(), "UPDATE channels SET secrets = 'garbage' WHERE id = %(a)s", "secret_unreadable"),
    ],
)
def test_what_dies_at_a_channel_is_told_to_its_fallback_and_so_is_the_end(
    world: World, sink: Sink, post: Post, chain: dict[str, str], answer: Answer, damage: str, reason: str
) -> None:
    sink.script["/a"].append(answer)
    (incident,) = world.open()
    world.relay_all()
    if damage:
        world.run(damage, a=chain["/a"])
    post.round()
    assert _at(world, chain["/b"]) == [("opened", "pending", "fallback")]
    assert post.woken.is_set(), "it is not left to the next look"
    world.resolve(incident)
    world.relay_all()
    _until_settled(world, post)

    assert _at(world, chain["/a"])[0] == ("opened", "dead", reason)
    assert _heard(sink, "/b") == ["opened", "resolved"]
    assert [r for r in sink.accepted("/a") if r.type == "resolved"] == []
    assert _at(world, chain["/c"]) == []


def test_a_dead_one_s_end_that_is_written_already_comes_after_it_at_the_fallback(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    (incident,) = world.open()
    world.change(incident, EventType.ESCALATED)
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.resolve(incident)
    world.relay_all()
    sink.default["/a"] = Answer(404)
    _until_settled(world, post)
    assert _heard(sink, "/b") == ["opened", "escalated", "acknowledged", "resolved"]
    assert {status for _, status, _ in _at(world, chain["/a"])} <= {"dead", "suppressed"}


def test_an_expired_one_goes_on_and_its_end_is_told_at_both_where_it_may_have_arrived(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.script["/a"].append(Answer(reset=True))
    (incident,) = world.open()
    world.relay_all()
    world.resolve(incident)
    world.relay_all()
    world.run("UPDATE notifications SET first_attempt_at = now() - interval '25 hours' WHERE event_type = 'opened'")
    post.round()
    forward(world)
    _until_settled(world, post)
    assert _heard(sink, "/b") == ["opened", "resolved"]
    assert _heard(sink, "/a") == ["resolved"]
    assert _at(world, chain["/a"])[0] == ("opened", "dead", "expired")


def test_the_end_alone_is_not_told_to_who_never_heard_the_beginning(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    (incident,) = world.open()
    world.relay_all()
    post.round()
    sink.default["/a"] = Answer(404)
    world.resolve(incident)
    world.relay_all()
    post.round()
    assert _at(world, chain["/a"]) == [("opened", "sent", None), ("resolved", "dead", "rejected")]
    assert _at(world, chain["/b"]) == []


def test_chains_go_on_and_end(world: World, sink: Sink, post: Post, chain: dict[str, str]) -> None:
    for path in ("/a", "/b", "/c"):
        sink.default[path] = Answer(404)
    world.open()
    world.relay_all()
    _until_settled(world, post)
    for path in ("/a", "/b", "/c"):
        assert _at(world, chain[path]) == [("opened", "dead", "rejected")]
        assert len(sink.received) == 3


def test_a_loop_that_is_there_all_the_same_ends_where_it_began(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    world.run("UPDATE channels SET fallback_id = %(a)s WHERE id = %(c)s", a=chain["/a"], c=chain["/c"])
    for path in ("/a", "/b", "/c"):
        sink.default[path] = Answer(404)
    world.open()
    world.relay_all()
    _until_settled(world, post)
    assert len(sink.received) == 3


def test_a_fallback_that_is_off_is_passed_over(world: World, sink: Sink, post: Post, chain: dict[str, str]) -> None:
    world.run("UPDATE channels SET enabled = false WHERE id = %(b)s", b=chain["/b"])
    sink.default["/a"] = Answer(404)
    world.open()
    world.relay_all()
    _until_settled(world, post)
    assert _at(world, chain["/b"]) == []
    assert _heard(sink, "/c") == ["opened"]


def test_what_waits_for_a_channel_that_is_switched_off_goes_to_its_fallback(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.default["/a"] = Answer(503)
    first, second = world.open(2)
    world.relay_all()
    post.round()
    world.resolve(first)
    world.relay_all()
    world.run("UPDATE channels SET enabled = false WHERE id = %(a)s", a=chain["/a"])
    _suppress(world)
    assert {status for _, status, _ in _at(world, chain["/a"])} == {"suppressed"}
    world.resolve(second)
    world.relay_all()
    _until_settled(world, post)
    heard = [(r.type, r.json["data"]["incident"]["id"]) for r in sink.accepted("/b")]
    for incident in (first, second):
        assert [event for event, id_ in heard if id_ == incident] == ["opened", "resolved"]


def test_a_fallback_that_is_told_by_rule_as_well_hears_once(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    world.run("UPDATE channels SET is_default = true WHERE id = %(b)s", b=chain["/b"])
    sink.default["/a"] = Answer(404)
    (incident,) = world.open()
    world.resolve(incident)
    world.relay_all()
    _until_settled(world, post)
    assert _heard(sink, "/b") == ["opened", "resolved"]


def test_an_event_that_dies_at_two_channels_reaches_their_common_fallback_once(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    other = world.channel(sink.url("/other"))
    world.run("UPDATE channels SET fallback_id = %(b)s WHERE id = %(id)s", id=other, b=chain["/b"])
    sink.default["/a"] = sink.default["/other"] = Answer(404)
    world.open(3)
    world.relay_all()
    _until_settled(world, post)
    assert len(sink.accepted("/b")) == 3
    assert len({r.json["data"]["incident"]["id"] for r in sink.accepted("/b")}) == 3


def test_a_fallback_that_had_not_heard_hears_the_end_after_the_beginning(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    (incident,) = world.open()
    world.relay_all()
    world.resolve(incident)
    world.relay_all()
    # As if the fallback had become a default channel in between: its row of the end says that it had not heard.
    world.run(
        "INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, reason,"
        " next_attempt_at) SELECT gen_random_uuid(), org_id, event_id, incident_id, %(b)s, event_type, 'suppressed',"
        " 'not_announced', now() FROM notifications WHERE event_type = 'resolved'",
        b=chain["/b"],
    )
    sink.default["/a"] = Answer(404)
    _until_settled(world, post)
    assert _heard(sink, "/b") == ["opened", "resolved"]


def test_what_left_as_one_message_arrives_as_one_at_the_fallback(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.default["/a"] = Answer(404)
    opened = world.open(4)
    group(world)
    _until_settled(world, post)
    (request,) = sink.accepted("/b")
    assert told(request) == [("opened", incident) for incident in opened]


# 410 Gone -----------------------------------------------------------------------------------------------------------


def _incidents(world: World) -> list[tuple[str, str, str, str]]:
    return [
        tuple(row)
        for row in world.run(
            "SELECT title, severity, status, labels->>'channel' FROM incidents WHERE source = 'tocsin'"
        )
    ]


_TITLE = 'Channel "hook" was disabled: its receiver answered 410 Gone'


def test_a_receiver_that_is_gone_is_an_incident_that_the_others_hear_of(world: World, sink: Sink, post: Post) -> None:
    gone, other = world.channel(sink.url("/gone")), world.channel(sink.url("/other"))
    sink.default["/gone"] = Answer(410)
    world.open()
    world.relay_all()
    version = world.run("SELECT routing_version FROM organizations")[0][0]
    post.round()

    assert _incidents(world) == [(_TITLE, "error", "open", "hook")]
    assert world.run("SELECT enabled, disabled_reason FROM channels WHERE id = %(id)s", id=gone) == [(False, "gone")]
    assert world.run("SELECT routing_version FROM organizations")[0][0] > version
    world.relay_all()
    post.round()
    told_of = [r.json["data"]["incident"] for r in sink.accepted("/other")]
    assert [incident["title"] for incident in told_of] == ["Shop is down", _TITLE]
    assert told_of[1]["dedup_key"] == f"channel:{gone}"
    assert len(sink.received) == 3
    assert world.run("SELECT count(*) FROM notifications WHERE channel_id = %(id)s AND status = 'sent'", id=other)


def test_when_every_receiver_is_gone_the_notices_end(world: World, sink: Sink, post: Post) -> None:
    for path in ("/a", "/b", "/c"):
        world.channel(sink.url(path))
        sink.default[path] = Answer(410)
    world.open()
    for _ in range(6):
        world.relay_all()
        _suppress(world)
        post.round()
    assert len(_incidents(world)) == 3
    assert len(sink.received) <= 6
    assert not world.run("SELECT 1 FROM notifications WHERE status = 'pending'")
    assert not world.run("SELECT 1 FROM outbox")


@pytest.mark.parametrize("mend", ["enable", "delete"])
def test_the_notice_is_resolved_when_the_channel_is_enabled_again_or_deleted(
    world: World, sink: Sink, post: Post, databases: Databases, mend: str
) -> None:
    gone, _ = world.channel(sink.url("/gone")), world.channel(sink.url("/other"))
    sink.script["/gone"].append(Answer(410))
    world.open()
    world.relay_all()
    post.round()
    world.relay_all()
    post.round()

    with databases.api.begin(world.org_id) as connection:
        if mend == "delete":
            channels.delete(connection, org_id=world.org_id, channel_id=gone)
        else:
            row = channels.get(connection, org_id=world.org_id, channel_id=gone, lock=True)
            secrets = channels.secrets(connection, org_id=world.org_id, channel_id=gone)
            config = channels.ChannelConfig(row["name"], row["type"], row["config"], enabled=True, is_default=True)
            rewrite = channels.Rewrite(config, secrets, mended=True)
            changed = channels.change(connection, org_id=world.org_id, channel_id=gone, rewrite=rewrite)
            assert changed["disabled_reason"] is None
    world.relay_all()
    post.round()

    assert _incidents(world) == [(_TITLE, "error", "resolved", "hook")]
    notice = [r.type for r in sink.accepted("/other") if r.json["data"]["incident"]["source"] == "tocsin"]
    assert notice == ["opened", "resolved"]


def _give(world: World, minutes: float) -> int:
    """A look of the notifier after so long a failure; how many it gave."""
    world.run(
        "UPDATE channels SET failing_since = %(at)s WHERE failures > 0", at=utc_now() - timedelta(minutes=minutes)
    )
    hinted: list[str] = []
    step = Fallbacks(world.worker, hinted.extend, utc_now).step
    while step():
        pass
    return len(hinted)


def test_what_waits_at_a_channel_that_fails_for_five_minutes_is_told_to_its_fallback_and_arrives_there_later(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.default["/a"] = Answer(503)
    first, second = world.open(2)
    world.change(first, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.relay_all()
    post.round()
    assert _give(world, 4.0) == 0
    assert _give(world, 5.1) == 3, "two beginnings, and what has followed"
    assert _give(world, 60) == 0, "once"
    for _ in range(3):
        post.round()
    assert sorted(_heard(sink, "/b")) == ["acknowledged", "opened", "opened"]
    assert _heard(sink, "/c") == []

    late = world.open()[0]
    world.resolve(second)
    world.relay_all()
    assert _give(world, 5.2) == 1
    world.resolve(late)
    world.relay_all()
    sink.default["/a"] = Answer()
    forward(world)
    _until_settled(world, post)
    # Both heard everything, each in order.
    for path in ("/a", "/b"):
        told = [(r.json["data"]["incident"]["id"], r.type) for r in sink.accepted(path)]
        assert len(told) == len(set(told))
        assert [type_ for id_, type_ in told if id_ == first] == ["opened", "acknowledged"]
        assert [type_ for id_, type_ in told if id_ == second] == ["opened", "resolved"]
        assert [type_ for id_, type_ in told if id_ == late] == ["opened", "resolved"]


def test_a_fallback_of_a_failing_channel_is_not_told_of_what_is_over(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.default["/a"] = Answer(503)
    (incident,) = world.open()
    world.relay_all()
    post.round()
    world.resolve(incident)
    world.relay_all()
    assert _give(world, 10) == 0


def test_a_fallback_that_fails_too_lets_its_own_be_told(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.default["/a"] = sink.default["/b"] = Answer(503)
    world.open()
    world.relay_all()
    post.round()
    assert _give(world, 6) == 1
    post.round()
    assert _give(world, 6) == 1
    post.round()
    assert _heard(sink, "/c") == ["opened"]


def test_without_a_usable_fallback_it_waits_for_one(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.default["/a"] = Answer(503)
    world.open()
    world.relay_all()
    post.round()
    world.run("UPDATE channels SET enabled = false WHERE id <> %(a)s", a=chain["/a"])
    assert _give(world, 6) == 0
    world.run("UPDATE channels SET enabled = true WHERE id = %(b)s", b=chain["/b"])
    assert _give(world, 6) == 1


def test_what_dies_after_its_fallback_was_told_is_not_told_there_again(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.script["/a"].append(Answer(503))
    sink.default["/a"] = Answer(404)
    (incident,) = world.open()
    world.relay_all()
    post.round()
    assert _give(world, 6) == 1
    forward(world)
    _until_settled(world, post)
    assert _heard(sink, "/b") == ["opened"]
    world.resolve(incident)
    world.relay_all()
    _until_settled(world, post)
    assert _heard(sink, "/b") == ["opened", "resolved"]
    assert _at(world, chain["/a"]) == [("opened", "dead", "rejected"), ("resolved", "suppressed", "not_announced")]


def test_a_relay_that_decides_about_an_end_meanwhile_finds_the_fallback_told(
    world: World, sink: Sink, post: Post, chain: dict[str, str]
) -> None:
    sink.default["/a"] = Answer(503)
    (incident,) = world.open()
    world.relay_all()
    post.round()
    world.resolve(incident)
    relayed = threading.Event()

    def relay() -> None:
        world.relay_all()
        relayed.set()

    with world.worker.begin() as connection:
        world.run("UPDATE channels SET failing_since = now() - interval '1 hour' WHERE id = %(a)s", a=chain["/a"])
        ids = [row[0] for row in world.run("SELECT id::text FROM notifications")]
        connection.exec_driver_sql(fallbacks._MARK, {"ids": ids, "now": utc_now()})
        fallbacks.hand_over(connection, ids, utc_now())
        thread = threading.Thread(target=relay)
        thread.start()
        assert not relayed.wait(0.3)
    thread.join(10)
    assert [row[0] for row in _at(world, chain["/b"])] == ["opened", "resolved"]
