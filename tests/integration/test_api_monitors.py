"""Monitors through the API: what is sent comes back, what changes is counted, what is paused is quiet."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from common.broker import decode_batch, queue_name
from common.clock import from_ms
from common.domain.checks import Kind, Lane
from common.domain.traces import check_id
from common.store import monitor_sets
from common.store.engine import Connection, Listener
from common.vault import Vault
from tests import api_cast
from tests.api_cast import MONITOR, World
from tests.statements import counted

world = api_cast.world
patient_queue = api_cast.patient_queue

pytestmark = pytest.mark.usefixtures("patient_queue")

FULL: dict[str, Any] = {
    "key": "shop-home", "name": "Shop", "type": "http", "target": "https://shop.example/health",
    "interval_seconds": 30, "timeout_seconds": 10, "failure_threshold": 2, "recovery_threshold": 1,
    "retry_interval_seconds": 5, "severity": "critical", "labels": {"team": "shop"}, "locations": ["local"],
    "quorum": None, "enabled": True, "parent_id": None,
    "http": {"method": "GET", "headers": {}, "body": None, "follow_redirects": True, "verify_tls": True},
    "assertions": [
        {"source": "status", "op": "in", "value": ["200-299"]},
        {"source": "body", "op": "contains", "value": "ok"},
        {"source": "latency_ms", "op": "lt", "value": 800, "on_fail": "degraded"},
    ],
}  # fmt: skip


def stored(world: World, monitor: dict[str, Any]) -> dict[str, Any]:
    return world.rows("SELECT * FROM monitors WHERE id = %(id)s", id=monitor["id"])[0]


def votes_of(world: World, monitor: dict[str, Any]) -> list[dict[str, Any]]:
    return world.rows(
        "SELECT v.* FROM votes v JOIN monitors m USING (monitor_no) WHERE m.id = %(id)s ORDER BY location",
        id=monitor["id"],
    )


def set_vote(world: World, monitor: dict[str, Any], **columns: Any) -> None:
    assignments = ", ".join(f"{name} = %({name})s" for name in columns)
    world.execute(
        f"UPDATE votes SET {assignments} WHERE monitor_no = (SELECT monitor_no FROM monitors WHERE id = %(id)s)",
        id=monitor["id"], **columns,
    )  # fmt: skip


def add_location(world: World, name: str) -> int:
    world.execute("INSERT INTO locations (name) VALUES (%(name)s)", name=name)
    return world.rows("SELECT id FROM locations WHERE name = %(name)s", name=name)[0]["id"]


def test_a_full_monitor_comes_back_exactly_as_it_was_sent(world: World) -> None:
    made = world.alice.post("/v1/monitors", json=FULL)
    assert made.status_code == 201
    answer = made.get_json()
    assert made.headers["Location"] == f"/v1/monitors/{answer['id']}"
    server = {"id", "state", "config_version", "created_at", "updated_at"}
    assert {name: value for name, value in answer.items() if name not in server} == FULL
    assert set(answer) == server | set(FULL)
    assert answer["config_version"] == 1
    state = answer["state"]
    assert {**state, "since": None} == {
        "status": "pending", "since": None, "last_check_at": None, "latency_ms": None, "reason": None,
    }  # fmt: skip
    assert world.bob.get(f"/v1/monitors/{answer['id']}").get_json() == answer
    assert world.bob.get("/v1/monitors").get_json() == {"data": [answer], "next_cursor": None}


def test_only_name_type_and_target_are_required_and_the_rest_has_defaults(world: World) -> None:
    made = world.alice.make_monitor()
    expected = {
        "key": None, "interval_seconds": 30, "timeout_seconds": 10, "failure_threshold": 2, "recovery_threshold": 1,
        "retry_interval_seconds": 5, "severity": "error", "labels": {}, "locations": ["local"], "quorum": None,
        "enabled": True, "parent_id": None, "assertions": [], "http": FULL["http"],
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected


def test_the_default_timeout_is_ten_seconds_or_the_interval(world: World) -> None:
    for interval, timeout in ((1, 1), (5, 5), (10, 10), (300, 10)):
        assert world.alice.make_monitor(interval_seconds=interval)["timeout_seconds"] == timeout


def test_a_tcp_monitor_has_no_http_options(world: World) -> None:
    made = world.alice.make_monitor(type="tcp", target="db.example:5432")
    assert "http" not in made
    assert made["target"] == "db.example:5432"


def test_an_answer_can_be_sent_back_and_changes_nothing(world: World) -> None:
    made = world.alice.make_monitor(**FULL)
    same = world.alice.patch(f"/v1/monitors/{made['id']}", json=made)
    assert (same.status_code, same.get_json()) == (200, made)


def test_a_new_monitor_has_a_pending_vote_per_location_and_a_slot_of_its_own(world: World) -> None:
    second = add_location(world, "ams")
    made = world.alice.make_monitor(locations=["ams", "local"])
    assert made["locations"] == ["ams", "local"]
    row = stored(world, made)
    assert row["location_ids"][0] == second
    assert [vote["health"] for vote in votes_of(world, made)] == [0, 0]
    assert row["check_from"].microsecond % 1000 == 0
    assert abs((row["check_from"] - row["created_at"]).total_seconds()) < 60


def test_every_write_hints_the_scheduler(world: World) -> None:
    made = world.alice.make_monitor()
    writes = [
        world.alice.make_monitor,
        lambda: world.alice.patch(f"/v1/monitors/{made['id']}", json={"name": "New"}),
        lambda: world.alice.post(f"/v1/monitors/{made['id']}/pause"),
        lambda: world.alice.post(f"/v1/monitors/{made['id']}/resume"),
        lambda: world.alice.put("/v1/monitors/by-key/k", json=MONITOR),
        lambda: world.alice.delete(f"/v1/monitors/{made['id']}"),
    ]
    ears = Listener(world.databases.worker, ("tocsin_monitors",))
    ears.wait(0.01)
    for number, write in enumerate(writes):
        write()
        assert ears.wait(60) == [("tocsin_monitors", "")], number


MERGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"name": "New"}, {"name": "New"}),
    ({"interval_seconds": None}, {"interval_seconds": 30}),  # null: the default
    ({"interval_seconds": 5}, {"interval_seconds": 5, "timeout_seconds": 4}),
    ({"labels": {"a": None, "c": "3"}}, {"labels": {"b": "2", "c": "3"}}),  # objects merge
    ({"assertions": []}, {"assertions": []}),  # lists replace
    ({"http": {"method": "POST"}}, {"http": {**FULL["http"], "method": "POST", "headers": {"X-A": "1"}}}),
    ({"http": {"headers": {"X-A": None, "X-B": "2"}}}, {"http": {**FULL["http"], "headers": {"X-B": "2"}}}),
    ({"http": None}, {"http": FULL["http"]}),
]


def test_patch_is_json_merge_patch(world: World) -> None:
    for patch, expected in MERGES:
        made = world.alice.make_monitor(
            interval_seconds=60, timeout_seconds=4, labels={"a": "1", "b": "2"}, assertions=FULL["assertions"],
            http={"headers": {"X-A": "1"}},
        )  # fmt: skip
        changed = world.alice.patch(
            f"/v1/monitors/{made['id']}", json=patch, headers={"Content-Type": "application/merge-patch+json"}
        )
        assert changed.status_code == 200, changed.text
        after = changed.get_json()
        assert after == {**made, **expected, "config_version": 2, "updated_at": after["updated_at"]}, patch


def test_a_patch_that_makes_fields_disagree_is_refused_and_changes_nothing(world: World) -> None:
    made = world.alice.make_monitor()
    bad = world.alice.patch(f"/v1/monitors/{made['id']}", json={"interval_seconds": 2})
    assert bad.status_code == 400
    assert bad.get_json()["details"] == [{"field": "timeout_seconds", "message": "must not exceed interval_seconds"}]
    assert world.alice.get(f"/v1/monitors/{made['id']}").get_json() == made


#: (patch, whether what was counted before says nothing any more)
RESETS: list[tuple[dict[str, Any], bool]] = [
    ({"name": "Other"}, False),
    ({"severity": "info"}, False),
    ({"interval_seconds": 90}, False),
    ({"target": "http://192.0.2.8/"}, True),
    ({"type": "tcp", "target": "192.0.2.8:80"}, True),
    ({"assertions": [{"source": "status", "op": "eq", "value": 204}]}, True),
    ({"http": {"method": "HEAD"}}, True),
    ({"http": {"headers": {"X": {"secret": "s"}}}}, True),
]


def test_only_changes_of_what_is_checked_reset_the_votes(world: World) -> None:
    for patch, reset in RESETS:
        made = world.alice.make_monitor()
        incident = world.open_incident(made)
        assert world.alice.patch(f"/v1/monitors/{made['id']}", json=patch).status_code == 200
        vote = votes_of(world, made)[0]
        assert (vote["health"], vote["down"], vote["config_floor"]) == ((0, 0, 2) if reset else (3, 2, 0)), patch
        assert world.alice.get(f"/v1/incidents/{incident}").get_json()["status"] == "open"


def test_a_changed_interval_checks_at_once_and_a_changed_name_does_not(world: World) -> None:
    made = world.alice.make_monitor()
    before = stored(world, made)["check_from"]
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"name": "Other"})
    assert stored(world, made)["check_from"] == before
    time.sleep(0.01)
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"interval_seconds": 45})
    after = stored(world, made)["check_from"]
    assert after > before
    assert after.microsecond % 1000 == 0


def test_changed_locations_have_exactly_their_votes(world: World) -> None:
    ams = add_location(world, "ams")
    made = world.alice.make_monitor()
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"locations": ["ams", "local"], "quorum": 2})
    assert len(votes_of(world, made)) == 2
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"locations": ["ams"], "quorum": None})
    assert [vote["location"] for vote in votes_of(world, made)] == [ams]


def test_an_unknown_location_is_refused_with_the_known_ones(world: World) -> None:
    add_location(world, "ams")
    bad = world.alice.post("/v1/monitors", json={**MONITOR, "locations": ["local", "mars"]})
    assert bad.status_code == 400
    assert bad.get_json()["details"] == [{"field": "locations.1", "message": "unknown; there are: ams, local"}]


def test_put_by_key_creates_then_replaces_and_is_idempotent(world: World) -> None:
    path = "/v1/monitors/by-key/shop"
    first = world.alice.put(path, json={**MONITOR, "interval_seconds": 60, "labels": {"a": "1"}})
    again = world.alice.put(path, json={**MONITOR, "interval_seconds": 60, "labels": {"a": "1"}})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.get_json() == first.get_json()
    assert first.get_json()["key"] == "shop"
    replaced = world.alice.put(path, json=MONITOR).get_json()
    assert (replaced["id"], replaced["interval_seconds"], replaced["labels"]) == (first.get_json()["id"], 30, {})
    assert replaced["config_version"] == 2


def test_upserts_at_the_same_time_make_one_monitor(world: World) -> None:
    def upsert(number: int) -> int:
        client = world.client.application.test_client()
        method, path = ("PUT", "/v1/monitors/by-key/shop") if number % 2 else ("POST", "/v1/monitors")
        body = {**MONITOR, "key": "shop", "name": f"m{number}"}
        return client.open(path, method=method, json=body, headers=world.alice.headers).status_code

    with ThreadPoolExecutor(6) as threads:
        codes = list(threads.map(upsert, range(6)))
    assert codes.count(201) == 1, codes
    assert set(codes) <= {200, 201, 409}, codes
    assert len(world.rows("SELECT 1 FROM monitors")) == 1


def test_a_key_belongs_to_its_organization_and_is_free_again_after_deletion(world: World) -> None:
    made = world.alice.make_monitor(key="shop")
    assert world.charlie.make_monitor(key="shop")["id"] != made["id"]
    taken = world.alice.post("/v1/monitors", json={**MONITOR, "key": "shop"})
    assert (taken.status_code, taken.get_json()["code"]) == (409, "KEY_TAKEN")
    world.alice.delete(f"/v1/monitors/{made['id']}")
    assert world.alice.make_monitor(key="shop")["id"] != made["id"]


def test_a_key_can_be_given_later_but_never_changes(world: World) -> None:
    world.alice.make_monitor(key="taken")
    made = world.alice.make_monitor()
    path = f"/v1/monitors/{made['id']}"
    assert world.alice.patch(path, json={"key": "taken"}).status_code == 409
    assert world.alice.patch(path, json={"key": "mine"}).get_json()["key"] == "mine"
    for other in ("yours", None):
        refused = world.alice.patch(path, json={"key": other})
        assert (refused.status_code, refused.get_json()["details"][0]["field"]) == (400, "key")


def test_secret_headers_are_sealed_and_read_back_as_null(world: World) -> None:
    made = world.alice.make_monitor(http={"headers": {"Authorization": {"secret": "canary-1"}, "X-Plain": "seen"}})
    assert made["http"]["headers"] == {"Authorization": None, "X-Plain": "seen"}
    row = stored(world, made)
    assert "canary-1" not in repr(row)
    vault = Vault(world.services.settings.encryption_keys.get_secret_value())
    owner = f"monitor:{world.org_a}:{made['id']}"
    assert vault.open(owner, row["secrets"]) == {"http.headers.Authorization": "canary-1"}
    assert row["options"]["headers"] == {"Authorization": None, "X-Plain": "seen"}


#: (patch, whether the secret header is still there)
KEEPS: list[tuple[dict[str, Any], bool]] = [
    ({"name": "New"}, True),  # absent
    ({"http": {"headers": {"Authorization": None}}}, True),  # as it was read
    ({"http": {"headers": {"X-Plain": None}}}, True),
    ({"http": {"headers": None}}, False),
    ({"http": None}, False),
]


def test_a_patch_keeps_secrets_that_it_does_not_name(world: World) -> None:
    for patch, kept in KEEPS:
        made = world.alice.make_monitor(http={"headers": {"Authorization": {"secret": "s"}, "X-Plain": "seen"}})
        changed = world.alice.patch(f"/v1/monitors/{made['id']}", json=patch).get_json()
        assert ("Authorization" in changed["http"]["headers"]) is kept, patch
        assert (stored(world, made)["secrets"] is not None) is kept, patch


def test_a_null_header_without_a_stored_secret_is_refused(world: World) -> None:
    bad = world.alice.post("/v1/monitors", json={**MONITOR, "http": {"headers": {"X": None}}})
    assert (bad.status_code, bad.get_json()["details"][0]["field"]) == (400, "http.headers.X")


def test_secrets_whose_key_is_gone_do_not_lock_the_monitor_up(world: World) -> None:
    made = world.alice.make_monitor(http={"headers": {"A": {"secret": "s"}}})
    world.execute("UPDATE monitors SET secrets = 'gone'")
    path = f"/v1/monitors/{made['id']}"
    assert world.alice.get(path).status_code == 200
    assert world.alice.post(f"{path}/pause").status_code == 200
    assert world.alice.patch(path, json={"name": "New"}).status_code == 400
    assert world.alice.patch(path, json={"http": {"headers": {"A": {"secret": "new"}}}}).status_code == 200


def test_pause_resolves_the_incident_and_resume_checks_at_once(world: World) -> None:
    made = world.alice.make_monitor()
    incident = world.open_incident(made)
    path = f"/v1/monitors/{made['id']}"
    paused = world.alice.post(f"{path}/pause").get_json()
    assert (paused["enabled"], paused["state"]["status"], paused["config_version"]) == (False, "paused", 2)
    closed = world.alice.get(f"/v1/incidents/{incident}").get_json()
    assert (closed["status"], closed["cause"]["reason"]) == ("resolved", "paused")
    assert world.rows("SELECT type FROM outbox ORDER BY id")[-1]["type"] == "resolved"
    assert world.alice.post(f"{path}/pause").get_json() == paused
    before = stored(world, made)["check_from"]
    resumed = world.alice.post(f"{path}/resume").get_json()
    assert (resumed["enabled"], resumed["state"]["status"], resumed["config_version"]) == (True, "pending", 3)
    assert stored(world, made)["check_from"] > before
    assert votes_of(world, made)[0]["config_floor"] == 2


def test_enabled_in_a_patch_is_the_same_as_pause(world: World) -> None:
    made = world.alice.make_monitor()
    incident = world.open_incident(made)
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"enabled": False})
    assert world.alice.get(f"/v1/incidents/{incident}").get_json()["status"] == "resolved"


def test_delete_resolves_the_incident_and_hides_the_monitor(world: World) -> None:
    made = world.alice.make_monitor()
    incident = world.open_incident(made)
    assert world.alice.delete(f"/v1/monitors/{made['id']}").status_code == 204
    closed = world.alice.get(f"/v1/incidents/{incident}").get_json()
    assert (closed["status"], closed["cause"]["reason"]) == ("resolved", "deleted")
    for call in (world.alice.get, world.alice.delete):
        assert call(f"/v1/monitors/{made['id']}").status_code == 404
    assert world.alice.get("/v1/monitors").get_json()["data"] == []


#: (enabled, health, vote's columns) → what people see
STATES: list[tuple[int, dict[str, Any], dict[str, Any]]] = [
    (0, {}, {"status": "pending", "latency_ms": None, "reason": None}),
    (1, {"last_verdict": 1, "latency_ms": 41.2}, {"status": "up", "latency_ms": 41.2, "reason": None}),
    (2, {"last_verdict": 2, "reason": 53, "latency_ms": 900}, {"status": "degraded", "reason": "latency_exceeded"}),
    (3, {"last_verdict": 3, "reason": 20}, {"status": "down", "latency_ms": None, "reason": "connect_refused"}),
    (3, {"last_verdict": 0, "reason": 20}, {"status": "unknown", "reason": None}),  # our own fault just now
    (1, {"last_verdict": 3, "reason": 20}, {"status": "up", "reason": None}),  # failing, not yet for long enough
]


def test_the_state_is_what_the_votes_say(world: World) -> None:
    for health, vote, expected in STATES:
        made = world.alice.make_monitor()
        world.execute("UPDATE monitor_states SET health = %(health)s", health=health)
        if vote:
            set_vote(world, made, last_slot=from_ms(1_700_000_000_123), **vote)
        state = world.alice.get(f"/v1/monitors/{made['id']}").get_json()["state"]
        assert {name: state[name] for name in expected} == expected
        assert state["last_check_at"] == ("2023-11-14T22:13:20.123000+00:00" if vote else None)


def test_check_now_puts_one_manual_check_into_the_urgent_queue(world: World) -> None:
    made = world.alice.make_monitor()
    answer = world.alice.post(f"/v1/monitors/{made['id']}/check", headers={"X-Request-ID": "abc"})
    assert answer.status_code == 202
    body = answer.get_json()
    assert set(body) == {"check_id", "scheduled_at"}
    row = stored(world, made)
    broker = world.services.broker
    messages = broker.client.hgetall(f"{broker.namespace}:{queue_name(Lane.URGENT, 'local')}.msgs")
    (raw,) = messages.values()
    batch = decode_batch(json.loads(raw)["args"][0])
    (check,) = batch.checks
    assert (batch.id, check.monitor_no, check.config_version, check.kind) == ("abc", row["monitor_no"], 1, Kind.MANUAL)
    assert from_ms(check.scheduled_at_ms).isoformat() == body["scheduled_at"]
    assert body["check_id"] == check_id(made["id"], row["location_ids"][0], check.scheduled_at_ms)
    assert len(body["check_id"]) == 32


def test_a_paused_monitor_is_not_checked_by_hand(world: World) -> None:
    made = world.alice.make_monitor(enabled=False)
    assert made["state"]["status"] == "paused"
    refused = world.alice.post(f"/v1/monitors/{made['id']}/check")
    assert (refused.status_code, refused.get_json()["code"]) == (409, "MONITOR_PAUSED")


def test_a_parent_must_be_ours_and_not_below(world: World) -> None:
    top = world.alice.make_monitor()
    foreign = world.charlie.make_monitor()
    child = world.alice.make_monitor(parent_id=top["id"])
    assert child["parent_id"] == top["id"]
    for path, parent in ((top["id"], child["id"]), (top["id"], top["id"]), (child["id"], foreign["id"])):
        refused = world.alice.patch(f"/v1/monitors/{path}", json={"parent_id": parent})
        assert (refused.status_code, refused.get_json()["details"][0]["field"]) == (400, "parent_id")


def meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has read what stands above a monitor waits for a second one who has; alone, not for long."""
    both, ancestry = threading.Barrier(2), monitor_sets.ancestry

    def read(connection: Connection, **keys: Any) -> dict[str, str | None]:
        found = ancestry(connection, **keys)
        with suppress(threading.BrokenBarrierError):
            both.wait(1)
        return found

    monkeypatch.setattr(monitor_sets, "ancestry", read)


@pytest.mark.parametrize("way", ["patch", "put", "apply"])
def test_two_changes_at_once_make_no_loop_of_parents(world: World, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    ids = [world.alice.make_monitor(key=key)["id"] for key in ("a", "b")]
    wanted = [{**MONITOR, "key": key, "parent_id": above} for key, above in zip("ab", reversed(ids), strict=True)]
    plans = [world.alice.post("/v1/monitors/plan", json={"monitors": [one]}).get_json() for one in wanted]
    meeting(monkeypatch)

    def change(which: int) -> int:
        body: dict[str, Any] = wanted[which]
        method, path = {
            "patch": ("PATCH", f"/v1/monitors/{ids[which]}"),
            "put": ("PUT", f"/v1/monitors/by-key/{body['key']}"),
            "apply": ("POST", "/v1/monitors/apply"),
        }[way]
        if way == "apply":
            body = {"monitors": [body], "fingerprint": plans[which]["fingerprint"]}
        client = world.client.application.test_client()
        return client.open(path, method=method, json=body, headers=world.alice.headers).status_code

    with ThreadPoolExecutor(2) as threads:
        codes = sorted(threads.map(change, range(2)))
    assert codes == [200, 400], codes
    assert world.rows("SELECT count(parent_id) AS parents FROM monitors") == [{"parents": 1}]


def test_only_another_parent_of_a_monitor_that_is_there_waits_for_others(world: World) -> None:
    top = world.alice.make_monitor()
    child = world.alice.make_monitor(key="a", parent_id=top["id"])
    with counted(world.services.database) as sent:
        world.alice.patch(f"/v1/monitors/{child['id']}", json={"name": "Renamed"})
        world.alice.put("/v1/monitors/by-key/a", json={**MONITOR, "parent_id": top["id"]})
        world.alice.make_monitor(parent_id=child["id"])
    assert [statement for statement in sent if "/parents" in statement] == []
    with counted(world.services.database) as sent:
        world.alice.patch(f"/v1/monitors/{top['id']}", json={"parent_id": world.alice.make_monitor()["id"]})
    assert len([statement for statement in sent if "/parents" in statement]) == 1


def test_pages_hold_everything_once_even_while_rows_are_added(world: World) -> None:
    old = [world.alice.make_monitor(name=f"m{number}")["id"] for number in range(7)]
    seen: list[str] = []
    path = "/v1/monitors?limit=3"
    while path:
        response = world.alice.get(path)
        page = response.get_json()
        seen.extend(item["id"] for item in page["data"])
        world.alice.make_monitor(name="new")
        link = response.headers.get("Link")
        assert (link is None) == (page["next_cursor"] is None)
        path = link.split(">", 1)[0].lstrip("<") if link else ""
        if path:
            assert urlsplit(path).path == "/v1/monitors"
            assert "limit=3" in path
    assert seen == old[::-1]


def test_results_are_listed_newest_first_over_all_locations(world: World) -> None:
    ams = add_location(world, "ams")
    made = world.alice.make_monitor(locations=["local", "ams"])
    row = stored(world, made)
    local = row["location_ids"][0]
    now_ms = int(row["created_at"].timestamp() * 1000)
    for number in range(5):
        for location in (local, ams):
            add_result(world, row["monitor_no"], location, now_ms - number * 1000, verdict=3 if number == 2 else 1)
    seen = []
    path = f"/v1/monitors/{made['id']}/results?limit=3"
    while path:
        response = world.bob.get(path)
        seen.extend(response.get_json()["data"])
        path = response.headers["Link"].split(">", 1)[0].lstrip("<") if "Link" in response.headers else ""
    assert len(seen) == 10
    assert seen == sorted(seen, key=lambda item: item["scheduled_at"], reverse=True)
    assert {(item["scheduled_at"], item["location"]) for item in seen} == {
        (from_ms(now_ms - number * 1000).isoformat(), name) for number in range(5) for name in ("local", "ams")
    }
    down = world.bob.get(f"/v1/monitors/{made['id']}/results?verdict=down,unknown&limit=1").get_json()
    assert down["next_cursor"] is not None
    assert down["data"] == [
        {
            "scheduled_at": from_ms(now_ms - 2000).isoformat(), "location": "ams", "verdict": "down",
            "reason": "status_mismatch", "message": "expected status 200-299, got 500", "latency_ms": 12.5,
            "phases": {"dns_ms": None, "connect_ms": 1, "tls_ms": None, "ttfb_ms": 10, "total_ms": 12.5},
            "status_code": 500, "failed_assertion": {"source": "status"},
            "trace_id": check_id(made["id"], ams, now_ms - 2000),
        }
    ]  # fmt: skip


def add_result(world: World, monitor_no: int, location: int, at_ms: int, *, verdict: int) -> None:
    at = from_ms(at_ms)
    with world.databases.worker.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO results VALUES (%(at)s, %(no)s, 1, -1, 1, -1, 10, 12.5, %(location)s, %(reason)s, %(code)s,"
            " %(verdict)s, '0')",
            {"at": at, "no": monitor_no, "location": location, "verdict": str(verdict),
             "reason": 50 if verdict == 3 else 0, "code": 500 if verdict == 3 else 200},
        )  # fmt: skip
        if verdict == 3:
            connection.exec_driver_sql(
                "INSERT INTO result_details VALUES (%(at)s, %(no)s, %(location)s, 'expected status 200-299, got 500',"
                """ '{"source": "status"}')""",
                {"at": at, "no": monitor_no, "location": location},
            )


#: (patch of a monitor that has a stored secret header, its status): a secret can be written, never sent elsewhere.
RETARGETED = [
    ({"target": "http://192.0.2.7/other"}, 200),  # the same origin
    ({"target": "http://192.0.2.8/health"}, 400),  # another host would receive it
    ({"target": "http://192.0.2.7:81/health"}, 400),  # so would another port
    ({"target": "https://192.0.2.7/health"}, 400),  # and another scheme
    (
        {"target": "http://192.0.2.8/health", "http": {"headers": {"Authorization": {"secret": "new"}}}},
        200,
    ),  # sent again
    ({"target": "http://192.0.2.8/health", "http": {"headers": None}}, 200),  # removed
]


def test_stored_secrets_do_not_follow_a_monitor_to_another_origin(world: World) -> None:
    for patch, status in RETARGETED:
        made = world.alice.make_monitor(http={"headers": {"Authorization": {"secret": "s"}}})
        answer = world.alice.patch(f"/v1/monitors/{made['id']}", json=patch)
        assert answer.status_code == status, (patch, answer.get_json())
