"""Many monitors in one request: all or each for itself, paused and resumed by id and by label, in few statements."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.store import monitor_sets
from common.store.engine import Listener
from common.vault import Vault
from tests import api_cast
from tests.api_cast import MONITOR, Person, World
from tests.statements import counted

world = api_cast.world

SECRET = {"http": {"headers": {"Authorization": {"secret": "canary-7f3a"}}}}


def some(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**MONITOR, "name": f"m{index}", "key": f"k{index}", **fields} for index in range(number)]


def bulk(person: Person, monitors: list[Any], mode: str | None = None, **more: Any) -> TestResponse:
    body = {"monitors": monitors, **({"mode": mode} if mode else {})}
    return person.post("/v1/monitors/bulk", json=body, **more)


def count(world: World, table: str = "monitors") -> int:
    return int(world.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def test_what_is_made_in_bulk_is_like_what_is_made_singly(world: World) -> None:
    full = {
        **MONITOR, "key": "full", "interval_seconds": 60, "severity": "critical", "labels": {"team": "shop"},
        "assertions": [{"source": "status", "op": "in", "value": ["200-299"]}], **SECRET,
    }  # fmt: skip
    single = world.alice.make_monitor(**{**full, "key": "single"})
    answer = bulk(world.alice, [full, {**MONITOR, "parent_id": single["id"], "enabled": False}])
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert (body["created"], body["failed"]) == (2, 0)
    assert [(one["index"], one["status"], one["error"]) for one in body["results"]] == [(0, 201, None), (1, 201, None)]
    made = body["results"][0]["monitor"]
    for monitor in (one["monitor"] for one in body["results"]):
        assert world.alice.get(f"/v1/monitors/{monitor['id']}").get_json() == monitor
    own = {"id", "key", "created_at", "updated_at", "state"}
    assert {k: v for k, v in made.items() if k not in own} == {k: v for k, v in single.items() if k not in own}
    rows = world.rows(
        "SELECT m.key, m.secrets IS NOT NULL AS sealed, m.check_from = date_trunc('milliseconds', m.check_from) AS cut,"
        " s.health, s.resting, (SELECT array_agg(v.health) FROM votes v WHERE v.monitor_no = m.monitor_no) AS votes"
        " FROM monitors m JOIN monitor_states s USING (monitor_no) ORDER BY m.monitor_no"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("single", True, True, 0, False, [0]),
        ("full", True, True, 0, False, [0]),
        (None, False, True, 0, True, [0]),
    ]
    token = world.rows("SELECT secrets FROM monitors WHERE key = 'full'")[0]["secrets"]
    keys = world.services.settings.encryption_keys
    assert keys is not None
    opened = Vault(keys.get_secret_value()).open(f"monitor:{world.org_a}:{made['id']}", token)
    assert opened == {"http.headers.Authorization": "canary-7f3a"}


#: (the item, the field that is wrong with it)
WRONG: list[tuple[Any, str]] = [
    ({**MONITOR, "target": "nowhere"}, ".target"),
    ({**MONITOR, "locations": ["mars"]}, ".locations.0"),
    ({**MONITOR, "parent_id": "00000000-0000-0000-0000-000000000000"}, ".parent_id"),
    ({**MONITOR, "http": {"headers": {"A": None}}}, ".http.headers.A"),
    ({**MONITOR, "colour": "red"}, ".colour"),
    ({**MONITOR, "target": "http://169.254.169.254/"}, ".target"),
    ({**MONITOR, "key": "k1"}, ".key"),  # another item has it
    ({"name": "x"}, ".type"),
    ("x", ""),
    (None, ""),
    ([], ""),
]


@pytest.mark.parametrize(("item", "field"), WRONG)
def test_one_that_is_wrong_keeps_all_out_and_is_named_by_its_path(world: World, item: Any, field: str) -> None:
    answer = bulk(world.alice, [*some(3), item, *some(1, key="last")])
    assert (answer.status_code, answer.get_json()["code"]) == (400, "VALIDATION_ERROR"), answer.text
    assert f"monitors.3{field}" in {detail["field"] for detail in answer.get_json()["details"]}
    for table in ("monitors", "monitor_states", "votes", "audit_log"):
        assert count(world, table) == 0, table


@pytest.mark.parametrize(("item", "field"), WRONG)
def test_each_for_itself_only_the_wrong_one_is_left_out(world: World, item: Any, field: str) -> None:
    answer = bulk(world.alice, [*some(3), item, *some(1, key="last")], "each")
    body = answer.get_json()
    assert (answer.status_code, body["created"], body["failed"]) == (200, 4, 1)
    assert [one["status"] for one in body["results"]] == [201, 201, 201, 400, 201]
    wrong = body["results"][3]
    assert wrong["monitor"] is None
    assert field.lstrip(".") or "body" in {detail["field"] for detail in wrong["error"]["details"]}
    assert count(world) == count(world, "audit_log") == 4


def test_a_key_that_is_taken_is_a_conflict(world: World) -> None:
    world.alice.make_monitor(key="k2")
    world.charlie.make_monitor(key="k0")  # another organization's is nobody's business
    all_ = bulk(world.alice, some(4))
    assert (all_.status_code, all_.get_json()["code"]) == (409, "KEY_TAKEN")
    assert [detail["field"] for detail in all_.get_json()["details"]] == ["monitors.2.key"]
    assert count(world) == 2
    each = bulk(world.alice, some(4), "each").get_json()
    assert [one["status"] for one in each["results"]] == [201, 201, 409, 201]
    assert each["results"][2]["error"]["code"] == "KEY_TAKEN"
    assert (each["created"], each["failed"], count(world)) == (3, 1, 5)
    again = bulk(world.alice, some(4), "each").get_json()
    assert (again["created"], again["failed"]) == (0, 4)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "monitors"),
        ({"monitors": []}, "monitors"),
        ({"monitors": [MONITOR] * 1001}, "monitors"),
        ({"monitors": {"a": 1}}, "monitors"),
        ({"monitors": [MONITOR], "mode": "some"}, "mode"),
    ],
)
def test_a_body_that_is_none_is_refused(world: World, body: dict[str, Any], field: str) -> None:
    answer = world.alice.post("/v1/monitors/bulk", json=body)
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field)
    assert count(world) == 0


def test_a_repeated_request_makes_nothing_new(world: World) -> None:
    key = {"Idempotency-Key": "b-1"}
    first = bulk(world.alice, some(3), headers=key)
    second = bulk(world.alice, some(3), headers=key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert (second.headers["Idempotency-Replayed"], second.get_data()) == ("true", first.get_data())
    assert bulk(world.alice, some(2), headers=key).status_code == 409
    assert count(world) == count(world, "audit_log") == 3


def test_a_thousand_take_as_many_statements_as_three(world: World) -> None:
    sent: dict[int, list[str]] = {}
    for number in (3, 1_000):
        began = time.perf_counter()
        with counted(world.services.database) as statements:
            answer = bulk(world.alice, some(number, key=None, labels={"team": "shop"}, **SECRET))
        print(f"{number} monitors: {(time.perf_counter() - began) * 1000:.0f} ms, {len(statements)} statements")
        assert answer.get_json()["created"] == number
        sent[number] = statements
    assert len(sent[3]) == len(sent[1_000]) == 8, sent[1_000]
    assert (count(world), count(world, "votes"), count(world, "audit_log")) == (1_003, 1_003, 1_003)


@contextmanager
def hinted(world: World) -> Iterator[None]:
    listener = Listener(world.databases.worker, ("tocsin_monitors",))
    listener.wait(0)
    yield
    assert listener.wait(60)


def test_the_scheduler_is_told_of_all_that_changes_many(world: World) -> None:
    with hinted(world):
        made = bulk(world.alice, some(2)).get_json()
    ids = [one["monitor"]["id"] for one in made["results"]]
    with hinted(world):
        world.alice.post("/v1/monitors/pause", json={"ids": ids})
    with hinted(world):
        world.alice.post("/v1/monitors/resume", json={"ids": ids})


def settings_of(world: World, id_: str) -> dict[str, Any]:
    return world.rows(
        "SELECT m.enabled, m.config_version, s.health, s.open_incident, s.resting,"
        " (SELECT array_agg((v.config_floor, v.down, v.health)::text) FROM votes v"
        "   WHERE v.monitor_no = m.monitor_no) AS votes"
        " FROM monitors m JOIN monitor_states s USING (monitor_no) WHERE m.id = %(id)s",
        id=id_,
    )[0]


def test_paused_together_is_paused_like_one_alone(world: World) -> None:
    alone, one, other, paused = (world.alice.make_monitor(**SECRET) for _ in range(4))
    world.alice.post(f"/v1/monitors/{paused['id']}/pause")
    incidents = [world.open_incident(monitor) for monitor in (alone, one)]
    world.alice.post(f"/v1/monitors/{alone['id']}/pause")
    unknown = "00000000-0000-0000-0000-000000000000"
    ids = [one["id"].upper(), other["id"], other["id"], paused["id"], unknown]
    answer = world.alice.post("/v1/monitors/pause", json={"ids": ids})
    assert answer.get_json() == {"changed": 2, "unchanged": 1, "not_found": [unknown]}, answer.text
    assert settings_of(world, one["id"]) == settings_of(world, alone["id"])
    assert settings_of(world, one["id"])["resting"] is True
    ends = [world.alice.get(f"/v1/incidents/{incident}").get_json() for incident in incidents]
    assert [(end["status"], end["cause"]["reason"]) for end in ends] == [("resolved", "paused")] * 2
    told = world.rows("SELECT type, count(*) AS n FROM outbox GROUP BY type ORDER BY type")
    assert [tuple(row.values()) for row in told] == [("opened", 2), ("resolved", 2)]
    assert world.alice.post("/v1/monitors/pause", json={"ids": ids}).get_json()["changed"] == 0
    resumed = world.alice.post("/v1/monitors/resume", json={"ids": ids})
    assert resumed.get_json() == {"changed": 3, "unchanged": 0, "not_found": [unknown]}
    world.alice.post(f"/v1/monitors/{alone['id']}/resume")
    assert settings_of(world, one["id"]) == settings_of(world, alone["id"])
    assert settings_of(world, one["id"])["resting"] is False
    world.alice.delete(f"/v1/monitors/{one['id']}")
    assert settings_of(world, one["id"])["resting"] is True
    # A secret survives both.
    assert world.rows("SELECT count(*) AS n FROM monitors WHERE secrets IS NOT NULL")[0]["n"] == 3
    entries = world.alice.get(f"/v1/audit-log?resource_id={one['id']}").get_json()["data"]
    assert [entry["action"] for entry in entries] == [
        "delete_monitor", "resume_monitors", "pause_monitors", "create_monitor",
    ]  # fmt: skip
    assert (entries[2]["before"]["enabled"], entries[2]["after"]["enabled"]) == (True, False)


def test_chosen_by_labels_all_are_switched_a_batch_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from api import monitors_bulk

    monkeypatch.setattr(monitors_bulk, "MAX_BULK", 3)
    bulk(world.alice, [{**MONITOR, "labels": {"team": "shop", "n": str(n)}} for n in range(8)])
    world.alice.make_monitor(labels={"team": "web"})
    world.charlie.make_monitor(labels={"team": "shop"})
    with counted(world.services.database) as sent:
        answer = world.alice.post("/v1/monitors/pause", json={"labels": {"team": "shop"}})
    assert answer.get_json() == {"changed": 8, "unchanged": 0, "not_found": []}
    assert sum("FOR NO KEY UPDATE" in statement for statement in sent) == 3
    assert world.rows("SELECT labels ->> 'team' AS t FROM monitors WHERE enabled ORDER BY 1") == [
        {"t": "shop"},
        {"t": "web"},
    ]
    assert world.alice.post("/v1/monitors/resume", json={"labels": {"team": "shop", "n": "4"}}).get_json() == {
        "changed": 1, "unchanged": 0, "not_found": [],
    }  # fmt: skip
    assert world.alice.post("/v1/monitors/resume", json={"labels": {"team": "shop"}}).get_json() == {
        "changed": 7, "unchanged": 1, "not_found": [],
    }  # fmt: skip
    assert world.alice.post("/v1/monitors/pause", json={"labels": {"team": "nobody"}}).get_json()["changed"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": [], "labels": {}},
        {"ids": []},
        {"labels": {}},
        {"ids": ["x"]},
        {"labels": {"a": 1}},
        {"ids": ["00000000-0000-0000-0000-000000000000"], "labels": {"a": "b"}},
        {"ids": ["00000000-0000-0000-0000-000000000000"] * 1001},
    ],
)
def test_which_ones_has_to_be_said_in_one_way(world: World, body: dict[str, Any]) -> None:
    world.alice.make_monitor(labels={"a": "b"})
    for path in ("/v1/monitors/pause", "/v1/monitors/resume"):
        assert world.alice.post(path, json=body).status_code == 400
    assert world.rows("SELECT enabled FROM monitors") == [{"enabled": True}]


def test_nobody_switches_what_belongs_to_others(world: World) -> None:
    made = world.alice.make_monitor(labels={"team": "shop"})
    answer = world.charlie.post("/v1/monitors/pause", json={"ids": [made["id"]]})
    assert answer.get_json() == {"changed": 0, "unchanged": 0, "not_found": [made["id"]]}
    assert world.charlie.post("/v1/monitors/pause", json={"labels": {"team": "shop"}}).get_json()["changed"] == 0
    theirs = {**MONITOR, "parent_id": made["id"]}
    assert bulk(world.charlie, [theirs]).get_json()["details"][0]["field"] == "monitors.0.parent_id"
    for person, path in ((world.bob, "bulk"), (world.bob, "pause"), (world.bob, "plan"), (world.bob, "apply")):
        assert person.post(f"/v1/monitors/{path}", json={}).status_code == 403
    assert settings_of(world, made["id"])["enabled"] is True


def test_pausing_many_takes_few_statements(world: World) -> None:
    made = bulk(world.alice, some(300)).get_json()["results"]
    ids = [one["monitor"]["id"] for one in made]
    for one in made[:5]:
        world.open_incident(one["monitor"])
    began = time.perf_counter()
    with counted(world.services.database) as sent:
        assert world.alice.post("/v1/monitors/pause", json={"ids": ids}).get_json()["changed"] == 300
    print(f"300 paused: {(time.perf_counter() - began) * 1000:.0f} ms, {len(sent)} statements")
    assert len(sent) <= 20, sent


def test_a_key_that_another_takes_at_the_same_time_is_a_conflict_for_one(world: World, monkeypatch: Any) -> None:
    """The other commits between our look at the body and our insert."""
    add = monitor_sets.add

    def late(*arguments: Any, **more: Any) -> dict[str, int]:
        monkeypatch.setattr(monitor_sets, "add", add)
        other = Person(world.client.application.test_client())
        other.headers = world.alice.headers
        assert other.post("/v1/monitors", json={**MONITOR, "key": "k1"}).status_code == 201
        return add(*arguments, **more)

    monkeypatch.setattr(monitor_sets, "add", late)
    answer = bulk(world.alice, some(3))
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (409, "monitors.1.key")
    assert count(world) == 1
