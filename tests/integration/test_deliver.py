"""Delivery against a real PostgreSQL and a real receiver: each notification arrives once and in order."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import pytest
from standardwebhooks import Webhook

from common.clock import utc_now
from common.domain.delivery import SEND_DEADLINE_S, Attempt
from common.domain.errors import Contended, Unavailable
from common.domain.incident import EventType, Status
from common.store import bundles, notifications
from common.store.engine import Connection, Database
from common.store.notifications import Claimed, Limits
from notifier.deliver import Deliverer
from tests.conftest import Databases
from tests.sink import Answer, Sink
from tests.world import SECRET, Post, World, posting

_AFTER_STATUS = Answer(reset_after_status=True)


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


def _forward(world: World) -> None:
    """Let every wait be over."""
    world.run("UPDATE channels SET retry_at = now() - interval '1 second' WHERE retry_at IS NOT NULL")
    world.run("UPDATE notifications SET next_attempt_at = now() - interval '1 second' WHERE status = 'pending'")


def _hold_back(world: World) -> None:
    """Let what waits for a channel that fails wait on, however long we stand still here."""
    world.run("UPDATE channels SET retry_at = retry_at + interval '1 hour'")


def _all_settled(world: World) -> bool:
    return not world.run("SELECT 1 FROM notifications WHERE status = 'pending' LIMIT 1")


def test_each_event_reaches_each_channel_once_with_a_signature_that_verifies(
    world: World, sink: Sink, post: Post
) -> None:
    for path in ("/a", "/b"):
        world.channel(sink.url(path))
    opened = world.open(5)
    world.relay_all()

    assert post.until(lambda: _all_settled(world))

    assert Counter((r.path, r.json["data"]["incident"]["id"]) for r in sink.received) == Counter(
        (path, incident) for path in ("/a", "/b") for incident in opened
    )
    for request in sink.received:
        body = Webhook(SECRET).verify(request.body, request.headers)
        assert (body["type"], body["v"]) == ("incident.opened", 1)
    ids = {row[0] for row in world.run("SELECT 'msg_' || id FROM notifications")}
    assert {r.headers["webhook-id"] for r in sink.received} == ids


def test_the_trace_of_the_check_goes_on_in_the_webhook(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    world.open(correlation_id="0af7651916cd43dd8448eb211c80319c")
    world.relay_all()
    post.round()
    assert sink.received[0].headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")


def test_while_the_receiver_is_down_events_wait_and_then_arrive_in_order(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.close()
    (incident,) = world.open()
    world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    world.resolve(incident)
    world.relay_all()
    assert post.round() == 1
    _hold_back(world)
    assert post.round() == 0

    sink.open()
    _forward(world)

    assert post.until(lambda: _all_settled(world))
    assert [r.type for r in sink.received] == ["opened", "acknowledged", "resolved"]
    assert {row[1] for row in world.statuses()} == {"sent"}


def test_a_repeated_attempt_has_the_same_id_and_the_same_bytes(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.script["/hook"].extend([Answer(500), Answer(429), Answer(reset=True), Answer(503)])
    world.open()
    world.relay_all()
    for _ in range(5):
        post.round()
        _forward(world)

    assert len(sink.received) == 5
    assert len({r.headers["webhook-id"] for r in sink.received}) == 1
    assert len({r.body for r in sink.received}) == 1
    assert [tuple(row[:2]) for row in world.attempts()] == [
        ("failed", 500), ("failed", 429), ("unknown", None), ("failed", 503), ("delivered", 200),
    ]  # fmt: skip
    assert world.run("SELECT failures, failing_since, retry_at FROM channels") == [(0, None, None)]


def test_an_answer_that_breaks_off_after_its_2xx_counts_as_delivered(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(_AFTER_STATUS)
    world.open()
    world.relay_all()
    post.round()
    _forward(world)
    post.round()
    assert len(sink.received) == 1
    assert world.statuses() == [("opened", "sent", None)]


def test_a_refused_notification_is_dead_at_once_and_the_channel_stays_well(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(Answer(404))
    first, second = world.open(), world.open()
    world.relay_all()
    world.resolve(first[0])
    world.resolve(second[0])
    world.relay_all()

    assert post.until(lambda: _all_settled(world))

    # Nobody heard of the one beginning, so nobody is told of its end.
    dead = {row[0] for row in world.run("SELECT incident_id::text FROM notifications WHERE status = 'dead'")}
    assert len(dead) == 1
    assert Counter(world.statuses()) == Counter(
        [
            ("opened", "dead", "rejected"), ("resolved", "suppressed", "not_announced"),
            ("opened", "sent", None), ("resolved", "sent", None),
        ]
    )  # fmt: skip
    assert world.run("SELECT failures, retry_at FROM channels") == [(0, None)]


def test_a_refusal_after_a_failure_shows_that_the_channel_is_well(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(Answer(503))
    sink.default["/hook"] = Answer(404)
    world.open(1)
    world.relay_all()
    post.round()
    world.open(30)
    world.relay_all()
    _forward(world)
    assert post.round() == 1, "failing: one is tried"
    assert world.run("SELECT failures, failing_since, retry_at FROM channels") == [(0, None, None)]
    assert post.round() == 10, "well: as many as there is room for"


def test_a_refusal_beside_a_failure_does_not_hide_it(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.script["/hook"].extend([Answer(404, wait_s=0.1), Answer(503, wait_s=0.1)])
    world.open(2)
    world.relay_all()
    post.round()
    assert Counter(row[:2] for row in world.attempts()) == Counter([("rejected", 404), ("failed", 503)])
    # In one transaction the failure counts; else whichever came last.
    assert world.run("SELECT failures <= 1 FROM channels") == [(True,)]


def test_a_redirect_is_a_refusal_and_is_not_followed(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.script["/hook"].append(Answer(307, {"Location": sink.url("/elsewhere")}))
    world.open()
    world.relay_all()
    post.round()
    assert world.statuses() == [("opened", "dead", "rejected")]
    assert [r.path for r in sink.received] == ["/hook"]


def test_a_receiver_that_is_gone_disables_its_channel_and_what_waits_is_suppressed(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    world.run("UPDATE channels SET updated_at = now() - interval '1 day'")
    sink.script["/hook"].append(Answer(410))
    (incident,) = world.open()
    world.change(incident, EventType.ESCALATED)
    world.relay_all()
    post.round()
    with world.worker.begin() as connection:
        notifications.suppress_disabled(connection, utc_now())

    assert world.statuses() == [("opened", "dead", "gone"), ("escalated", "suppressed", "channel_disabled")]
    assert world.run("SELECT enabled, updated_at > now() - interval '1 hour' FROM channels") == [(False, True)]


def test_a_failing_channel_is_tried_with_one_notification_at_a_time_in_turn(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    sink.default["/hook"] = Answer(503)
    world.open(6)
    world.relay_all()
    post.round()
    assert world.run("SELECT failures FROM channels") == [(1,)], "failures at the same time are one"
    _hold_back(world)
    assert post.round() == 0, "held back"
    sink.received.clear()

    for _ in range(4):
        world.run("UPDATE channels SET retry_at = now() - interval '1 second'")
        world.run("UPDATE notifications SET next_attempt_at = next_attempt_at - interval '1 hour'")
        assert post.round() == 1

    assert len({r.headers["webhook-id"] for r in sink.received}) == 4
    (standing,) = world.run(
        "SELECT failures, extract(epoch FROM retry_at - (SELECT max(at) FROM delivery_attempts))::float FROM channels"
    )
    assert tuple(standing) == (5, 16)


def test_a_failing_channel_is_tried_by_one_notifier_at_a_time(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.default["/hook"] = Answer(503)
    world.open(3)
    world.relay_all()
    post.round()
    _forward(world)
    none_yet = Limits(10, 10, {})
    with world.worker.begin() as one:
        assert len(bundles.claim_trials(one, none_yet, utc_now())) == 1
        with world.worker.begin() as other:
            assert bundles.claim_trials(other, none_yet, utc_now()) == []
    with world.worker.begin() as other:
        assert bundles.claim_trials(other, none_yet, utc_now()) == []


def test_one_success_makes_everything_of_that_channel_due(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    sink.default["/hook"] = Answer(503, {"Retry-After": "900"})
    world.open(6)
    world.relay_all()
    post.round()
    wait_s = world.run("SELECT extract(epoch FROM retry_at - now())::float FROM channels")[0][0]
    assert 800 < wait_s <= 900

    del sink.default["/hook"]
    world.run("UPDATE channels SET retry_at = now() - interval '1 second'")
    world.run("UPDATE notifications SET next_attempt_at = now() WHERE no = (SELECT min(no) FROM notifications)")
    assert post.round() == 1

    assert post.woken.is_set()
    assert post.until(lambda: _all_settled(world))


def test_after_a_day_a_notification_is_given_up_and_its_resolve_goes_only_where_it_may_have_arrived(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url("/unsure"))
    world.channel(sink.url("/refusing"))
    sink.script["/unsure"].append(Answer(reset=True))
    sink.script["/refusing"].append(Answer(503))
    (incident,) = world.open()
    world.relay_all()
    world.resolve(incident)
    world.relay_all()
    world.run("UPDATE notifications SET first_attempt_at = now() - interval '25 hours' WHERE event_type = 'opened'")
    post.round()
    _forward(world)
    post.round()

    assert [row[:2] for row in world.statuses()] == [
        ("opened", "dead"), ("opened", "dead"), ("resolved", "sent"), ("resolved", "suppressed"),
    ] or [row[:2] for row in world.statuses()] == [
        ("opened", "dead"), ("opened", "dead"), ("resolved", "suppressed"), ("resolved", "sent"),
    ]  # fmt: skip
    assert [(r.path, r.type) for r in sink.accepted()] == [("/unsure", "resolved")]


def test_two_deliverers_side_by_side_send_nothing_twice(world: World, sink: Sink, post: Post) -> None:
    for path in ("/a", "/b", "/c"):
        world.channel(sink.url(path))
    for incident in world.open(60):
        world.resolve(incident)
    world.relay_all()
    with posting(world) as other:
        deadline = time.monotonic() + 60
        while not _all_settled(world) and time.monotonic() < deadline:
            post.start()
            other.start()

    assert len(sink.received) == 360
    assert len({r.headers["webhook-id"] for r in sink.received}) == 360
    order = [(r.path, r.json["data"]["incident"]["id"]) for r in sink.received if r.type == "resolved"]
    seen = [(r.path, r.json["data"]["incident"]["id"]) for r in sink.received if r.type == "opened"]
    assert Counter(order) == Counter(seen)
    first_resolved = {
        key: i
        for i, key in reversed(
            list(enumerate((r.path, r.type, r.json["data"]["incident"]["id"]) for r in sink.received))
        )
    }
    assert all(first_resolved[path, "opened", key] < first_resolved[path, "resolved", key] for path, key in seen)


def test_a_receiver_that_hangs_holds_up_only_itself(world: World, sink: Sink) -> None:
    world.channel(sink.url("/hangs"))
    world.channel(sink.url("/quick"))
    sink.default["/hangs"] = Answer(wait_s=90)
    world.open(40)
    world.relay_all()
    with posting(world, max_sends=20) as post:
        # Whoever waited for one that hangs would go on when that is given up.
        assert post.until(lambda: len(sink.accepted("/quick")) == 40, SEND_DEADLINE_S - 2)
        sink.hang_up()  # and now it hangs up
        post.settle()


def test_a_notification_whose_holder_died_is_tried_again_when_its_lease_is_over(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    world.open()
    world.relay_all()
    with world.worker.begin() as connection:
        (lost,) = notifications.claim_due(
            connection, notifications.waiting_channels(connection), Limits(10, 10, {}), utc_now()
        )
    assert post.round() == 0
    with world.worker.begin() as connection:
        later = utc_now() + timedelta(seconds=61)
        (again,) = notifications.claim_named(connection, [lost.id], Limits(10, 10, {}), later)
    assert again.number == 2
    assert again.lease_token != lost.lease_token
    assert world.run("SELECT unknown_outcome FROM notifications") == [(True,)]


class _Overtaken(Deliverer):
    """Another notifier takes the lease over while we send."""

    async def send(self, claim: Claimed) -> Attempt:
        with self._parts.database.begin() as connection:
            connection.exec_driver_sql("UPDATE notifications SET lease_token = gen_random_uuid()")
        return await super().send(claim)


def test_a_settlement_without_its_lease_changes_nothing_but_the_attempt_is_on_record(world: World, sink: Sink) -> None:
    world.channel(sink.url())
    world.open()
    world.relay_all()
    with posting(world, _Overtaken) as post:
        post.round()
    assert world.statuses() == [("opened", "pending", None)]
    assert [row[0] for row in world.attempts()] == ["delivered"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        # The key is gone, or the row was copied from another tenant.
        ("UPDATE channels SET secrets = 'garbage'", "secret_unreadable"),
        # No secret at all: an unsigned webhook would be refused by every receiver that checks.
        ("UPDATE channels SET secrets = NULL", "channel_invalid"),
        ("UPDATE channels SET config = '{}'", "channel_invalid"),
        ("UPDATE channels SET type = 'pigeon'", "channel_type_unknown"),
        ("UPDATE incident_events SET snapshot = NULL", "message_invalid"),
        ("UPDATE incident_events SET snapshot = '{\"incident\": {}}'", "message_invalid"),
    ],
)
def test_a_notification_that_cannot_be_sent_is_dead_with_its_reason_and_blocks_nobody(
    world: World, sink: Sink, post: Post, damage: str, reason: str
) -> None:
    world.channel(sink.url())
    world.open()
    world.relay_all()
    world.run(damage)
    world.channel(sink.url("/other"))
    world.open()
    world.relay_all()

    assert post.until(lambda: _all_settled(world))

    assert ("opened", "dead", reason) in world.statuses()
    assert len(sink.accepted("/other")) == 1


class _Broken(Deliverer):
    """A bug of ours."""

    async def send(self, claim: Claimed) -> Attempt:
        raise ZeroDivisionError


def test_a_bug_in_a_channel_is_a_failed_attempt_that_is_repeated(world: World, sink: Sink) -> None:
    world.channel(sink.url())
    world.open()
    world.relay_all()
    with posting(world, _Broken) as post:
        assert post.round() == 1
    assert world.statuses() == [("opened", "pending", "retrying")]
    assert world.attempts()[0][2] == "internal: ZeroDivisionError"


def test_a_settlement_that_the_database_refuses_is_set_aside_alone(world: World, sink: Sink, post: Post) -> None:
    world.channel(sink.url())
    poisoned, *_rest = world.open(8)
    world.relay_all()
    with world.owner.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.notification_id IN"
            f" (SELECT id FROM notifications WHERE incident_id = '{poisoned}')"
            " THEN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON delivery_attempts FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    assert post.until(lambda: _all_settled(world))
    assert Counter(world.statuses()) == Counter({("opened", "sent", None): 7, ("opened", "dead", "unsettled"): 1})
    assert len(sink.received) == 8


class _Stumbling:
    """A database that is away for the first transactions, then lost in a race."""

    def __init__(self, database: Database, troubles: list[Exception]) -> None:
        self._database = database
        self._troubles = troubles

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        if self._troubles:
            raise self._troubles.pop(0)
        with self._database.begin() as connection:
            yield connection


def test_what_was_sent_is_settled_when_the_database_is_back_and_nothing_is_claimed_until_then(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url())
    world.open()
    world.relay_all()
    troubles: list[Exception] = [Unavailable("away"), Unavailable("away"), Contended("busy")]
    post.parts.settler._database = cast("Any", _Stumbling(world.worker, troubles))
    post.start()
    assert sink.wait_for(lambda: post.parts.settler.in_trouble)
    world.open()
    world.relay_all()
    assert post.start() == 0
    post.settle()
    assert world.statuses() == [("opened", "sent", None), ("opened", "pending", None)]
    assert post.round() == 1
    assert len(sink.received) == 2


def test_errors_on_record_name_neither_path_nor_credentials(world: World, post: Post) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    world.channel(f"http://user:hunter2@127.0.0.1:{port}/services/T00/B00/s3cr3t?token=t0k3n")
    world.open()
    world.relay_all()
    post.round()
    ((_, _, error),) = world.attempts()
    assert "refused" in error
    assert not any(secret in error for secret in ("hunter2", "s3cr3t", "t0k3n", "/services"))


def test_slack_gets_text_and_blocks_in_which_a_title_cannot_mention_anybody(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel("http://unused", type_="slack", secrets={"url": sink.url("/slack")})
    world.open()
    world.relay_all()
    world.run(
        "UPDATE incident_events SET snapshot = jsonb_set(snapshot::jsonb, '{incident,title}', '\"<!channel> & co\"')"
    )
    post.round()
    (request,) = sink.accepted("/slack")
    said: dict[str, Any] = request.json
    assert said["text"] == "Opened: &lt;!channel&gt; &amp; co"
    assert said["blocks"][0]["text"]["text"] == ":rotating_light: Opened: &lt;!channel&gt; &amp; co"
    assert "no answer" in said["blocks"][1]["text"]["text"]


def test_an_alertmanager_is_told_the_end_of_what_it_was_told_before_an_edit(
    world: World, sink: Sink, post: Post
) -> None:
    world.channel(sink.url(""), type_="alertmanager")
    (incident,) = world.open()
    world.relay_all()
    assert post.round() == 1
    world.run("""UPDATE incidents SET severity = 'info', labels = '{"team": "till"}'""")
    world.resolve(incident)
    world.relay_all()
    assert post.round() == 1
    (opened,), ended = (request.json for request in sink.accepted("/api/v2/alerts"))
    assert opened["labels"] in [alert["labels"] for alert in ended]
    assert sorted(alert["labels"]["severity"] for alert in ended) == ["error", "info"]
    assert len({alert["endsAt"] for alert in ended}) == 1
    assert ended[0]["endsAt"] < opened["endsAt"]


def test_a_look_goes_on_behind_the_last_one_and_leaves_no_channel_out(world: World) -> None:
    channels = sorted(world.channel("http://127.0.0.1:9/") for _ in range(5))
    world.open()
    world.relay_all()
    with world.worker.begin() as connection:

        def look(after: str, most: int) -> list[str]:
            return notifications.waiting_channels(connection, after=after, most=most)

        assert look(notifications.FIRST, 2) == channels[:2]
        assert look(channels[1], 2) == channels[2:4]
        assert look(channels[3], 3) == [channels[4], channels[0], channels[1]]
        assert look(channels[3], 9) == [channels[4], *channels[:4]]
        assert look(notifications.FIRST, 9) == channels


def test_more_channels_than_one_look_covers_are_all_served(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = notifications.waiting_channels
    monkeypatch.setattr(
        notifications, "waiting_channels", lambda connection, after: look(connection, after=after, most=2)
    )
    for number in range(7):
        world.channel(sink.url(f"/{number}"))
    world.open()
    world.relay_all()
    with posting(world) as post:
        for _ in range(4):
            post.round()
    assert sorted(request.path for request in sink.received) == [f"/{number}" for number in range(7)]
