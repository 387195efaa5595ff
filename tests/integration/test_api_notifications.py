"""The ledger through the API: found by filters, and dead notifications sent again without breaking any order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from common.clock import utc_now
from common.domain.incident import EventType, Status
from common.store import api_keys, redeliveries
from tests import api_cast
from tests.api_cast import Person
from tests.sink import Answer, Sink
from tests.world import Post, World, posting

cast = api_cast.world


@dataclass
class Scene:
    """An organization with a real notifier and receiver; `editor` asks the API about it."""

    world: World
    sink: Sink
    post: Post
    editor: Person
    viewer: Person
    stranger: Person

    def dead(self, path: str = "/hook", *, is_default: bool = True) -> tuple[str, str, str]:
        """A channel, an incident and its opening, which the receiver refused."""
        channel = self.world.channel(self.sink.url(path), is_default=is_default)
        (incident,) = self.world.open()
        self.sink.script[path].append(Answer(404))
        self.world.relay_all()
        assert self.post.round() == 1
        (opening,) = self.ids(status="dead")
        return channel, incident, opening

    def ids(self, **filters: str) -> list[str]:
        """Ids by the API, newest first."""
        return [row["id"] for row in self.listed(**filters)]

    def listed(self, **filters: str) -> list[dict[str, Any]]:
        answer = self.viewer.get("/v1/notifications", query_string=filters)
        assert answer.status_code == 200, answer.text
        return answer.get_json()["data"]

    def redeliver(self, id_: str) -> tuple[int, str]:
        """(status, the row's status or the error's code)."""
        answer = self.editor.post(f"/v1/notifications/{id_}/redeliver")
        told = answer.get_json()
        return answer.status_code, told["status"] if answer.status_code == 202 else told["code"]

    def redeliver_all(self, **wanted: Any) -> dict[str, int]:
        answer = self.editor.post("/v1/notifications/redeliver", json=wanted)
        assert answer.status_code == 202, answer.text
        return answer.get_json()

    def deliver_all(self) -> list[str]:
        """Everything that waits; the types of all that arrived, in order."""
        assert self.post.until(lambda: not self.world.run("SELECT 1 FROM notifications WHERE status = 'pending'"))
        return [received.type for received in self.sink.accepted()]


@pytest.fixture
def scene(cast: api_cast.World) -> Iterator[Scene]:
    keys = cast.services.settings.encryption_keys
    assert keys is not None
    world = World(cast.databases.owner, cast.databases.worker, key=keys.get_secret_value())
    people = []
    for role in ("editor", "viewer"):
        key = api_keys.NewKey(world.org_id, role, role)
        with cast.databases.owner.begin() as connection:
            api_keys.add(connection, key)
        people.append(cast.person(key.token))
    with Sink() as sink, posting(world) as post:
        yield Scene(world, sink, post, *people, cast.alice)


def test_a_dead_notification_is_sent_again_as_the_same_message(scene: Scene) -> None:
    _, _, opening = scene.dead()
    before = scene.world.run("SELECT failures, retry_at FROM channels")
    answer = scene.editor.post(f"/v1/notifications/{opening}/redeliver")
    assert answer.status_code == 202
    told = answer.get_json()
    assert (told["id"], told["status"], told["reason"], told["attempts"]) == (opening, "pending", None, 1)
    assert told["next_attempt_at"] is not None
    assert scene.world.run("SELECT failures, retry_at FROM channels") == before
    assert scene.world.run("SELECT first_attempt_at, message_id, lease_token FROM notifications") == [
        (None, None, None)
    ]

    assert scene.deliver_all() == ["opened"]

    assert {r.headers["webhook-id"] for r in scene.sink.received} == {f"msg_{opening}"}
    found = scene.viewer.get(f"/v1/notifications/{opening}").get_json()
    assert (found["status"], found["attempts"], found["route_id"]) == ("sent", 2, None)
    assert [(a["number"], a["outcome"]) for a in found["delivery_attempts"]] == [(1, "rejected"), (2, "delivered")]
    assert {a["message_id"] for a in found["delivery_attempts"]} == {opening}


def test_only_what_is_dead_is_sent_again(scene: Scene) -> None:
    scene.world.channel(scene.sink.url())
    scene.world.open()
    scene.world.relay_all()
    (id_,) = scene.ids()
    for status in ("pending", "sent", "suppressed"):
        scene.world.run("UPDATE notifications SET status = %(status)s", status=status)
        answer = scene.editor.post(f"/v1/notifications/{id_}/redeliver")
        assert (answer.status_code, answer.get_json()["code"]) == (409, "NOT_DEAD")
        assert answer.content_type == "application/problem+json"
        assert status in answer.get_json()["message"]


def test_of_many_who_redeliver_at_once_one_wins(scene: Scene, cast: api_cast.World) -> None:
    _, _, opening = scene.dead()

    def redeliver(_number: int) -> int:
        client = cast.client.application.test_client()
        path = f"/v1/notifications/{opening}/redeliver"
        return client.post(path, headers=scene.editor.headers).status_code

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(redeliver, range(4))) == [202, 409, 409, 409]
    assert scene.deliver_all() == ["opened"]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("UPDATE channels SET enabled = false", "CHANNEL_DISABLED"),
        ("UPDATE channels SET enabled = false, deleted_at = now()", "CHANNEL_DELETED"),
    ],
)
def test_nothing_is_sent_again_to_a_channel_that_takes_nothing(scene: Scene, sql: str, code: str) -> None:
    _, _, opening = scene.dead()
    scene.world.run(sql)
    assert scene.redeliver(opening) == (409, code)
    assert scene.redeliver_all() == {"redelivered": 0, "remaining": 0}
    assert scene.ids(status="dead") == [opening]


def test_the_beginning_of_what_is_over_brings_its_end_along(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.change(incident, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED)
    scene.world.resolve(incident)
    scene.world.relay_all()
    assert {row["reason"] for row in scene.listed(status="suppressed")} == {"not_announced"}

    assert scene.redeliver(opening) == (202, "pending")

    assert scene.deliver_all() == ["opened", "acknowledged", "resolved"]


def test_an_end_that_nobody_wrote_down_for_the_channel_is_told_too(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.resolve(incident)
    scene.world.relay_all()
    scene.world.run("DELETE FROM notifications WHERE event_type = 'resolved'")

    assert scene.redeliver(opening) == (202, "pending")

    assert scene.deliver_all() == ["opened", "resolved"]
    assert scene.redeliver(opening) == (409, "NOT_DEAD")


def test_an_end_that_is_still_in_the_outbox_is_left_to_the_relay(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.resolve(incident)
    assert scene.redeliver(opening) == (202, "pending")
    assert len(scene.ids()) == 1
    scene.world.relay_all()
    assert scene.deliver_all() == ["opened", "resolved"]


def test_what_a_disabled_channel_was_not_told_follows_as_well(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.run("UPDATE notifications SET unknown_outcome = true")
    scene.world.run("UPDATE channels SET enabled = false")
    scene.world.resolve(incident)
    scene.world.relay_all()
    assert [row["reason"] for row in scene.listed(status="suppressed")] == ["channel_disabled"]
    scene.world.run("UPDATE channels SET enabled = true")

    assert scene.redeliver(opening) == (202, "pending")

    assert scene.deliver_all() == ["opened", "resolved"]


def test_an_end_that_is_on_its_way_waits_for_its_beginning(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.run("UPDATE notifications SET unknown_outcome = true")
    scene.world.resolve(incident)
    scene.world.relay_all()
    assert scene.redeliver(opening) == (202, "pending")
    assert scene.deliver_all() == ["opened", "resolved"]


def test_what_was_overtaken_stays_dead(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.run("UPDATE notifications SET unknown_outcome = true")
    scene.world.resolve(incident)
    scene.world.relay_all()
    assert scene.deliver_all() == ["resolved"]
    assert scene.redeliver(opening) == (409, "OVERTAKEN")
    assert scene.redeliver_all() == {"redelivered": 0, "remaining": 0}


def test_while_a_newer_one_is_being_delivered_an_older_one_has_to_wait(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.run("UPDATE notifications SET unknown_outcome = true")
    scene.world.resolve(incident)
    scene.world.relay_all()
    scene.world.run(
        "UPDATE notifications SET lease_token = gen_random_uuid(), leased_until = now() + interval '1 min'"
        " WHERE event_type = 'resolved'"
    )
    assert scene.redeliver(opening) == (409, "UNDER_WAY")


def test_an_end_is_not_told_where_nobody_heard_of_the_beginning(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.resolve(incident)
    scene.world.relay_all()
    scene.world.run("UPDATE notifications SET status = 'dead', reason = 'rejected' WHERE event_type = 'resolved'")
    (end,) = scene.ids(event_type="resolved")
    assert scene.redeliver(end) == (409, "NOT_ANNOUNCED")
    assert scene.redeliver(opening) == (202, "pending")
    assert scene.deliver_all() == ["opened", "resolved"]


def test_the_relay_that_decides_at_this_moment_is_waited_for(scene: Scene, cast: api_cast.World) -> None:
    _, incident, opening = scene.dead()
    scene.world.resolve(incident)
    with ThreadPoolExecutor(1) as thread:
        with cast.databases.worker.begin() as relay:
            relay.exec_driver_sql(
                "SELECT 1 FROM organizations WHERE id = %(org)s FOR NO KEY UPDATE", {"org": scene.world.org_id}
            )
            answer = thread.submit(scene.redeliver, opening)
            # The relay found nobody who had heard, and writes that down.
            relay.exec_driver_sql(
                """INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, reason,
                                              next_attempt_at)
                   SELECT gen_random_uuid(), e.org_id, e.id, e.incident_id, n.channel_id, e.type, 'suppressed',
                          'not_announced', now()
                     FROM incident_events e, notifications n WHERE e.type = 'resolved'"""
            )
            relay.exec_driver_sql("DELETE FROM outbox")
            with pytest.raises(TimeoutError):
                answer.result(0.5)
        assert answer.result(60) == (202, "pending")
    assert scene.deliver_all() == ["opened", "resolved"]


def test_many_are_sent_again_by_filter_the_oldest_first(scene: Scene, cast: api_cast.World) -> None:
    first, second = scene.world.channel(scene.sink.url("/a")), scene.world.channel(scene.sink.url("/b"))
    incidents = scene.world.open(3)
    scene.world.relay_all()
    scene.world.run("UPDATE notifications SET status = 'dead', reason = 'expired'")
    scene.world.run("UPDATE notifications SET reason = 'gone' WHERE channel_id = %(id)s", id=second)

    later = utc_now().isoformat()
    assert scene.redeliver_all(since=later) == {"redelivered": 0, "remaining": 0}
    assert scene.redeliver_all(reason="rejected") == {"redelivered": 0, "remaining": 0}
    assert scene.redeliver_all(channel_id=second, reason="expired") == {"redelivered": 0, "remaining": 0}
    assert scene.redeliver_all(incident_id=incidents[0], channel_id=first) == {"redelivered": 1, "remaining": 0}
    with cast.databases.api.begin(scene.world.org_id) as connection:
        wanted = redeliveries.Wanted(reason="gone")
        some = redeliveries.find(connection, org_id=scene.world.org_id, wanted=wanted, limit=2)
        assert redeliveries.redeliver(connection, org_id=scene.world.org_id, ids=some) == dict.fromkeys(some)
        assert redeliveries.count(connection, org_id=scene.world.org_id, wanted=wanted) == 1
    waiting = scene.world.run(
        "SELECT row_number() OVER (ORDER BY created_at, id), status FROM notifications WHERE reason = 'gone'"
        " OR (status = 'pending' AND channel_id = %(id)s) ORDER BY created_at, id",
        id=second,
    )
    assert [row[1] for row in waiting] == ["pending", "pending", "dead"]
    assert scene.redeliver_all(status="dead") == {"redelivered": 3, "remaining": 0}
    assert sorted(scene.deliver_all()) == ["opened"] * 6


def test_while_many_are_looked_for_and_counted_the_relay_waits_for_nobody(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.dead()
    looked: list[str] = []

    def free(name: str) -> None:
        plain = getattr(redeliveries, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            result = plain(*arguments, **named)
            scene.world.run("SELECT 1 FROM organizations FOR UPDATE NOWAIT")
            scene.world.run("SELECT 1 FROM channels FOR UPDATE NOWAIT")
            looked.append(name)
            return result

        monkeypatch.setattr(redeliveries, name, watched)

    free("find")
    free("count")
    assert scene.redeliver_all() == {"redelivered": 1, "remaining": 0}
    assert looked == ["find", "count"]


def test_who_sent_what_again_stands_in_the_audit_log(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.resolve(incident)
    scene.world.relay_all()
    assert scene.redeliver(opening) == (202, "pending")
    scene.world.run("UPDATE notifications SET status = 'dead', reason = 'expired' WHERE id = %(id)s", id=opening)
    assert scene.redeliver_all() == {"redelivered": 1, "remaining": 0}
    assert scene.redeliver(opening) == (409, "NOT_DEAD")
    rows = scene.world.run(
        "SELECT action, resource_type, resource_id, before->>'status', before->>'reason', after->>'status'"
        " FROM audit_log ORDER BY at"
    )
    assert [tuple(row) for row in rows] == [
        ("redeliver_notification", "notification", opening, "dead", "rejected", "pending"),
        ("redeliver_notifications", "notification", opening, "dead", "expired", "pending"),
    ]


def test_redelivery_is_for_editors_and_within_the_organization(scene: Scene) -> None:
    _, _, opening = scene.dead()
    for path in (f"/v1/notifications/{opening}/redeliver", "/v1/notifications/redeliver"):
        refused = scene.viewer.post(path, json={})
        assert (refused.status_code, refused.get_json()["code"]) == (403, "FORBIDDEN")
    theirs = scene.stranger.post(f"/v1/notifications/{opening}/redeliver")
    assert (theirs.status_code, theirs.get_json()["code"]) == (404, "NOTIFICATION_NOT_FOUND")
    assert scene.stranger.post("/v1/notifications/redeliver", json={}).get_json() == {"redelivered": 0, "remaining": 0}
    assert scene.ids(status="dead") == [opening]


#: (body, the field that is to blame)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"status": "sent"}, "status"),
    ({"channel_id": "x"}, "channel_id"),
    ({"channel_id": 5}, "channel_id"),
    ({"incident_id": ""}, "incident_id"),
    ({"reason": ""}, "reason"),
    ({"reason": "x" * 101}, "reason"),
    ({"since": "yesterday"}, "since"),
    ({"since": "2026-01-01T00:00:00"}, "since"),  # no zone
    ({"since": 1_800_000_000}, "since"),
    ({"since": "9999-12-31T23:59:59-14:00"}, "since"),
    ({"limit": 5}, "limit"),
]


def test_bad_filters_are_named(scene: Scene) -> None:
    for body, field in BAD:
        answer = scene.editor.post("/v1/notifications/redeliver", json=body)
        assert answer.status_code == 400, body
        assert [detail["field"] for detail in answer.get_json()["details"]] == [field]
    for name, value in (("event_type", "exploded"), ("status", "lost"), ("reason", ""), ("channel_id", "1")):
        answer = scene.viewer.get("/v1/notifications", query_string={name: value})
        assert (answer.status_code, answer.get_json()["code"]) == (400, "VALIDATION_ERROR"), name


def test_the_ledger_is_found_by_type_and_reason_page_by_page(scene: Scene) -> None:
    _, incident, opening = scene.dead()
    scene.world.resolve(incident)
    scene.world.relay_all()
    (end,) = scene.ids(event_type="resolved")
    assert scene.ids(event_type="opened,resolved") == [end, opening]
    assert scene.ids(reason="rejected") == [opening]
    assert scene.ids(reason="rejected,not_announced") == [end, opening]
    assert scene.ids(reason="rejected", event_type="resolved") == []
    assert scene.ids(status="dead", incident_id=str(uuid4())) == []
    first = scene.viewer.get("/v1/notifications?limit=1&reason=rejected,not_announced").get_json()
    assert [row["id"] for row in first["data"]] == [end]
    rest = scene.viewer.get(
        "/v1/notifications",
        query_string={"limit": 1, "reason": "rejected,not_announced", "cursor": first["next_cursor"]},
    ).get_json()
    assert ([row["id"] for row in rest["data"]], rest["next_cursor"]) == ([opening], None)
