"""/v1/maintenance: what may be planned, what it covers at once, and what changes and ends of it do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.monitor_documents import state_document
from common.clock import utc_now
from common.store import stream
from notifier.cooldowns import CooldownEnds
from notifier.parents import Parents
from notifier.relay import Relay
from tests import api_cast
from tests.api_cast import Person, World

world = api_cast.world

SHOP = [{"label": "team", "op": "=", "value": "shop"}]
TEAM = {"team": "shop"}
PLAN = {"name": "Upgrade", "matchers": SHOP, "duration_seconds": 3600}


def plan(person: Person, **fields: Any) -> dict[str, Any]:
    response = person.post("/v1/maintenance", json={**PLAN, **fields})
    assert response.status_code == 201, response.text
    return response.get_json()


def status(person: Person, monitor: dict[str, Any]) -> str:
    return str(person.get(f"/v1/monitors/{monitor['id']}").get_json()["state"]["status"])


def relay(world: World) -> None:
    step = Relay(world.databases.worker, lambda _ids: None, utc_now).step
    while step():
        pass


def announce(world: World) -> list[str]:
    hinted: list[str] = []
    ends = CooldownEnds(world.databases.worker, hinted.extend, lambda: utc_now() + timedelta(milliseconds=20))
    while ends.step():
        pass
    return hinted


def ledger(world: World, incident: str) -> list[tuple[str, str | None]]:
    rows = world.rows("SELECT status, reason FROM notifications WHERE incident_id = %(id)s ORDER BY no", id=incident)
    return [(row["status"], row["reason"]) for row in rows]


def test_when_the_answer_is_there_the_window_covers(world: World) -> None:
    world.alice.make_channel()
    shop, other = world.alice.make_monitor(labels=TEAM), world.alice.make_monitor()
    made = plan(world.alice)
    assert (made["state"], made["type"], made["starts_at"]) == ("active", "once", made["occurrence"]["starts_at"])
    assert (status(world.alice, shop), status(world.alice, other)) == ("maintenance", "pending")
    incident = world.open_incident(shop)
    relay(world)
    assert ledger(world, incident) == [("suppressed", "maintenance")]
    state = world.alice.get(f"/v1/monitors/{shop['id']}").get_json()["state"]
    assert state["status"] == "maintenance"
    answer = world.alice.get("/v1/notifications?reason=maintenance").get_json()["data"]
    assert [one["incident_id"] for one in answer] == [incident]


def test_lists_summaries_and_series_know_the_state(world: World) -> None:
    shop = world.alice.make_monitor(labels=TEAM, name="b")
    world.alice.make_monitor(name="a")
    plan(world.alice)
    found = world.alice.get("/v1/monitors?state=maintenance").get_json()["data"]
    assert [one["id"] for one in found] == [shop["id"]]
    assert len(world.alice.get("/v1/monitors?state=pending").get_json()["data"]) == 1
    assert len(world.alice.get("/v1/monitors?state=pending&state=maintenance").get_json()["data"]) == 2
    total = world.alice.get("/v1/summary").get_json()["total"]
    assert (total["maintenance"], total["pending"], total["total"]) == (1, 1, 2)
    groups = world.alice.get("/v1/summary?group_by=state").get_json()["groups"]
    assert {group["group"]: group["total"] for group in groups} == {"maintenance": 1, "pending": 1}
    # Page by page, by state.
    page = world.alice.get("/v1/monitors?sort=state&limit=1").get_json()
    rest = world.alice.get(f"/v1/monitors?sort=state&limit=1&cursor={page['next_cursor']}").get_json()
    assert [one["state"]["status"] for one in (*page["data"], *rest["data"])] == ["pending", "maintenance"]
    assert rest["next_cursor"] is None


def test_a_state_hides_what_lies_below_in_status_alone(world: World) -> None:
    shop = world.alice.make_monitor(labels=TEAM)
    world.open_incident(shop)
    plan(world.alice)
    shown = world.alice.get(f"/v1/monitors/{shop['id']}").get_json()["state"]
    assert shown["status"] == "maintenance"
    assert shown["since"]
    world.alice.post(f"/v1/monitors/{shop['id']}/pause")
    assert status(world.alice, shop) == "paused"


def test_ending_and_deleting_announce_what_is_still_wrong(world: World) -> None:
    world.alice.make_channel()
    for end in ("end", "delete"):
        shop = world.alice.make_monitor(labels=TEAM)
        made = plan(world.alice, matchers=[], monitor_ids=[shop["id"]])
        incident = world.open_incident(shop)
        relay(world)
        assert ledger(world, incident) == [("suppressed", "maintenance")]
        if end == "end":
            answer = world.alice.post(f"/v1/maintenance/{made['id']}/end")
            assert (answer.status_code, answer.get_json()["state"]) == (200, "ended")
            assert answer.get_json()["occurrence"] is None
            again = world.alice.post(f"/v1/maintenance/{made['id']}/end")
            assert (again.status_code, again.get_json()["code"]) == (409, "MAINTENANCE_NOT_ACTIVE")
        else:
            assert world.alice.delete(f"/v1/maintenance/{made['id']}").status_code == 204
            assert world.alice.get(f"/v1/maintenance/{made['id']}").status_code == 404
        assert status(world.alice, shop) != "maintenance"
        assert len(announce(world)) == 1
        assert ledger(world, incident) == [("pending", None)]


def test_a_shorter_window_ends_sooner_and_a_longer_one_later(world: World) -> None:
    world.alice.make_channel()
    shop = world.alice.make_monitor(labels=TEAM)
    made = plan(world.alice)
    incident = world.open_incident(shop)
    relay(world)
    for seconds in (7200, 600):
        answer = world.alice.patch(f"/v1/maintenance/{made['id']}", json={"duration_seconds": seconds})
        assert answer.status_code == 200, answer.text
        assert announce(world) == []
        (row,) = world.rows("SELECT held_until, silence_id::text FROM notifications")
        ends_at = datetime.fromisoformat(answer.get_json()["occurrence"]["ends_at"])
        assert (row["held_until"], row["silence_id"]) == (ends_at, made["id"])
    assert ledger(world, incident) == [("suppressed", "maintenance")]


def test_what_other_matchers_cover_no_more_is_announced_now(world: World) -> None:
    world.alice.make_channel()
    shop, kept = world.alice.make_monitor(labels=TEAM), world.alice.make_monitor(labels={**TEAM, "tier": "1"})
    made = plan(world.alice)
    gone, held = world.open_incident(shop), world.open_incident(kept)
    relay(world)
    patch = {"matchers": [{"label": "tier", "op": "=", "value": "1"}]}
    assert world.alice.patch(f"/v1/maintenance/{made['id']}", json=patch).status_code == 200
    assert len(announce(world)) == 1
    assert ledger(world, gone) == [("pending", None)]
    assert ledger(world, held) == [("suppressed", "maintenance")]
    assert (status(world.alice, shop), status(world.alice, kept)) == ("down", "maintenance")


def test_a_window_that_is_moved_away_is_not_on_any_more(world: World) -> None:
    shop = world.alice.make_monitor(labels=TEAM)
    made = plan(world.alice)
    away = f"0 3 1 {(utc_now().month + 5) % 12 + 1} *"
    answer = world.alice.patch(
        f"/v1/maintenance/{made['id']}", json={"type": "cron", "cron": away} | {"duration_seconds": 600}
    )
    assert answer.status_code == 200, answer.text
    changed = answer.get_json()
    assert (changed["state"], changed["cron"], changed["starts_at"]) == ("pending", away, None)
    assert status(world.alice, shop) == "pending"


def test_what_has_begun_or_ended_cannot_begin_at_another_time(world: World) -> None:
    made = plan(world.alice)
    later = (utc_now() + timedelta(minutes=5)).isoformat()
    answer = world.alice.patch(f"/v1/maintenance/{made['id']}", json={"starts_at": later})
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, "starts_at")
    world.alice.post(f"/v1/maintenance/{made['id']}/end")
    answer = world.alice.patch(f"/v1/maintenance/{made['id']}", json={"duration_seconds": 7200})
    assert (answer.status_code, answer.get_json()["code"]) == (409, "MAINTENANCE_ENDED")
    answer = world.alice.patch(f"/v1/maintenance/{made['id']}", json={"comment": "took longer"})
    assert (answer.status_code, answer.get_json()["comment"], answer.get_json()["state"]) == (
        200,
        "took longer",
        "ended",
    )


#: Days that are neither near nor next to each other in the week, whatever day it is somewhere.
AWAY = sorted((utc_now().weekday() + days) % 7 for days in (3, 5))
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "weekly", "days": [DAYS[day] for day in AWAY], "time": "02:30", "time_zone": "Europe/Berlin"},
        {"type": "cron", "cron": f"0 2 * * {(AWAY[0] + 1) % 7}", "time_zone": "America/New_York"},
        {"starts_at": f"{utc_now() + timedelta(days=40):%Y-%m-%d}T00:00:00+01:00"},
    ],
)
def test_an_answer_can_be_sent_back(world: World, fields: dict[str, Any]) -> None:
    made = plan(world.alice, **fields)
    assert made["state"] == "pending"
    assert world.alice.get(f"/v1/maintenance/{made['id']}").get_json() == made
    again = world.alice.patch(
        f"/v1/maintenance/{made['id']}", json={**made, "duration_seconds": None} if made["type"] == "once" else made
    )
    assert again.status_code == 200, again.text
    assert {**again.get_json(), "updated_at": None} == {**made, "updated_at": None}


def test_windows_are_listed_by_state_newest_first(world: World) -> None:
    on, later = plan(world.alice), plan(world.alice, starts_at=(utc_now() + timedelta(days=1)).isoformat())
    over = plan(world.alice)
    world.alice.post(f"/v1/maintenance/{over['id']}/end")

    def listed(query: str = "") -> list[str]:
        return [one["id"] for one in world.alice.get(f"/v1/maintenance{query}").get_json()["data"]]

    assert listed() == [over["id"], later["id"], on["id"]]
    assert listed("?state=active") == [on["id"]]
    assert listed("?state=pending&state=ended") == [over["id"], later["id"]]
    page = world.alice.get("/v1/maintenance?limit=2").get_json()
    assert [one["id"] for one in page["data"]] == [over["id"], later["id"]]
    assert listed(f"?limit=2&cursor={page['next_cursor']}") == [on["id"]]
    assert world.charlie.get("/v1/maintenance").get_json()["data"] == []


def test_a_repeating_window_that_is_ended_comes_again(world: World) -> None:
    shop = world.alice.make_monitor(labels=TEAM)
    begin = utc_now().astimezone(UTC) - timedelta(minutes=10)
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    made = plan(world.alice, type="weekly", days=days, time=begin.strftime("%H:%M"))
    assert (made["state"], status(world.alice, shop)) == ("active", "maintenance")
    ended = world.alice.post(f"/v1/maintenance/{made['id']}/end").get_json()
    assert ended["state"] == "pending"
    apart = datetime.fromisoformat(ended["occurrence"]["starts_at"]) - datetime.fromisoformat(
        made["occurrence"]["starts_at"]
    )
    assert apart == timedelta(days=1)
    assert status(world.alice, shop) == "pending"


def test_other_times_do_not_bring_back_what_was_ended(world: World) -> None:
    shop = world.alice.make_monitor(labels=TEAM)
    begin = utc_now().astimezone(UTC) - timedelta(minutes=10)
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    made = plan(world.alice, type="weekly", days=days, time=begin.strftime("%H:%M"))
    ended = world.alice.post(f"/v1/maintenance/{made['id']}/end").get_json()
    for seconds in (7200, 5400):
        answer = world.alice.patch(f"/v1/maintenance/{made['id']}", json={"duration_seconds": seconds}).get_json()
        assert (answer["state"], answer["duration_seconds"]) == ("pending", seconds)
        assert answer["occurrence"]["starts_at"] == ended["occurrence"]["starts_at"]
        assert status(world.alice, shop) == "pending"
    # Whoever wants one now says so.
    now = {"type": "once", "days": None, "time": None, "time_zone": None, "duration_seconds": 600}
    answer = world.alice.patch(f"/v1/maintenance/{made['id']}", json=now)
    assert (answer.status_code, answer.get_json()["state"]) == (200, "active"), answer.text
    assert status(world.alice, shop) == "maintenance"


def test_a_window_that_is_about_to_begin_and_is_to_begin_now_covers_now(world: World) -> None:
    shop = world.alice.make_monitor(labels=TEAM)
    made = plan(world.alice, starts_at=(utc_now() + timedelta(seconds=28)).isoformat())
    assert (made["state"], status(world.alice, shop)) == ("pending", "pending")
    answer = world.alice.patch(f"/v1/maintenance/{made['id']}", json={"starts_at": utc_now().isoformat()})
    assert (answer.status_code, answer.get_json()["state"]) == (200, "active"), answer.text
    assert status(world.alice, shop) == "maintenance"


BAD = [
    ({"name": ""}, "name"),
    ({"name": "two\nlines"}, "name"),
    ({"matchers": []}, "monitor_ids"),
    ({"matchers": [{"label": "a", "op": "=~", "value": "("}]}, "matchers.0.value"),
    ({"matchers": [{"label": "a", "op": "=", "value": "b"}] * 51}, "matchers"),
    ({"monitor_ids": ["x"]}, "monitor_ids.0"),
    ({"monitor_ids": ["00000000-0000-0000-0000-000000000000"]}, "monitor_ids.0"),
    ({"monitor_ids": ["00000000-0000-0000-0000-000000000000"] * 1001}, "monitor_ids"),
    ({"duration_seconds": None}, "ends_at"),
    ({"duration_seconds": 0}, "duration_seconds"),
    ({"duration_seconds": 31 * 86_400}, "duration_seconds"),
    ({"duration_seconds": 60.5}, "duration_seconds"),
    ({"ends_at": "2099-01-01T00:00:00Z"}, "duration_seconds"),
    ({"starts_at": "2099-01-01T00:00:00Z"}, "starts_at"),
    ({"starts_at": "9999-12-31T23:59:59Z"}, "starts_at"),
    ({"starts_at": "2020-01-01T00:00:00Z"}, "duration_seconds"),
    ({"starts_at": "yesterday"}, "starts_at"),
    ({"starts_at": "2026-01-01T00:00:00"}, "starts_at"),
    ({"cron": "* * * * *"}, "cron"),
    ({"time_zone": "UTC"}, "time_zone"),
    ({"type": "weekly"}, "days"),
    ({"type": "weekly", "days": ["monday"], "time": "02:00"}, "days.0"),
    ({"type": "weekly", "days": [], "time": "02:00"}, "days"),
    ({"type": "weekly", "days": ["mon"], "time": "24:00"}, "time"),
    ({"type": "weekly", "days": ["mon"], "time": "2:00"}, "time"),
    ({"type": "weekly", "days": ["mon"], "time": "02:00", "time_zone": "Mars/Base"}, "time_zone"),
    ({"type": "weekly", "days": ["mon"], "time": "02:00", "starts_at": "2027-01-01T00:00:00Z"}, "starts_at"),
    ({"type": "weekly", "days": ["mon"], "time": "02:00", "duration_seconds": 30}, "duration_seconds"),
    ({"type": "cron", "cron": "nonsense"}, "cron"),
    ({"type": "cron", "cron": "0 0 30 2 *"}, "cron"),
    ({"type": "cron", "cron": "0 * * * *"}, "duration_seconds"),
    ({"type": "cron", "cron": "0 2 * * *" + " " * 200}, "cron"),
    ({"type": "yearly"}, "type"),
    ({"until_healthy": 1}, "until_healthy"),
    ({"healthy_for_seconds": 3601}, "healthy_for_seconds"),
    ({"comment": "x" * 1001}, "comment"),
    ({"surprise": True}, "surprise"),
]


@pytest.mark.parametrize(("fields", "field"), BAD)
def test_bad_input_is_told_by_its_field(world: World, fields: dict[str, Any], field: str) -> None:
    answer = world.alice.post("/v1/maintenance", json={**PLAN, **fields})
    assert answer.status_code == 400, answer.text
    assert field in [one["field"] for one in answer.get_json()["details"]], answer.get_json()["details"]
    assert world.rows("SELECT 1 FROM maintenance_windows") == []


def test_monitors_of_others_cannot_be_named_nor_are_they_covered(world: World) -> None:
    theirs = world.charlie.make_monitor(labels=TEAM)
    answer = world.alice.post("/v1/maintenance", json={**PLAN, "monitor_ids": [theirs["id"]]})
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, "monitor_ids.0")
    plan(world.alice, matchers=[{"label": "name", "op": "=", "value": "*"}])
    assert status(world.charlie, theirs) == "pending"
    made = plan(world.charlie)
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/end"), ("DELETE", "")):
        answer = world.alice.call(method, f"/v1/maintenance/{made['id']}{path}", json={"comment": "x"})
        assert (answer.status_code, answer.get_json()["code"]) == (404, "MAINTENANCE_NOT_FOUND")
    assert status(world.charlie, theirs) == "maintenance"


def test_there_is_an_end_of_windows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.maintenance.MAX_WINDOWS", 1)
    made = plan(world.alice)
    answer = world.alice.post("/v1/maintenance", json=PLAN)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "LIMIT_REACHED")
    world.alice.delete(f"/v1/maintenance/{made['id']}")
    plan(world.alice)


def test_a_monitor_that_the_window_named_may_be_gone_by_now(world: World) -> None:
    shop = world.alice.make_monitor()
    made = plan(world.alice, monitor_ids=[shop["id"]])
    assert world.alice.delete(f"/v1/monitors/{shop['id']}").status_code == 204
    assert world.alice.patch(f"/v1/maintenance/{made['id']}", json={"comment": "x"}).status_code == 200


def test_streams_are_told_when_a_window_begins_and_when_it_ends(world: World) -> None:
    shop = world.alice.make_monitor(labels=TEAM)
    made: dict[str, Any] = {}
    deeds = (
        (lambda: made.update(plan(world.alice)), "maintenance"),
        (lambda: world.alice.delete(f"/v1/maintenance/{made['id']}"), "pending"),
    )
    for deed, said in deeds:
        with world.databases.worker.begin() as connection:
            since = stream.snapshot(connection)
        deed()
        with world.databases.worker.begin() as connection:
            changes = stream.changed(connection, [world.org_a], since=since, limit=10)[world.org_a]
        assert [(change.id, state_document(change.row)["status"]) for change in changes] == [(shop["id"], said)]


def test_the_timeline_tells_of_it(world: World) -> None:
    world.alice.make_channel()
    shop = world.alice.make_monitor(labels=TEAM)
    made = plan(world.alice)
    incident = world.open_incident(shop)
    relay(world)
    step = Parents(world.databases.worker, utc_now).step
    while step():
        pass
    events = world.alice.get(f"/v1/incidents/{incident}/events").get_json()["data"]
    said = next(event for event in events if event["type"] == "held_back")
    assert said["data"] == {"reason": "maintenance", "maintenance_id": made["id"], "maintenance": "Upgrade"}
