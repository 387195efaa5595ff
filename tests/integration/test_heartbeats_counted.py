"""Heartbeats of which so many successes are expected: from ping to incident on real servers; settings and exports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests import api_cast
from tests.api_cast import World
from tests.heartbeat_world import HEARTBEAT, Death, Judges, dying, earlier, judging, make, number, ping, state
from worker.heartbeats import committer

world = api_cast.world

THREE = {"at_least": 3, "period_seconds": 3600, "grace_seconds": 10}


@pytest.fixture
def judges(world: World) -> Iterator[Judges]:
    world.services.pings.start()
    with judging(world) as judges:
        yield judges
    world.services.pings.close()


def incidents(world: World) -> list[tuple[Any, ...]]:
    rows = world.rows("SELECT status, cause ->> 'reason' AS reason FROM incidents ORDER BY opened_at")
    return [(row["status"], row["reason"]) for row in rows]


def stored(world: World, monitor: dict[str, Any]) -> tuple[list[int], datetime | None]:
    rows = world.rows(
        "SELECT successes, counted_from FROM heartbeats WHERE monitor_no = %(no)s", no=number(world, monitor)
    )
    return rows[0]["successes"], rows[0]["counted_from"]


def looked_at(world: World, monitor: dict[str, Any]) -> dict[str, Any]:
    return dict(world.alice.get(f"/v1/monitors/{monitor['id']}/heartbeat").get_json())


def test_too_few_successes_are_an_incident_that_as_many_of_them_resolve(world: World, judges: Judges) -> None:
    monitor = make(world.alice, heartbeat=THREE)
    for _ in range(3):
        ping(world, monitor)
        judges.run()
    assert state(world, monitor)["status"] == "up"
    successes, since = stored(world, monitor)
    assert (len(successes), successes, since) == (3, sorted(successes), None)
    earlier(world, monitor, 3_615)
    ping(world, monitor)
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]
    message = world.rows("SELECT cause ->> 'message' AS m FROM incidents")[0]["m"]
    assert " of 3 successes in 1 h; the next was expected by " in message
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "down"
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "up"
    assert incidents(world) == [("resolved", "heartbeat_missed")]


def test_the_deadline_that_is_shown_is_that_of_the_third_last(world: World, judges: Judges) -> None:
    monitor = make(world.alice, heartbeat=THREE)
    for _ in range(4):
        ping(world, monitor)
        judges.run()
    shown = looked_at(world, monitor)
    third_last = stored(world, monitor)[0][-3] / 1000
    assert datetime.fromisoformat(shown["expected_at"]).timestamp() == pytest.approx(third_last + 3_600, abs=0.002)
    assert datetime.fromisoformat(shown["deadline_at"]).timestamp() == pytest.approx(third_last + 3_610, abs=0.002)


def test_what_is_only_beginning_is_up_and_has_a_period_to_get_as_many(world: World, judges: Judges) -> None:
    monitor = make(world.alice, heartbeat=THREE)
    judges.run()
    assert state(world, monitor)["status"] == "pending"
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "up"
    successes, since = stored(world, monitor)
    assert (len(successes), since is not None) == (1, True)
    earlier(world, monitor, 3_500)
    judges.run()
    assert incidents(world) == []
    earlier(world, monitor, 115)
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]


def test_a_failure_is_down_at_once_unless_failures_are_tolerated(world: World, judges: Judges) -> None:
    strict = make(world.alice, name="strict", heartbeat=THREE)
    patient = make(world.alice, name="patient", heartbeat={**THREE, "tolerate_failures": True})
    for monitor in (strict, patient):
        ping(world, monitor)
        ping(world, monitor, "/7", "POST", data=b"disk full")
        judges.run()
    assert (state(world, strict)["status"], state(world, patient)["status"]) == ("down", "up")
    pings = world.alice.get(f"/v1/monitors/{patient['id']}/pings").get_json()["data"]
    assert [(one["kind"], one["exit_code"], one["body"]) for one in pings] == [
        ("fail", 7, "disk full"),
        ("success", None, None),
    ]
    assert [row["status"] for row in world.rows("SELECT status FROM incidents")] == ["open"]


def test_a_push_that_says_down_may_be_tolerated_too_and_only_failures_are_pending(world: World, judges: Judges) -> None:
    monitor = make(world.alice, heartbeat={"period_seconds": 600, "tolerate_failures": True})
    for _ in range(3):
        assert world.nobody.get(f"/api/push/{monitor['token']}?status=down&msg=no").status_code == 200
    judges.run()
    assert (state(world, monitor)["status"], looked_at(world, monitor)["last_ping_at"]) == ("pending", None)
    earlier(world, monitor, 665)
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]


def test_who_asks_for_one_keeps_nothing(world: World, judges: Judges) -> None:
    monitor = make(world.alice, heartbeat={"at_least": 1, "period_seconds": 60})
    ping(world, monitor)
    ping(world, monitor)
    judges.run()
    assert stored(world, monitor) == ([], None)


def test_what_dies_between_commit_and_inbox_is_counted_once(world: World, judges: Judges) -> None:
    monitor = make(world.alice, heartbeat=THREE)
    for _ in range(2):
        ping(world, monitor)
    with pytest.raises(Death):
        judges.another(dying(committer(judges.writer, judges.loop))).step()
    judges.run()
    assert len(stored(world, monitor)[0]) == 2
    assert state(world, monitor)["status"] == "up"


def test_a_resumed_one_is_counted_anew_and_what_came_while_it_was_paused_does_not_count(
    world: World, judges: Judges
) -> None:
    monitor = make(world.alice, heartbeat=THREE)
    for _ in range(3):
        ping(world, monitor)
    judges.run()
    world.alice.post(f"/v1/monitors/{monitor['id']}/pause")
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "paused"
    world.alice.post(f"/v1/monitors/{monitor['id']}/resume")
    judges.run()
    assert (state(world, monitor)["status"], stored(world, monitor)) == ("pending", ([], None))
    ping(world, monitor)
    judges.run()
    successes, since = stored(world, monitor)
    resumed = world.rows("SELECT check_from FROM monitors WHERE id = %(id)s", id=monitor["id"])[0]["check_from"]
    assert (len(successes), since) == (1, resumed)
    earlier(world, monitor, 3_615)
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]


def test_a_change_while_it_runs_is_judged_at_once_by_what_is_known(world: World, judges: Judges) -> None:
    monitor = make(world.alice, heartbeat=THREE)
    for _ in range(3):
        ping(world, monitor)
    judges.run()
    earlier(world, monitor, 1_800)
    ping(world, monitor)
    judges.run()
    path = f"/v1/monitors/{monitor['id']}"
    assert world.alice.patch(path, json={"heartbeat": {"at_least": 5}}).status_code == 200
    judges.run()
    assert incidents(world) == []
    assert world.alice.patch(path, json={"heartbeat": {"period_seconds": 900}}).status_code == 200
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]
    # Of five in a quarter of an hour one has come, and a second is not enough; of two it is.
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "down"
    assert world.alice.patch(path, json={"heartbeat": {"at_least": 2}}).status_code == 200
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "up"
    assert incidents(world) == [("resolved", "heartbeat_missed")]


def test_pings_are_counted_in_a_maintenance_window_and_what_is_missing_is_held_back(
    world: World, judges: Judges
) -> None:
    monitor = make(world.alice, heartbeat=THREE, labels={"team": "shop"})
    ping(world, monitor)
    judges.run()
    window = {"name": "move", "matchers": [{"label": "team", "op": "=", "value": "shop"}], "duration_seconds": 3600}
    answer = world.alice.post("/v1/maintenance", json=window)
    assert answer.status_code == 201, answer.text
    ping(world, monitor)
    judges.run()
    assert len(stored(world, monitor)[0]) == 2
    assert state(world, monitor)["status"] == "maintenance"
    earlier(world, monitor, 3_615)
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]


# Settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"at_least": 0, "period_seconds": 60}, "at_least", "greater than or equal to 1"),
        ({"at_least": 51, "period_seconds": 60}, "at_least", "less than or equal to 50"),
        ({"at_least": 10**30, "period_seconds": 60}, "at_least", ""),
        ({"at_least": 2.5, "period_seconds": 60}, "at_least", "integer"),
        ({"at_least": "3", "period_seconds": 60}, "at_least", "integer"),
        ({"at_least": True, "period_seconds": 60}, "at_least", "integer"),
        ({"at_least": None, "period_seconds": 60}, "at_least", ""),
        ({"at_least": 3}, "at_least", "needs period_seconds: in what time"),
        ({"at_least": 3, "cron": "0 3 * * *"}, "at_least", "not together with cron, which says when each one is due"),
        ({"at_least": 50, "period_seconds": 4}, "at_least", "too many in 4 s: no more than 600 pings in 60 s"),
        ({"at_least": 3, "period_seconds": 10**10}, "period_seconds", "31536000"),
        ({"tolerate_failures": "often"}, "tolerate_failures", "boolean"),
        ({"at_leest": 3, "period_seconds": 60}, "at_leest", ""),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field_and_says_why(
    world: World, options: dict[str, Any], field: str, words: str
) -> None:
    answer = world.alice.post("/v1/monitors", json={**HEARTBEAT, "heartbeat": options})
    assert answer.status_code == 400, answer.text
    (detail,) = answer.get_json()["details"]
    assert detail["field"] == f"heartbeat.{field}"
    assert words in detail["message"]


@pytest.mark.parametrize(
    "options",
    [
        {"at_least": 50, "period_seconds": 5},
        {"at_least": 50, "period_seconds": 31_536_000},
        {"at_least": 1},
        {"at_least": 1, "cron": "0 3 * * *", "tolerate_failures": True},
        {"tolerate_failures": True},
    ],
)
def test_the_bounds_themselves_are_taken(world: World, options: dict[str, Any]) -> None:
    answer = world.alice.post("/v1/monitors", json={**HEARTBEAT, "heartbeat": options})
    assert answer.status_code == 201, answer.text


def test_a_change_that_would_contradict_what_is_set_is_refused(world: World) -> None:
    monitor = make(world.alice, heartbeat=THREE)
    path = f"/v1/monitors/{monitor['id']}"
    answer = world.alice.patch(path, json={"heartbeat": {"period_seconds": None}})
    assert [detail["field"] for detail in answer.get_json()["details"]] == ["heartbeat.at_least"]
    assert world.alice.get(path).get_json()["heartbeat"] == THREE


def test_exports_plans_and_applies_carry_it_round(world: World) -> None:
    options = {"at_least": 3, "period_seconds": 86_400, "tolerate_failures": True}
    wanted = [{"key": "nightly", "name": "Nightly", "type": "heartbeat", "heartbeat": options}]
    plan = world.alice.post("/v1/monitors/plan", json={"monitors": wanted}).get_json()
    body = {"monitors": wanted, "fingerprint": plan["fingerprint"]}
    assert world.alice.post("/v1/monitors/apply", json=body).status_code == 200
    exported = world.alice.get("/v1/monitors/export").get_json()["monitors"]
    assert exported == wanted
    assert world.alice.post("/v1/monitors/plan", json={"monitors": exported}).get_json()["changes"] == []
    fewer = [{**wanted[0], "heartbeat": {"period_seconds": 86_400, "tolerate_failures": False}}]
    plan = world.alice.post("/v1/monitors/plan", json={"monitors": fewer}).get_json()
    (change,) = plan["changes"]
    assert {one["field"]: (one["from"], one["to"]) for one in change["differences"]} == {
        "heartbeat.at_least": (3, 1),
        "heartbeat.tolerate_failures": (True, False),
    }
