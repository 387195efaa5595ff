"""Incidents through the API: lists, the status machine, the timeline, and what a resolve by hand does to votes."""

from __future__ import annotations

from typing import Any

from common.domain.health import Health
from common.domain.incident import TRANSITIONS, Status
from tests import api_cast
from tests.api_cast import World

world = api_cast.world


def set_status(world: World, incident: str, status: Any) -> tuple[int, dict[str, Any]]:
    response = world.alice.patch(f"/v1/incidents/{incident}/status", json={"status": status})
    return response.status_code, response.get_json()


def event_types(world: World, incident: str) -> list[str]:
    return [event["type"] for event in world.alice.get(f"/v1/incidents/{incident}/events").get_json()["data"]]


def test_an_incident_has_the_fields_of_the_contract(world: World) -> None:
    monitor = world.alice.make_monitor(labels={"team": "shop"})
    found = world.bob.get(f"/v1/incidents/{world.open_incident(monitor)}").get_json()
    assert set(found) >= {
        "id", "monitor_id", "source", "dedup_key", "title", "description", "severity", "priority", "status",
        "opened_at", "acknowledged_at", "resolved_at", "cause", "labels",
    }  # fmt: skip
    assert (found["monitor_id"], found["status"], found["severity"], found["priority"]) == (
        monitor["id"], "open", "error", "P2",
    )  # fmt: skip
    assert (found["labels"], found["cause"]["reason"]) == ({"team": "shop"}, "timeout")


#: (from, to, status code): the machine of IM2
MOVES = [
    ([], "acknowledged", 200),
    ([], "ACK", 200),
    ([], "resolved", 200),
    ([], "Open", 200),  # the same again
    (["acknowledged"], "resolved", 200),
    (["acknowledged"], "acknowledged", 200),
    (["acknowledged"], "open", 400),
    (["resolved"], "resolved", 200),
    (["resolved"], "open", 400),
    (["resolved"], "acknowledged", 400),
]


def test_the_status_moves_by_the_table_and_no_other_way(world: World) -> None:
    for before, wanted, code in MOVES:
        incident = world.open_incident(world.alice.make_monitor())
        for status in before:
            assert set_status(world, incident, status)[0] == 200
        events = event_types(world, incident)
        found, body = set_status(world, incident, wanted)
        assert found == code, (before, wanted)
        if code == 400:
            assert body["code"] == "INVALID_STATUS_TRANSITION"
            allowed = [status.value for status in TRANSITIONS[Status(before[-1])]] or ["none"]
            assert all(status in body["message"] and status in body["details"][0]["message"] for status in allowed)
        target = {"ack": "acknowledged"}.get(wanted.lower(), wanted.lower())
        unchanged = code == 400 or target == (before[-1] if before else "open")
        assert (event_types(world, incident) == events) is unchanged, (before, wanted)


def test_a_status_that_is_none_is_a_validation_error(world: World) -> None:
    incident = world.open_incident(world.alice.make_monitor())
    for status in ("closed", "", "open\n\x00", 1, None, ["open"]):
        code, body = set_status(world, incident, status)
        assert (code, body["code"], body["details"][0]["field"]) == (400, "VALIDATION_ERROR", "status")


def test_resolving_by_hand_releases_the_votes_and_announces_it(world: World) -> None:
    incident = world.open_incident(world.alice.make_monitor())
    response = world.alice.patch(
        f"/v1/incidents/{incident}/status", json={"status": "resolved"}, headers={"X-Request-ID": "by-hand"}
    )
    assert response.get_json()["resolved_at"] is not None
    (vote,) = world.rows("SELECT health, down, not_up FROM votes")
    assert vote == {"health": Health.RELEASED, "down": 0, "not_up": 0}
    (state,) = world.rows("SELECT open_incident, last_resolved::text FROM monitor_states")
    assert state == {"open_incident": None, "last_resolved": incident}
    (event,) = world.rows("SELECT * FROM incident_events WHERE type = 'resolved'")
    assert (event["actor"], event["correlation_id"]) == (f"user:{world.users['alice']}", "by-hand")
    assert event["snapshot"]["incident"]["status"] == "resolved"
    assert [row["type"] for row in world.rows("SELECT type FROM outbox ORDER BY id")] == ["opened", "resolved"]


def test_a_comment_is_an_event_that_is_not_announced(world: World) -> None:
    incident = world.open_incident(world.alice.make_monitor())
    response = world.alice.post(f"/v1/incidents/{incident}/comments", json={"body": "looking\ninto it"})
    assert response.status_code == 201
    event = response.get_json()
    assert set(event) == {"id", "type", "at", "actor", "actor_name", "data"}
    assert (event["type"], event["data"]) == ("commented", {"body": "looking\ninto it"})
    assert (event["actor"], event["actor_name"]) == (f"user:{world.users['alice']}", "Alice")
    assert event_types(world, incident) == ["opened", "commented"]
    assert [row["type"] for row in world.rows("SELECT type FROM outbox")] == ["opened"]
    assert set_status(world, incident, "resolved")[0] == 200
    assert world.alice.post(f"/v1/incidents/{incident}/comments", json={"body": "done"}).status_code == 201


def test_the_timeline_is_paged_in_order(world: World) -> None:
    incident = world.open_incident(world.alice.make_monitor())
    for number in range(4):
        world.alice.post(f"/v1/incidents/{incident}/comments", json={"body": str(number)})
    seen: list[Any] = []
    path = f"/v1/incidents/{incident}/events?limit=2"
    while path:
        response = world.bob.get(path)
        seen.extend(event["data"].get("body") for event in response.get_json()["data"])
        path = response.headers["Link"].split(">", 1)[0].lstrip("<") if "Link" in response.headers else ""
    assert seen == [None, "0", "1", "2", "3"]


def test_lists_are_filtered_and_paged(world: World) -> None:
    monitors = [world.alice.make_monitor() for _ in range(4)]
    opened = [world.open_incident(monitor) for monitor in monitors]
    set_status(world, opened[0], "resolved")
    set_status(world, opened[1], "ack")

    def ids(query: str) -> list[str]:
        return [item["id"] for item in world.bob.get(f"/v1/incidents{query}").get_json()["data"]]

    newest_first = opened[::-1]
    assert ids("") == newest_first
    assert ids("?status=open") == newest_first[:2]
    assert ids("?status=open,acknowledged") == newest_first[:3]
    assert ids("?status=open&status=resolved") == [*newest_first[:2], opened[0]]
    assert ids("?severity=error") == newest_first
    assert ids("?severity=critical") == []
    assert ids(f"?monitor_id={monitors[2]['id']}") == [opened[2]]
    first = world.bob.get("/v1/incidents?limit=3").get_json()
    rest = world.bob.get(f"/v1/incidents?limit=3&cursor={first['next_cursor']}").get_json()
    assert [item["id"] for item in first["data"] + rest["data"]] == newest_first
    assert rest["next_cursor"] is None
