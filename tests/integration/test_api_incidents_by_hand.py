"""Incidents that people open, change, assign and acknowledge for a while or in bulk."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from common.clock import utc_now
from common.store import incident_changes
from notifier.acknowledgements import Acknowledgements
from notifier.relay import Relay
from tests import api_cast
from tests.api_cast import Person, World
from tests.statements import counted

world = api_cast.world


def make(person: Person, **fields: Any) -> dict[str, Any]:
    response = person.post("/v1/incidents", json={"title": "Shop is slow", **fields})
    assert response.status_code == 201, response.text
    return response.get_json()


def change(world: World, incident: str, **fields: Any) -> dict[str, Any]:
    response = world.alice.patch(f"/v1/incidents/{incident}", json=fields)
    assert response.status_code == 200, response.text
    return response.get_json()


def set_status(world: World, incident: str, status: str, **more: Any) -> dict[str, Any]:
    response = world.alice.patch(f"/v1/incidents/{incident}/status", json={"status": status, **more})
    assert response.status_code == 200, response.text
    return response.get_json()


def timeline(world: World, incident: str) -> list[dict[str, Any]]:
    return world.alice.get(f"/v1/incidents/{incident}/events").get_json()["data"]


def outbox(world: World) -> list[str]:
    return [row["type"] for row in world.rows("SELECT type FROM outbox ORDER BY id")]


def blamed(response: Any) -> list[str]:
    assert (response.status_code, response.get_json()["code"]) == (400, "VALIDATION_ERROR"), response.text
    return [detail["field"] for detail in response.get_json()["details"]]


def expire(world: World, after: timedelta) -> bool:
    return Acknowledgements(world.databases.worker, lambda: utc_now() + after).step()


def relay_all(world: World) -> None:
    relay = Relay(world.databases.worker, lambda _ids: None, utc_now)
    while relay.step():
        pass


def ledger(world: World) -> list[tuple[str, str]]:
    rows = world.rows("SELECT event_type, status FROM notifications ORDER BY no")
    return [(row["event_type"], row["status"]) for row in rows]


# Opening -------------------------------------------------------------------------------------------------------------


def test_an_incident_by_hand_is_open_and_announced_like_any_other(world: World) -> None:
    channel = world.alice.make_channel()
    made = make(world.alice, description="Carts time out", priority="P1", labels={"team": "shop"})
    assert (made["source"], made["dedup_key"]) == ("manual", f"manual:{made['id']}")
    assert (made["status"], made["severity"], made["priority"], made["version"]) == ("open", "critical", "P1", 1)
    assert (made["labels"], made["monitor_id"], made["monitor_name"]) == ({"team": "shop"}, None, None)
    assert world.bob.get(f"/v1/incidents/{made['id']}").get_json()["title"] == "Shop is slow"
    (event,) = timeline(world, made["id"])
    assert (event["type"], event["actor_name"]) == ("opened", "Alice")
    relay_all(world)
    (row,) = world.rows("SELECT channel_id::text, status FROM notifications")
    assert row == {"channel_id": channel["id"], "status": "pending"}  # somebody hears of a P1 at once


#: (what is sent, severity, priority)
URGENCIES = [
    ({}, "error", "P2"),
    ({"severity": "critical"}, "critical", "P1"),
    ({"severity": "info"}, "info", "P3"),
    ({"priority": "P1"}, "critical", "P1"),
    ({"priority": "P2"}, "error", "P2"),
    ({"priority": "P3"}, "warning", "P3"),
    ({"priority": "P1", "severity": "warning"}, "warning", "P1"),  # both: as they are
]


def test_severity_and_priority_follow_from_each_other(world: World) -> None:
    for sent, severity, priority in URGENCIES:
        made = make(world.alice, **sent)
        assert (made["severity"], made["priority"]) == (severity, priority), sent


def test_two_of_the_same_words_are_two_incidents(world: World) -> None:
    assert make(world.alice)["id"] != make(world.alice)["id"]


def test_an_incident_may_belong_to_a_monitor_and_have_its_labels(world: World) -> None:
    monitor = world.alice.make_monitor(labels={"team": "shop"})
    theirs = make(world.alice, monitor_id=monitor["id"])
    assert (theirs["monitor_id"], theirs["monitor_name"], theirs["name"]) == (monitor["id"], "Shop", "Shop")
    assert theirs["labels"] == {"team": "shop"}
    assert make(world.alice, monitor_id=monitor["id"], labels={})["labels"] == {}
    # It is not the incident of the monitor's state: resolving it releases nobody's votes.
    world.execute("UPDATE votes SET health = 3, down = 2, not_up = 2")
    set_status(world, theirs["id"], "resolved")
    assert world.rows("SELECT health, down FROM votes") == [{"health": 3, "down": 2}]


def test_an_answer_may_be_sent_back_as_a_new_incident(world: World) -> None:
    made = make(world.alice, title="Once")
    again = make(world.alice, **made)
    assert again["id"] != made["id"]
    assert again["title"] == "Once"


def test_what_belongs_to_others_or_to_nobody_is_refused(world: World) -> None:
    foreign = world.charlie.make_monitor()
    gone = world.alice.make_monitor()
    world.alice.delete(f"/v1/monitors/{gone['id']}")
    for field, value in [
        ("monitor_id", foreign["id"]),
        ("monitor_id", gone["id"]),
        ("monitor_id", str(uuid4())),
        ("assignee", world.users["charlie"]),
        ("assignee", str(uuid4())),
    ]:
        response = world.alice.post("/v1/incidents", json={"title": "x", field: value})
        assert blamed(response) == [field], value
    assert world.rows("SELECT count(*) AS n FROM incidents") == [{"n": 0}]
    assert outbox(world) == []


#: (body, the field to blame)
BAD_INCIDENTS: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "title"),
    ({"title": " "}, "title"),
    ({"title": None}, "title"),
    ({"title": "a\nb"}, "title"),
    ({"title": "a\x00b"}, "title"),
    ({"title": "x" * 1001}, "title"),
    ({"title": 5}, "title"),
    ({"description": "x" * 10_001}, "description"),
    ({"severity": "fatal"}, "severity"),
    ({"priority": "P0"}, "priority"),
    ({"labels": []}, "labels"),
    ({"labels": {"": "x"}}, "labels."),
    ({"labels": {"a": None}}, "labels.a"),
    ({"labels": {"a": "x" * 501}}, "labels.a"),
    ({"labels": {"a\x00": "x"}}, "labels.a"),
    ({"labels": {str(n): "x" for n in range(51)}}, "labels"),
    ({"assignee": "alice"}, "assignee"),
    ({"assignee": 5}, "assignee"),
    ({"monitor_id": "x"}, "monitor_id"),
    ({"surprise": 1}, "surprise"),
]


def test_every_bad_incident_is_refused_naming_its_field(world: World) -> None:
    for body, field in BAD_INCIDENTS:
        assert field in blamed(world.alice.post("/v1/incidents", json={"title": "x", **body})), body
    lone = world.alice.post("/v1/incidents", data=b'{"title": "a\\ud800b"}', content_type="application/json")
    assert lone.status_code == 400
    assert world.rows("SELECT count(*) AS n FROM incidents") == [{"n": 0}]


# Changing ------------------------------------------------------------------------------------------------------------


def test_changes_are_told_in_the_timeline_and_to_nobody_else(world: World) -> None:
    made = make(world.alice, labels={"team": "shop", "env": "prod"}, description="Carts")
    changed = change(world, made["id"], title="Shop is down", description=None, labels={"env": None, "zone": "a"})
    assert (changed["title"], changed["description"]) == ("Shop is down", "")
    assert changed["labels"] == {"team": "shop", "zone": "a"}
    assert changed["version"] == 2
    opened, updated = timeline(world, made["id"])
    assert opened["type"] == "opened"
    assert (updated["type"], updated["actor_name"]) == ("updated", "Alice")
    assert updated["data"]["changes"] == {
        "title": {"from": "Shop is slow", "to": "Shop is down"},
        "description": {"from": "Carts", "to": ""},
        "labels": {"from": {"team": "shop", "env": "prod"}, "to": {"team": "shop", "zone": "a"}},
    }
    assert outbox(world) == ["opened"]


def test_what_changes_nothing_is_no_event(world: World) -> None:
    made = make(world.alice)
    assert change(world, made["id"])["version"] == 1
    sent_back = world.alice.patch(f"/v1/incidents/{made['id']}", json=made)
    assert (sent_back.status_code, sent_back.get_json()["version"]) == (200, 1)
    assert len(timeline(world, made["id"])) == 1


def test_a_severity_brings_its_priority_along_and_a_priority_comes_alone(world: World) -> None:
    made = make(world.alice)
    assert change(world, made["id"], severity="critical")["priority"] == "P1"
    lone = change(world, made["id"], priority="P3")
    assert (lone["severity"], lone["priority"]) == ("critical", "P3")
    both = change(world, made["id"], severity="info", priority="P1")
    assert (both["severity"], both["priority"]) == ("info", "P1")


def test_assigning_is_an_event_of_its_own(world: World) -> None:
    alice, bob = world.users["alice"], world.users["bob"]
    made = make(world.alice, assignee=bob)
    assert (made["assignee"], made["assignee_name"], made["version"]) == (bob, "Bob", 2)
    both = change(world, made["id"], title="Mine", assignee=alice)
    assert (both["assignee_name"], both["version"]) == ("Alice", 4)
    assert change(world, made["id"], assignee=None)["assignee"] is None
    assert [event["type"] for event in timeline(world, made["id"])] == [
        "opened", "assigned", "updated", "assigned", "assigned",
    ]  # fmt: skip
    told = [event["data"] for event in timeline(world, made["id"]) if event["type"] == "assigned"]
    assert told == [{"from": None, "to": bob}, {"from": bob, "to": alice}, {"from": alice, "to": None}]
    assert blamed(world.alice.patch(f"/v1/incidents/{made['id']}", json={"assignee": world.users["charlie"]})) == [
        "assignee"
    ]


def test_who_leaves_the_organization_is_assigned_to_nothing_there(world: World) -> None:
    made = make(world.alice, assignee=world.users["bob"])
    world.execute("DELETE FROM memberships WHERE user_id = %(id)s", id=world.users["bob"])
    found = world.alice.get(f"/v1/incidents/{made['id']}").get_json()
    assert (found["assignee"], found["assignee_name"]) == (None, None)


def test_a_postmortem_may_follow_a_resolve_and_is_told_in_short(world: World) -> None:
    made = make(world.alice)
    set_status(world, made["id"], "resolved")
    text = "# What happened\n" + "ü" * 30_000
    assert change(world, made["id"], postmortem=text)["postmortem"] == text
    assert world.bob.get(f"/v1/incidents/{made['id']}").get_json()["postmortem"] == text
    assert "postmortem" not in world.bob.get("/v1/incidents").get_json()["data"][0]
    told = timeline(world, made["id"])[-1]["data"]["changes"]["postmortem"]
    assert told["from"] == ""
    assert told["to"].startswith("# What happened") and len(told["to"]) == 501
    too_long = world.alice.patch(f"/v1/incidents/{made['id']}", json={"postmortem": "ü" * 32_769})
    assert blamed(too_long) == ["postmortem"]


def test_bad_changes_are_refused_and_change_nothing(world: World) -> None:
    made = make(world.alice)
    full = {str(n): "x" for n in range(51)}
    for body, field in [
        *((body, field) for body, field in BAD_INCIDENTS if field not in ("monitor_id", "labels.a")),
        ({"severity": None}, "severity"),
        ({"priority": None}, "priority"),
        ({"labels": full}, "labels"),
        ({"postmortem": 5}, "postmortem"),
    ]:
        assert field in blamed(world.alice.patch(f"/v1/incidents/{made['id']}", json=body)), body
    assert world.rows("SELECT version FROM incidents") == [{"version": 1}]
    read_only = change(world, made["id"], id=5, status="resolved", version=99, deliveries=[], monitor_id="x", source=1)
    assert (read_only["status"], read_only["version"]) == ("open", 1)


def test_viewers_and_strangers_change_nothing(world: World) -> None:
    made = make(world.alice)
    path = f"/v1/incidents/{made['id']}"
    for person, code in ((world.bob, 403), (world.charlie, 404)):
        assert person.patch(path, json={"title": "x"}).status_code == code
        assert person.patch(f"{path}/status", json={"status": "ack"}).status_code == code
    assert world.bob.post("/v1/incidents", json={"title": "x"}).status_code == 403
    assert world.bob.post("/v1/incidents/acknowledge", json={"ids": [made["id"]]}).status_code == 403
    theirs = world.charlie.post("/v1/incidents/acknowledge", json={"ids": [made["id"]]}).get_json()
    assert (theirs["acknowledged"], theirs["not_found"]) == (0, [made["id"]])
    assert world.charlie.post("/v1/incidents/acknowledge", json={"filter": {}}).get_json()["acknowledged"] == 0
    assert world.rows("SELECT version, status FROM incidents") == [{"version": 1, "status": "open"}]


# Acknowledging for a while -------------------------------------------------------------------------------------------


def test_an_acknowledgement_that_expires_opens_the_incident_again_and_reminds_who_heard(world: World) -> None:
    world.alice.make_channel()
    made = make(world.alice)
    acknowledged = set_status(world, made["id"], "ack", duration_seconds=600, comment="on it")
    expires_at = datetime.fromisoformat(acknowledged["acknowledgement_expires_at"])
    assert abs(expires_at - utc_now() - timedelta(seconds=600)) < timedelta(seconds=30)
    assert acknowledged["version"] == 3  # the comment is an event as well
    relay_all(world)
    assert not expire(world, timedelta(seconds=500))
    assert world.alice.get(f"/v1/incidents/{made['id']}").get_json()["status"] == "acknowledged"
    assert not expire(world, timedelta(seconds=700))
    again = world.alice.get(f"/v1/incidents/{made['id']}").get_json()
    assert (again["status"], again["acknowledged_at"], again["acknowledgement_expires_at"]) == ("open", None, None)
    events = timeline(world, made["id"])
    assert [event["type"] for event in events] == ["opened", "acknowledged", "commented", "acknowledgement_expired"]
    assert events[1]["data"]["expires_at"] == acknowledged["acknowledgement_expires_at"]
    assert (events[3]["actor"], events[3]["actor_name"]) == ("tocsin", None)
    relay_all(world)
    assert ledger(world) == [("opened", "pending"), ("acknowledged", "pending"), ("reminder", "pending")]
    assert set_status(world, made["id"], "ack")["status"] == "acknowledged"


def test_an_expiry_reminds_nobody_who_never_heard(world: World) -> None:
    made = make(world.alice)
    relay_all(world)
    world.alice.make_channel()
    set_status(world, made["id"], "ack", duration_seconds=1)
    expire(world, timedelta(minutes=1))
    relay_all(world)
    assert [status for type_, status in ledger(world) if type_ == "reminder"] == []
    assert outbox(world) == []


def test_a_resolve_ends_an_acknowledgement_for_good(world: World) -> None:
    made = make(world.alice)
    set_status(world, made["id"], "ack", duration_seconds=60)
    assert set_status(world, made["id"], "resolved")["acknowledgement_expires_at"] is None
    expire(world, timedelta(days=1))
    assert [event["type"] for event in timeline(world, made["id"])] == ["opened", "acknowledged", "resolved"]


def test_what_the_version_before_resolved_keeps_no_other_from_expiring(world: World) -> None:
    over, due = make(world.alice)["id"], make(world.alice)["id"]
    world.alice.post("/v1/incidents/acknowledge", json={"ids": [over, due], "duration_seconds": 60})
    # It knows nothing of the expiry, and leaves it there.
    world.execute(
        "UPDATE incidents SET status = 'resolved', resolved_at = now(), ack_expires_at = now() WHERE id = %(id)s",
        id=over,
    )
    with world.databases.worker.begin() as connection:
        count = incident_changes.expire_acknowledgements(connection, utc_now() + timedelta(hours=1), limit=1)
    assert count == 1
    assert world.alice.get(f"/v1/incidents/{due}").get_json()["status"] == "open"


def test_an_acknowledgement_can_be_extended_and_one_without_an_end_stays(world: World) -> None:
    made, forever = make(world.alice), make(world.alice)
    set_status(world, made["id"], "ack", duration_seconds=60)
    later = (utc_now() + timedelta(hours=2)).isoformat()
    extended = set_status(world, made["id"], "ack", expires_at=later)
    assert datetime.fromisoformat(extended["acknowledgement_expires_at"]) == datetime.fromisoformat(later)
    assert set_status(world, made["id"], "ack", expires_at=later)["version"] == extended["version"]
    assert set_status(world, made["id"], "ack")["acknowledgement_expires_at"] is not None  # the same again
    assert [event["type"] for event in timeline(world, made["id"])] == ["opened", "acknowledged", "updated"]
    set_status(world, forever["id"], "ack")
    expire(world, timedelta(hours=1))
    assert {row["status"] for row in world.rows("SELECT status FROM incidents")} == {"acknowledged"}
    assert outbox(world).count("reminder") == 0


def test_several_notifiers_expire_each_acknowledgement_once(world: World) -> None:
    incidents = [make(world.alice)["id"] for _ in range(20)]
    world.alice.post("/v1/incidents/acknowledge", json={"ids": incidents, "duration_seconds": 1})
    ready = threading.Barrier(4)

    def one() -> None:
        ready.wait()
        expire(world, timedelta(minutes=1))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expire(world, timedelta(minutes=1))  # what another one held a moment ago
    count = "SELECT count(*) AS n FROM incident_events WHERE type = 'acknowledgement_expired'"
    assert world.rows(count) == [{"n": 20}]
    assert outbox(world).count("reminder") == 20
    assert {row["status"] for row in world.rows("SELECT status FROM incidents")} == {"open"}


def test_an_expiry_that_makes_no_sense_is_refused(world: World) -> None:
    made = make(world.alice)
    soon = (utc_now() + timedelta(hours=1)).isoformat()
    for body, field in [
        ({"status": "ack", "expires_at": (utc_now() - timedelta(minutes=1)).isoformat()}, "expires_at"),
        ({"status": "ack", "expires_at": (utc_now() + timedelta(days=400)).isoformat()}, "expires_at"),
        ({"status": "ack", "expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"status": "ack", "expires_at": "soon"}, "expires_at"),
        ({"status": "ack", "expires_at": 5}, "expires_at"),
        ({"status": "ack", "expires_at": "2026-01-01T00:00:00"}, "expires_at"),
        ({"status": "ack", "duration_seconds": 0}, "duration_seconds"),
        ({"status": "ack", "duration_seconds": 2**40}, "duration_seconds"),
        ({"status": "ack", "duration_seconds": 60, "expires_at": soon}, "duration_seconds"),
        ({"status": "resolved", "expires_at": soon}, "expires_at"),
        ({"status": "open", "duration_seconds": 5}, "duration_seconds"),
        ({"status": "ack", "comment": ""}, "comment"),
        ({"status": "ack", "comment": "x" * 10_001}, "comment"),
    ]:
        assert field in blamed(world.alice.patch(f"/v1/incidents/{made['id']}/status", json=body)), body
    assert world.rows("SELECT version FROM incidents") == [{"version": 1}]


# Many at once --------------------------------------------------------------------------------------------------------


def test_many_are_acknowledged_at_once_each_with_its_event_and_announced_once(world: World) -> None:
    opened = [make(world.alice)["id"] for _ in range(5)]
    done, acknowledged, *rest = opened
    set_status(world, done, "resolved")
    set_status(world, acknowledged, "ack")
    nobodys = str(uuid4())
    response = world.alice.post(
        "/v1/incidents/acknowledge", json={"ids": [*opened, rest[0], nobodys], "comment": "storm"}
    )
    assert response.status_code == 200
    assert response.get_json() == {"acknowledged": 3, "unchanged": 2, "not_found": [nobodys], "more": False}
    for incident in rest:
        assert [event["type"] for event in timeline(world, incident)] == ["opened", "acknowledged", "commented"]
    assert [event["type"] for event in timeline(world, done)] == ["opened", "resolved"]
    assert outbox(world).count("acknowledged") == 4
    again = world.alice.post("/v1/incidents/acknowledge", json={"ids": opened}).get_json()
    assert (again["acknowledged"], again["unchanged"]) == (0, 5)


def test_the_open_ones_of_a_filter_are_acknowledged(world: World) -> None:
    shop = [make(world.alice, labels={"team": "shop"}, priority=priority)["id"] for priority in ("P1", "P2")]
    other = make(world.alice, title="Pay is down", labels={"team": "pay"})["id"]

    def acknowledge(**wanted: Any) -> int:
        return int(world.alice.post("/v1/incidents/acknowledge", json={"filter": wanted}).get_json()["acknowledged"])

    assert acknowledge(labels={"team": "shop"}, priority=["P1"]) == 1
    assert acknowledge(labels={"team": "shop"}) == 1
    assert acknowledge(q="shop") == 0
    assert acknowledge(q="pay dow", assignee="none") == 1
    assert acknowledge() == 0
    assert {row["id"] for row in world.rows("SELECT id::text FROM incidents WHERE status = 'acknowledged'")} == {
        *shop, other,
    }  # fmt: skip


def test_a_thousand_take_as_many_statements_as_one(world: World) -> None:
    world.execute(
        "INSERT INTO incidents (id, org_id, source, dedup_key, title, severity, priority, status, opened_at)"
        " SELECT gen_random_uuid(), %(org)s, 'x', 'k' || n, 'x', 'error', 'P2', 'open', now()"
        "   FROM generate_series(1, 1003) n",
        org=world.org_a,
    )
    counts = []
    for wanted in (2, 1_000):
        ids = [row["id"] for row in world.rows("SELECT id::text FROM incidents WHERE status = 'open'")][:wanted]
        with counted(world.services.database) as sent:
            done = world.alice.post("/v1/incidents/acknowledge", json={"ids": ids}).get_json()
        assert done["acknowledged"] == len(ids)
        counts.append(len(sent))
    assert counts[0] == counts[1]
    rest = world.alice.post("/v1/incidents/acknowledge", json={"filter": {}}).get_json()
    assert (rest["acknowledged"], rest["more"]) == (1, False)


def test_more_than_a_thousand_of_a_filter_are_done_in_turns(world: World) -> None:
    world.execute(
        "INSERT INTO incidents (id, org_id, source, dedup_key, title, severity, priority, status, opened_at)"
        " SELECT gen_random_uuid(), %(org)s, 'x', 'k' || n, 'x', 'error', 'P2', 'open', now()"
        "   FROM generate_series(1, 1003) n",
        org=world.org_a,
    )
    turns = [world.alice.post("/v1/incidents/acknowledge", json={"filter": {}}).get_json() for _ in range(2)]
    assert [(turn["acknowledged"], turn["more"]) for turn in turns] == [(1_000, True), (3, False)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": ["x"]}, "ids.0"),
        ({"ids": [5]}, "ids.0"),
        ({"ids": [str(uuid4())] * 1_001}, "ids"),
        ({"ids": [str(uuid4())], "filter": {}}, "ids"),
        ({"filter": {"status": ["open"]}}, "filter.status"),
        ({"filter": {"q": "%_"}}, "filter.q"),
        ({"filter": {"assignee": "bob"}}, "filter.assignee"),
        ({"filter": {"labels": {"a": 5}}}, "filter.labels.a"),
        ({"filter": {}, "duration_seconds": -1}, "duration_seconds"),
    ],
)
def test_a_bad_choice_of_many_is_refused(world: World, body: dict[str, Any], field: str) -> None:
    assert field in blamed(world.alice.post("/v1/incidents/acknowledge", json=body))
