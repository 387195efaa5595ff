"""A silence holds back what was pending when it began, wherever that waits; at its end what is still wrong is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from common.clock import utc_now
from common.domain.errors import Contended
from common.domain.incident import EventType, Severity, Status
from common.store import fallbacks, redeliveries, silence_ends, silences
from notifier.relay import Relay
from notifier.silences import SilenceEnds
from tests.conftest import Databases
from tests.integration.test_groups import forward, group, told
from tests.routing_world import RoutingWorld
from tests.sink import Answer, Sink
from tests.world import Post, posting

SENT, PENDING = ("sent", None), ("pending", None)
SILENCED, NOT_ANNOUNCED = ("suppressed", "silenced"), ("suppressed", "not_announced")
QUIET = ("team", "=", "shop")


@pytest.fixture
def world(databases: Databases) -> RoutingWorld:
    return RoutingWorld(databases.owner, databases.worker)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def post(world: RoutingWorld) -> Iterator[Post]:
    with posting(world) as post:
        yield post


def shop(world: RoutingWorld, **how: str) -> str:
    """An incident that QUIET covers."""
    return world.happen(labels={"team": "shop"}, **how)


def rounds(post: Post, count: int = 5) -> None:
    for _ in range(count):
        post.round()


def end(world: RoutingWorld, silence: str) -> None:
    """End a silence now, as the API does, and settle it."""
    with world.owner.begin() as connection:
        silences.end(connection, org_id=world.org_id, silence_id=silence)
    ends = SilenceEnds(world.worker, lambda _ids: None, lambda: utc_now() + timedelta(milliseconds=5))
    while ends.step():
        pass


def types(sink: Sink) -> list[str]:
    return [request.type for request in sink.accepted()]


def test_what_waits_when_it_begins_is_held_back_as_if_it_had_been_silent_before(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    channel = world.channel(sink.url())
    quiet, loud = shop(world), world.happen()
    world.relay_at()
    silence = world.silence(QUIET)
    rounds(post)

    assert [request.json["data"]["incident"]["id"] for request in sink.received] == [loud]
    assert world.outcome("opened", quiet) == {channel: SILENCED}
    columns = "attempts, first_attempt_at, lease_token, leased_until, message_id, silence_id::text"
    held = world.run(f"SELECT {columns} FROM notifications WHERE status = 'suppressed'")
    assert held == [(0, None, None, None, None, silence)]
    assert post.woken.is_set(), "others may leave instead"

    end(world, silence)
    rounds(post)
    assert world.outcome("opened", quiet) == {channel: SENT}
    world.resolve(quiet)
    world.relay_at()
    rounds(post)
    assert types(sink) == ["opened", "opened", "resolved"]


def test_what_is_resolved_before_it_ends_is_never_told(world: RoutingWorld, sink: Sink, post: Post) -> None:
    channel = world.channel(sink.url())
    incident = shop(world)
    world.relay_at()
    silence = world.silence(QUIET)
    rounds(post)
    world.resolve(incident)
    world.relay_at()
    end(world, silence)
    rounds(post)
    assert world.outcome("opened", incident) == {channel: SILENCED}
    assert world.outcome("resolved", incident) == {channel: NOT_ANNOUNCED}
    assert sink.received == []


def test_an_end_that_waits_behind_it_is_not_told_either(world: RoutingWorld, sink: Sink, post: Post) -> None:
    channel = world.channel(sink.url())
    incident = shop(world)
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.resolve(incident)
    world.relay_at()
    assert world.outcome("resolved", incident) == {channel: PENDING}
    silence = world.silence(QUIET)
    rounds(post)
    end(world, silence)
    rounds(post)
    assert [row[2:] for row in world.rows(incident)] == [SILENCED, NOT_ANNOUNCED, NOT_ANNOUNCED]
    assert sink.received == []


def test_an_acknowledgement_that_waits_behind_it_is_told_after_it_when_it_ends(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    incident = shop(world)
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.relay_at()
    silence = world.silence(QUIET)
    rounds(post)
    assert [row[2:] for row in world.rows(incident)] == [SILENCED, NOT_ANNOUNCED]
    end(world, silence)
    rounds(post)
    assert types(sink) == ["opened", "acknowledged"]


def test_a_worsening_is_held_back_and_the_end_of_what_was_told_is_not(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    incident = shop(world)
    world.relay_at()
    rounds(post)
    world.worsen(incident)
    world.resolve(incident)
    world.relay_at()
    world.silence(QUIET)
    rounds(post)
    assert types(sink) == ["opened", "resolved"]
    assert [row[2:] for row in world.rows(incident)] == [SENT, SILENCED, SENT]


def test_a_worsening_that_it_does_not_cover_is_told(world: RoutingWorld, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    incident = world.happen(Severity.WARNING)
    world.relay_at()
    world.worsen(incident, Severity.CRITICAL)
    world.silence(("severity", "=", "warning"))
    world.relay_at()
    rounds(post)
    assert types(sink) == ["escalated"]
    world.resolve(incident)
    world.relay_at()
    rounds(post)
    assert types(sink) == ["escalated", "resolved"]


def test_a_reminder_is_held_back_for_good(world: RoutingWorld, sink: Sink, post: Post) -> None:
    channel = world.channel(sink.url())
    route = world.route(channel, repeat_interval_s=60)
    incident = shop(world)
    world.relay_at()
    rounds(post)
    world.remind(incident, route)
    world.relay_at()
    silence = world.silence(QUIET)
    rounds(post)
    end(world, silence)
    rounds(post)
    assert types(sink) == ["opened"]
    assert world.outcome("reminder") == {channel: SILENCED}


def test_what_a_failing_channel_has_tried_is_held_back_and_another_one_is_tried_at_once(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    channel = world.channel(sink.url())
    sink.script["/hook"].append(Answer(503))
    quiet = shop(world)
    world.relay_at()
    rounds(post, 1)
    loud = world.happen()
    world.relay_at()
    world.silence(QUIET)
    forward(world)
    rounds(post)
    assert world.outcome("opened", quiet) == {channel: SILENCED}
    assert world.outcome("opened", loud) == {channel: SENT}
    assert len(sink.accepted()) == 1
    assert world.run("SELECT failures FROM channels") == [(0,)]


@pytest.mark.parametrize(
    ("answer", "end_is"),
    [(Answer(503), NOT_ANNOUNCED), (Answer(reset=True), SENT)],  # the second one may have arrived
)
def test_the_end_is_told_where_the_beginning_may_have_arrived(
    world: RoutingWorld, sink: Sink, post: Post, answer: Answer, end_is: tuple[str, str | None]
) -> None:
    channel = world.channel(sink.url())
    sink.script["/hook"].append(answer)
    incident = shop(world)
    world.relay_at()
    world.resolve(incident)
    world.relay_at()
    rounds(post, 1)
    world.silence(QUIET)
    for _ in range(3):
        forward(world)
        rounds(post, 1)
    assert world.outcome("opened", incident) == {channel: SILENCED}
    assert world.outcome("resolved", incident) == {channel: end_is}


def test_what_is_under_way_when_it_begins_and_comes_back_is_held_back(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    channel = world.channel(sink.url())
    sink.script["/hook"].append(Answer(503, wait_s=0.3))
    incident = shop(world)
    world.relay_at()
    post.start()
    world.silence(QUIET)
    post.settle()
    assert world.outcome("opened", incident) == {channel: ("pending", "retrying")}
    forward(world)
    rounds(post)
    assert world.outcome("opened", incident) == {channel: SILENCED}


def test_a_group_leaves_without_what_is_silenced(world: RoutingWorld, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    quiet, *loud = shop(world), world.happen(), world.happen()
    over = shop(world)
    world.resolve(over)
    group(world)
    world.silence(QUIET)
    rounds(post)
    assert told(sink.received[0]) == [("opened", incident) for incident in loud]
    assert len(sink.received) == 1
    assert [row[2:] for row in world.rows(quiet)] == [SILENCED]
    assert [row[2:] for row in world.rows(over)] == [SILENCED, NOT_ANNOUNCED]
    assert world.run("SELECT count(*) FROM notifications WHERE lease_token IS NOT NULL") == [(0,)]


def test_a_group_of_nothing_else_does_not_leave_and_leaves_together_when_it_ends(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    opened = [shop(world) for _ in range(3)]
    group(world)
    silence = world.silence(QUIET)
    rounds(post)
    assert sink.received == []
    end(world, silence)
    rounds(post)
    assert [told(request) for request in sink.received] == [[("opened", incident) for incident in opened]]


@pytest.mark.parametrize("all_", [True, False])
def test_a_group_that_was_tried_stays_as_it_is_unless_all_of_it_is_silenced(
    world: RoutingWorld, sink: Sink, post: Post, *, all_: bool
) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(Answer(503))
    _quiet, _other = shop(world), shop(world) if all_ else world.happen()
    group(world)
    rounds(post, 1)
    world.silence(QUIET)
    for _ in range(3):
        forward(world)
        rounds(post, 1)
    if all_:
        assert len(sink.received) == 1
        assert {row[2:] for row in world.rows()} == {SILENCED}
    else:
        first, second = sink.received
        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_the_rest_of_a_tried_group_leaves_under_an_id_of_its_own(world: RoutingWorld, sink: Sink, post: Post) -> None:
    """An end that must be told, because its beginning may have arrived, without the worsening before it."""
    world.channel(sink.url())
    incident = shop(world)
    world.relay_at()
    rounds(post)
    world.worsen(incident)
    world.resolve(incident)
    group(world)
    sink.script["/hook"].append(Answer(503))
    rounds(post, 1)
    world.silence(QUIET)
    for _ in range(3):
        forward(world)
        rounds(post, 1)
    assert types(sink) == ["opened", "resolved"]
    assert [row[2:] for row in world.rows()] == [SENT, SILENCED, SENT]
    seen = [request.headers["webhook-id"] for request in sink.received]
    assert len(set(seen)) == 3
    # Which message was which stays known, also of the one that is not under way any more.
    attempts = world.run("SELECT DISTINCT message_id::text FROM delivery_attempts")
    assert {f"msg_{message}" for (message,) in attempts} == set(seen)


def test_what_does_not_leave_does_not_count_against_a_cap(world: RoutingWorld, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    world.run("UPDATE channels SET cap_count = 2, cap_window_s = 600")
    shop(world)
    world.relay_at()
    silence = world.silence(QUIET)
    rounds(post)
    assert world.run("SELECT cap_used FROM channels") == [(0,)]
    loud = [world.happen(), world.happen()]
    world.relay_at()
    rounds(post)
    assert [request.json["data"]["incident"]["id"] for request in sink.received] == loud
    end(world, silence)
    rounds(post)
    assert len(sink.received) == 2, "the cap holds"


def test_what_a_fallback_is_given_and_what_is_sent_again_is_held_back_too(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    first, second = world.channel(sink.url("/a")), world.channel(sink.url("/b"), is_default=False)
    world.run("UPDATE channels SET fallback_id = %(f)s WHERE id = %(id)s", id=first, f=second)
    sink.script["/a"].append(Answer(404))
    incident = shop(world)
    world.relay_at()
    rounds(post, 1)
    assert world.outcome("opened", incident)[second] == ("pending", fallbacks.REASON)
    world.silence(QUIET)
    rounds(post)
    assert world.outcome("opened", incident) == {first: ("dead", "rejected"), second: SILENCED}

    (dead,) = (row[0] for row in world.run("SELECT id::text FROM notifications WHERE status = 'dead'"))
    with world.owner.begin() as connection:
        redeliveries.redeliver(connection, org_id=world.org_id, ids=[dead])
    rounds(post)
    assert world.outcome("opened", incident) == {first: SILENCED, second: SILENCED}


def test_silences_of_others_of_other_times_and_of_other_things_hold_nothing_back(
    world: RoutingWorld, databases: Databases, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    shop(world)
    world.relay_at()
    RoutingWorld(databases.owner, databases.worker).silence(QUIET)
    world.silence(QUIET, starts=600)
    world.silence(QUIET, ends=-1)
    world.silence(("team", "=", "payments"))
    rounds(post)
    assert types(sink) == ["opened"]


def test_very_many_silenced_ones_do_not_keep_the_others(world: RoutingWorld, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    for _ in range(150):
        shop(world)
    loud = world.happen()
    world.relay_at()
    world.silence(QUIET)
    assert post.until(lambda: bool(sink.received) or not post.woken.is_set())
    rounds(post, 20)
    assert [request.json["data"]["incident"]["id"] for request in sink.received] == [loud]


def test_a_silence_that_somebody_is_changing_is_asked_again_in_a_moment(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    channel = world.channel(sink.url())
    world.run("UPDATE channels SET cap_count = 5, cap_window_s = 600")
    incident = shop(world)
    world.relay_at()
    silence = world.silence(QUIET)
    with world.owner.begin() as connection:
        connection.exec_driver_sql("UPDATE silences SET ends_at = now() WHERE id = %(id)s", {"id": silence})
        rounds(post)
        assert sink.received == []
        assert world.outcome("opened", incident) == {channel: PENDING}
    assert world.run("SELECT attempts, first_attempt_at, lease_token, message_id FROM notifications") == [
        (0, None, None, None)
    ]
    assert world.run("SELECT cap_used FROM channels") == [(0,)]
    forward(world)
    rounds(post)
    assert types(sink) == ["opened"]


def test_its_end_waits_for_who_is_holding_something_back_and_announces_that(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    shop(world)
    world.relay_at()
    silence = world.silence(QUIET)
    settled = threading.Event()

    def settle() -> None:
        end(world, silence)
        settled.set()

    with world.worker.begin() as claiming:
        # What a claim does, and then dawdles.
        claiming.exec_driver_sql("SELECT 1 FROM silences WHERE id = %(id)s FOR SHARE", {"id": silence})
        claiming.exec_driver_sql(
            "UPDATE notifications SET status = 'suppressed', reason = 'silenced', silence_id = %(id)s", {"id": silence}
        )
        thread = threading.Thread(target=settle)
        thread.start()
        assert not settled.wait(0.3)
    thread.join(60)
    assert world.settled(silence)
    rounds(post)
    assert types(sink) == ["opened"]


def test_while_its_end_is_being_settled_nothing_is_held_back_by_it(world: RoutingWorld, sink: Sink, post: Post) -> None:
    """Our clock may be behind: by it the silence is still on."""
    world.channel(sink.url())
    shop(world)
    world.relay_at()
    silence = world.silence(QUIET, ends=60)
    with world.worker.begin() as settling:
        held = silence_ends.hold(settling, silence, world.org_id, world.time(61))
        assert held is not None
        rounds(post)
        assert sink.received == []
        silence_ends.settle(settling, held, world.time(61))
    forward(world)
    rounds(post)
    assert types(sink) == ["opened"]


def test_silences_come_and_go_while_messages_leave_and_nothing_is_lost_or_told_twice(
    world: RoutingWorld, sink: Sink, post: Post
) -> None:
    world.channel(sink.url("/a"))
    world.channel(sink.url("/b"))
    stop, errors = threading.Event(), list[BaseException]()
    opened: list[str] = []

    def loop(work: object) -> None:
        try:
            while not stop.is_set():
                try:
                    work()  # type: ignore[operator]
                except Contended:
                    continue
        except BaseException as error:
            errors.append(error)

    relay = Relay(world.worker, lambda _ids: None, utc_now)
    ends = SilenceEnds(world.worker, lambda _ids: None, utc_now)

    def happen() -> None:
        opened.append(shop(world))
        if len(opened) % 3 == 0:
            world.resolve(opened[-2])
        time.sleep(0.01)

    def silence() -> None:
        now_s = (utc_now() - world.began).total_seconds()
        world.silence(QUIET, ends=now_s + 0.15)
        time.sleep(0.25)

    threads = [threading.Thread(target=loop, args=(work,)) for work in (happen, silence, relay.step, ends.step)]
    for thread in threads:
        thread.start()
    ends_at = time.monotonic() + 4
    while time.monotonic() < ends_at:
        post.start()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert errors == []
    time.sleep(0.3)
    for _ in range(3):
        while relay.step() or ends.step():
            pass
        forward_due(world)
        assert post.until(lambda: not world.run("SELECT 1 FROM notifications WHERE status = 'pending' LIMIT 1"))
    told_at = {(r.path, r.json["data"]["incident"]["id"], r.type) for r in sink.received}
    assert len(told_at) == len(sink.received), "told twice"
    still_open = {row[0] for row in world.run("SELECT id::text FROM incidents WHERE status <> 'resolved'")}
    for path in ("/a", "/b"):
        began = {incident for at, incident, type_ in told_at if (at, type_) == (path, "opened")}
        ended = {incident for at, incident, type_ in told_at if (at, type_) == (path, "resolved")}
        assert still_open <= began, "a problem that nobody was told of"
        assert began - still_open == ended, "an end without its beginning, or a beginning without its end"
    assert world.run("SELECT count(*) > 0 FROM notifications WHERE reason = 'silenced'") == [(True,)]
    assert world.run("SELECT sum(attempts) FILTER (WHERE status = 'suppressed') FROM notifications") == [(0,)]


def forward_due(world: RoutingWorld) -> None:
    world.run("UPDATE notifications SET next_attempt_at = now() - interval '1 second' WHERE status = 'pending'"
              " AND lease_token IS NULL")  # fmt: skip
