"""Plan, apply and export: what is planned is what is done, all or nothing, and what is exported plans to nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from common.store import monitor_plans
from tests import api_cast
from tests.api_cast import MONITOR, Person, World
from tests.stack import wait_until
from tests.statements import counted

world = api_cast.world

CANARY = "canary-7f3a"


def desired(key: str, **fields: Any) -> dict[str, Any]:
    return {**MONITOR, "key": key, **fields}


def plan(person: Person, monitors: list[Any], **more: Any) -> dict[str, Any]:
    answer = person.post("/v1/monitors/plan", json={"monitors": monitors, **more})
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def apply(person: Person, monitors: list[Any], fingerprint: str = "", headers: Any = None, **more: Any) -> Any:
    fingerprint = fingerprint or plan(person, monitors, **more)["fingerprint"]
    body = {"monitors": monitors, "fingerprint": fingerprint, **more}
    return person.post("/v1/monitors/apply", json=body, headers=headers or {})


def export(person: Person, query: str = "") -> bytes:
    answer = person.get(f"/v1/monitors/export{query}")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert int(answer.headers["Content-Length"]) == len(answer.get_data())
    return answer.get_data()


def summary(**counts: int) -> dict[str, int]:
    return {"create": 0, "update": 0, "delete": 0, "unchanged": 0, **counts}


def actions(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["action"], change["key"]) for change in document["changes"]]


def by_key(world: World, key: str) -> dict[str, Any]:
    found = world.alice.get("/v1/monitors", query_string={"q": key, "limit": 500}).get_json()["data"]
    return next(one for one in found if one["key"] == key)


def test_what_is_planned_is_done_and_then_there_is_nothing_to_do(world: World) -> None:
    stays = world.alice.make_monitor(key="stays", labels={"team": "shop"})
    changes = world.alice.make_monitor(key="changes", labels={"team": "shop", "tier": "1"}, severity="info")
    goes = world.alice.make_monitor(key="goes")
    keyless = world.alice.make_monitor(name="keyless")
    wanted = [
        desired("new", interval_seconds=60),
        desired("changes", labels={"team": "web", "tier": "1"}, interval_seconds=45),
        desired("stays", labels={"team": "shop"}),
    ]
    planned = plan(world.alice, wanted, prune=True)
    assert planned["summary"] == summary(create=1, update=1, delete=1, unchanged=1)
    assert planned["changes"] == [
        {
            "action": "update", "key": "changes", "id": changes["id"], "name": "Shop",
            "differences": [
                {"field": "interval_seconds", "from": 30, "to": 45},
                {"field": "labels.team", "from": "shop", "to": "web"},
                {"field": "severity", "from": "info", "to": "error"},
            ],
        },
        {"action": "delete", "key": "goes", "id": goes["id"], "name": "Shop", "differences": []},
        {"action": "create", "key": "new", "id": None, "name": "Shop", "differences": []},
    ]  # fmt: skip
    assert planned["drift"] == []
    assert len(world.rows("SELECT id FROM monitors")) == 4  # nothing is done yet
    done = apply(world.alice, wanted, planned["fingerprint"], prune=True)
    assert (done.status_code, done.get_json()) == (200, planned)
    again = plan(world.alice, wanted, prune=True)
    assert (again["summary"], again["changes"], again["drift"]) == (summary(unchanged=3), [], [])
    assert apply(world.alice, wanted, prune=True).get_json()["summary"] == summary(unchanged=3)
    assert world.alice.get(f"/v1/monitors/{goes['id']}").status_code == 404
    for untouched in (stays, keyless):
        assert world.alice.get(f"/v1/monitors/{untouched['id']}").get_json() == untouched
    changed = world.alice.get(f"/v1/monitors/{changes['id']}").get_json()
    assert (changed["interval_seconds"], changed["config_version"]) == (45, 2)


def test_without_prune_others_stay_and_are_not_mentioned(world: World) -> None:
    world.alice.make_monitor(key="other")
    assert plan(world.alice, [])["summary"] == summary()
    assert actions(plan(world.alice, [desired("a")])) == [("create", "a")]
    assert actions(plan(world.alice, [desired("a")], prune=True)) == [("create", "a"), ("delete", "other")]
    assert apply(world.alice, [], prune=True).get_json()["summary"] == summary(delete=1)


def test_labels_say_who_may_be_deleted_and_what_all_have_to_carry(world: World) -> None:
    world.alice.make_monitor(key="mine", labels={"team": "shop", "n": "1"})
    world.alice.make_monitor(key="theirs", labels={"team": "web"})
    world.alice.make_monitor(key="nobodys")
    scope = {"labels": {"team": "shop"}, "prune": True}
    assert actions(plan(world.alice, [], **scope)) == [("delete", "mine")]
    # A monitor that gets the labels by this plan is taken over.
    wanted = [desired("nobodys", labels={"team": "shop"})]
    assert actions(plan(world.alice, wanted, **scope)) == [("delete", "mine"), ("update", "nobodys")]
    wrong = [desired("a", labels={"team": "web"}), desired("b", labels={"team": "shop"}), desired("c")]
    for path in ("plan", "apply"):
        body = {"monitors": wrong, "fingerprint": "sha256:" + "0" * 64, **scope}
        if path == "plan":
            del body["fingerprint"]
        answer = world.alice.post(f"/v1/monitors/{path}", json=body)
        fields = [detail["field"] for detail in answer.get_json()["details"]]
        assert (answer.status_code, fields) == (400, ["monitors.0.labels", "monitors.2.labels"])


#: What happens between plan and apply of [a: changed, b: new] with prune: is the plan stale then?
MEANWHILE = {
    "nothing": (lambda _world, _ids: None, False),
    "a bystander was made": (lambda world, _ids: world.alice.make_monitor(name="bystander"), False),
    "another organization's": (lambda world, _ids: world.charlie.make_monitor(key="b"), False),
    "the one was changed": (
        lambda world, ids: world.alice.patch(f"/v1/monitors/{ids['a']}", json={"name": "x"}), True,
    ),
    "it was changed to what is wanted": (
        lambda world, ids: world.alice.patch(f"/v1/monitors/{ids['a']}", json={"severity": "critical"}), True,
    ),
    "it was paused": (lambda world, ids: world.alice.post(f"/v1/monitors/{ids['a']}/pause"), True),
    "it was deleted": (lambda world, ids: world.alice.delete(f"/v1/monitors/{ids['a']}"), True),
    "the new key was taken": (lambda world, _ids: world.alice.make_monitor(key="b"), True),
    "the doomed was changed": (
        lambda world, ids: world.alice.patch(f"/v1/monitors/{ids['c']}", json={"name": "x"}), True,
    ),
    "another was doomed": (lambda world, _ids: world.alice.make_monitor(key="d"), True),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANWHILE)
def test_a_plan_is_stale_when_something_else_would_be_done(world: World, case: str) -> None:
    meanwhile, stale = MEANWHILE[case]
    ids = {key: world.alice.make_monitor(key=key)["id"] for key in ("a", "c")}
    wanted = [desired("a", severity="critical"), desired("b")]
    fingerprint = plan(world.alice, wanted, prune=True)["fingerprint"]
    meanwhile(world, ids)
    before = world.rows("SELECT id, config_version, deleted_at, applied_version FROM monitors ORDER BY id")
    answer = apply(world.alice, wanted, fingerprint, prune=True)
    if not stale:
        assert answer.status_code == 200, answer.text
        return
    assert (answer.status_code, answer.get_json()["code"]) == (412, "PLAN_STALE")
    assert world.rows("SELECT id, config_version, deleted_at, applied_version FROM monitors ORDER BY id") == before


def test_another_request_than_the_planned_one_is_stale(world: World) -> None:
    fingerprint = plan(world.alice, [desired("a")])["fingerprint"]
    for other in ([desired("a", name="Other")], [desired("b")], [desired("a"), desired("b")], []):
        assert apply(world.alice, other, fingerprint).status_code == 412
    assert apply(world.alice, [desired("a")], fingerprint, prune=True).status_code == 412
    theirs = plan(world.charlie, [desired("a")])["fingerprint"]
    assert apply(world.alice, [desired("a")], theirs).status_code == 412
    assert apply(world.alice, [desired("a")], "sha256:x").status_code == 400
    assert apply(world.alice, [desired("a")], fingerprint).status_code == 200


def test_a_key_that_is_taken_at_the_last_moment_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    drifted = monitor_plans.drifted

    def late(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(monitor_plans, "drifted", drifted)
        other = Person(world.client.application.test_client())
        other.headers = world.alice.headers
        assert other.post("/v1/monitors", json=desired("b")).status_code == 201
        return drifted(*arguments, **more)

    wanted = [desired("a"), desired("b"), desired("c")]
    fingerprint = plan(world.alice, wanted)["fingerprint"]
    monkeypatch.setattr(monitor_plans, "drifted", late)
    assert apply(world.alice, wanted, fingerprint).get_json()["code"] == "PLAN_STALE"
    assert [row["key"] for row in world.rows("SELECT key FROM monitors")] == ["b"]


def test_what_comes_while_an_apply_waits_for_its_locks_makes_the_plan_stale(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not locked, and to lock it then would be out of order: even where nothing would be done about it."""
    lock = monitor_plans.lock

    def late(*arguments: Any, **more: Any) -> set[str]:
        locked = lock(*arguments, **more)
        other = Person(world.client.application.test_client())
        other.headers = world.alice.headers
        other.make_monitor(key="late")
        return locked

    world.alice.make_monitor(key="a")
    for wanted, scope in (([desired("a"), desired("late")], {}), ([desired("a")], {"prune": True})):
        made = world.alice.make_monitor(key="late")
        fingerprint = plan(world.alice, wanted, **scope)["fingerprint"]
        assert world.alice.delete(f"/v1/monitors/{made['id']}").status_code == 204
        with monkeypatch.context() as patched:
            patched.setattr(monitor_plans, "lock", late)
            answer = apply(world.alice, wanted, fingerprint, **scope)
        assert (answer.status_code, answer.get_json()["code"]) == (412, "PLAN_STALE")
        late_one = by_key(world, "late")
        assert world.alice.delete(f"/v1/monitors/{late_one['id']}").status_code == 204


SERVING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tocsin api'"


def test_applies_and_all_that_changes_the_same_monitors_wait_for_each_other_in_one_order(world: World) -> None:
    odd = [desired(f"k{number:03d}") for number in range(1, 200, 2)]
    even = [desired(f"k{number:03d}") for number in range(0, 200, 2)]
    everything = sorted([*odd, *even], key=lambda one: one["key"])
    made = world.alice.post("/v1/monitors/bulk", json={"monitors": everything}).get_json()["results"]
    ids = [one["monitor"]["id"] for one in made]
    ends = time.monotonic() + 4

    def again(send: Callable[[Person, int], TestResponse]) -> list[int]:
        person, statuses = Person(world.client.application.test_client()), []
        person.headers = world.alice.headers
        while time.monotonic() < ends or len(statuses) < 2:
            statuses.append(send(person, len(statuses)).status_code)
        return statuses

    def applied(wanted: list[dict[str, Any]]) -> Callable[[Person, int], TestResponse]:
        # Of a plan that is always stale: it locks what it would change and what it would delete, and leaves all there.
        return lambda person, _n: apply(person, wanted, "sha256:" + "0" * 64, prune=True)

    senders = [
        applied(odd),
        applied(even),
        lambda person, n: person.post("/v1/monitors/" + ("pause", "resume")[n % 2], json={"ids": ids}),
        lambda person, n: person.post("/v1/monitors/" + ("resume", "pause")[n % 2], json={"ids": ids}),
        lambda person, n: person.patch(f"/v1/monitors/{ids[n % 200]}", json={"name": f"n{n}"}),
    ]
    with ThreadPoolExecutor(len(senders)) as threads:
        statuses = list(threads.map(again, senders))
    assert [set(some) for some in statuses] == [{412}, {412}, {200}, {200}, {200}]
    world.services.database.dispose()  # a server process says what it met at its end, at the latest
    wait_until(lambda: not world.rows(SERVING), 60, "the end of those that served us")
    (met,) = world.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert met["deadlocks"] == 0


def test_drift_is_what_was_changed_since_the_last_apply(world: World) -> None:
    wanted = [desired("a", labels={"team": "shop"}), desired("b", labels={"team": "web"})]
    apply(world.alice, wanted)
    before = by_key(world, "a")
    assert plan(world.alice, wanted)["drift"] == []
    world.alice.make_monitor(key="never-applied")
    world.alice.patch(f"/v1/monitors/{before['id']}", json={"severity": "info"})
    after = by_key(world, "a")
    (drift,) = plan(world.alice, wanted)["drift"]
    assert drift == {
        "id": before["id"], "key": "a", "name": "Shop", "applied_version": 1, "config_version": 2,
        "updated_at": after["updated_at"],
    }  # fmt: skip
    scoped = plan(world.alice, [wanted[1]], labels={"team": "web"})
    assert scoped["drift"] == []
    done = apply(world.alice, wanted).get_json()
    assert (done["summary"], len(done["drift"])) == (summary(update=1, unchanged=1), 1)
    assert plan(world.alice, wanted)["drift"] == []
    # Changed by hand to what is then written into the set: adopted, without another version.
    world.alice.patch(f"/v1/monitors/{before['id']}", json={"severity": "critical"})
    adopted = [{**wanted[0], "severity": "critical"}, wanted[1]]
    shown = by_key(world, "a")
    assert apply(world.alice, adopted).get_json()["summary"] == summary(unchanged=2)
    assert plan(world.alice, adopted)["drift"] == []
    assert by_key(world, "a") == shown  # not even updated_at


def test_secrets_are_compared_kept_and_never_shown(world: World) -> None:
    def with_header(value: Any, **fields: Any) -> list[dict[str, Any]]:
        return [desired("a", http={"headers": {"Authorization": value, "X": "open"}}, **fields)]

    assert apply(world.alice, with_header({"secret": CANARY})).status_code == 200
    for same in ({"secret": CANARY}, {"secret": None}, None):
        assert plan(world.alice, with_header(same))["summary"] == summary(unchanged=1), same
    other = plan(world.alice, with_header({"secret": CANARY + "2"}))
    assert other["changes"][0]["differences"] == [
        {"field": "http.headers.Authorization", "from": {"secret": None}, "to": {"secret": None}}
    ]
    opened = plan(world.alice, with_header("open"))
    assert opened["changes"][0]["differences"] == [
        {"field": "http.headers.Authorization", "from": {"secret": None}, "to": "open"}
    ]
    renamed = apply(world.alice, with_header({"secret": None}, name="Renamed"))
    assert renamed.get_json()["summary"] == summary(update=1)
    assert plan(world.alice, with_header({"secret": CANARY}, name="Renamed"))["summary"] == summary(unchanged=1)
    patched = {"http": {"headers": {"Authorization": {"secret": None}}}}
    assert world.alice.patch(f"/v1/monitors/{by_key(world, 'a')['id']}", json=patched).status_code == 200
    assert plan(world.alice, with_header({"secret": CANARY}, name="Renamed"))["summary"] == summary(unchanged=1)
    shown = [json.dumps(other), renamed.text, export(world.alice).decode(), repr(world.rows("SELECT * FROM audit_log"))]
    assert all(CANARY not in text for text in shown)
    # None is stored under that name, nor for a new monitor; and a stored one does not go to another origin.
    for refused, field in (
        ([desired("a", http={"headers": {"Other": {"secret": None}}})], "monitors.0.http.headers.Other"),
        ([desired("n"), desired("b", http={"headers": {"A": {"secret": None}}})], "monitors.1.http.headers.A"),
        (with_header({"secret": None}, target="https://elsewhere.example/"), "monitors.0.http.headers.Authorization"),
    ):
        answer = world.alice.post("/v1/monitors/plan", json={"monitors": refused})
        assert (answer.status_code, [d["field"] for d in answer.get_json()["details"]]) == (400, [field]), answer.text


def test_two_secrets_do_not_share_a_fingerprint(world: World) -> None:
    fingerprints = {
        plan(world.alice, [desired("a", http={"headers": {"A": {"secret": secret}}})])["fingerprint"]
        for secret in ("one", "two")
    }
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    ("monitors", "field"),
    [
        ([MONITOR], "monitors.0.key"),
        ([desired("a"), desired("a", name="b")], "monitors.1.key"),
        ([desired("a"), {"key": "b"}], "monitors.1.name"),
        (["x"], "monitors.0"),
        ([desired("a", locations=["mars"])], "monitors.0.locations.0"),
        ([desired("a", parent_id="00000000-0000-0000-0000-000000000000")], "monitors.0.parent_id"),
        ([MONITOR] * 10_001, "monitors"),
    ],
)
def test_a_set_that_is_wrong_is_refused_with_its_place(world: World, monitors: list[Any], field: str) -> None:
    answer = world.alice.post("/v1/monitors/plan", json={"monitors": monitors})
    assert answer.status_code == 400
    assert field in {detail["field"] for detail in answer.get_json()["details"]}


def test_parents_may_change_places_but_never_stand_above_themselves(world: World) -> None:
    top, low = world.alice.make_monitor(key="top"), None
    low = world.alice.make_monitor(key="low", parent_id=top["id"])
    swapped = [desired("top", parent_id=low["id"]), desired("low")]
    assert apply(world.alice, swapped).get_json()["summary"] == summary(update=2)
    assert (by_key(world, "top")["parent_id"], by_key(world, "low")["parent_id"]) == (low["id"], None)
    loop = [desired("top", parent_id=low["id"]), desired("low", parent_id=top["id"])]
    answer = world.alice.post("/v1/monitors/plan", json={"monitors": loop})
    assert answer.status_code == 400
    assert {detail["field"] for detail in answer.get_json()["details"]} == {
        "monitors.0.parent_id", "monitors.1.parent_id",
    }  # fmt: skip


def test_a_child_whose_parent_is_gone_can_be_changed_and_exported(world: World) -> None:
    parent = world.alice.make_monitor()
    child = world.alice.make_monitor(key="child", parent_id=parent["id"])
    world.alice.delete(f"/v1/monitors/{parent['id']}")
    assert world.alice.patch(f"/v1/monitors/{child['id']}", json={"severity": "info"}).status_code == 200
    exported = json.loads(export(world.alice))["monitors"]
    assert exported[0]["parent_id"] == parent["id"]
    assert plan(world.alice, exported)["summary"] == summary(unchanged=1)
    answer = world.alice.post("/v1/monitors", json={**MONITOR, "parent_id": parent["id"]})
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, "parent_id")


def test_an_apply_does_to_each_what_a_change_alone_does(world: World) -> None:
    """Pause resolves the incident, another target resets the votes, a deletion resolves and frees the key."""
    made = {key: world.alice.make_monitor(key=key) for key in ("paused", "moved", "gone")}
    incidents = {key: world.open_incident(monitor) for key, monitor in made.items()}
    wanted = [desired("paused", enabled=False), desired("moved", target="http://192.0.2.8/")]
    assert apply(world.alice, wanted, prune=True).get_json()["summary"] == summary(update=2, delete=1)
    ends = {key: world.alice.get(f"/v1/incidents/{id_}").get_json() for key, id_ in incidents.items()}
    assert {key: (end["status"], end["cause"]["reason"]) for key, end in ends.items()} == {
        "paused": ("resolved", "paused"), "moved": ("open", "timeout"), "gone": ("resolved", "deleted"),
    }  # fmt: skip
    votes = world.rows(
        "SELECT m.key, v.down, v.config_floor FROM votes v JOIN monitors m USING (monitor_no) ORDER BY m.key"
    )
    assert [tuple(row.values()) for row in votes] == [("gone", 0, 2), ("moved", 0, 2), ("paused", 0, 2)]
    entries = world.alice.get("/v1/audit-log?action=apply_monitors").get_json()["data"]
    assert sorted((entry["resource_id"], entry["after"] is None) for entry in entries) == sorted(
        (monitor["id"], key == "gone") for key, monitor in made.items()
    )
    world.alice.make_monitor(key="gone")


def test_a_repeated_apply_is_answered_again(world: World) -> None:
    wanted, key = [desired("a")], {"Idempotency-Key": "a-1"}
    fingerprint = plan(world.alice, wanted)["fingerprint"]
    first = apply(world.alice, wanted, fingerprint, key)
    second = apply(world.alice, wanted, fingerprint, key)
    assert (second.status_code, second.headers["Idempotency-Replayed"]) == (200, "true")
    assert second.get_json() == first.get_json()
    assert apply(world.alice, wanted, fingerprint).status_code == 412  # without the key it is another request


def test_an_export_holds_what_a_person_would_write(world: World) -> None:
    world.alice.make_monitor(key="plain")
    world.alice.make_monitor(
        key="full", name="Full", target="https://shop.example/", type="http", interval_seconds=5, timeout_seconds=2.5,
        labels={"tier": "1", "team": "shop"}, severity="critical", enabled=False,
        http={"method": "POST", "headers": {"X-B": "b", "Authorization": {"secret": CANARY}}},
        assertions=[{"source": "status", "op": "eq", "value": 201, "on_fail": "down"}],
    )  # fmt: skip
    keyless = world.alice.make_monitor(name="No key")
    assert json.loads(export(world.alice)) == {
        "monitors": [
            {
                "key": "full", "name": "Full", "type": "http", "target": "https://shop.example/", "interval_seconds": 5,
                "timeout_seconds": 2.5, "severity": "critical", "labels": {"team": "shop", "tier": "1"},
                "enabled": False,
                "http": {"method": "POST", "headers": {"Authorization": {"secret": None}, "X-B": "b"}},
                "assertions": [{"source": "status", "op": "eq", "value": 201}],
            },
            {"key": "plain", "name": "Shop", "type": "http", "target": "http://192.0.2.7/health"},
        ],
        "without_key": [{"id": keyless["id"], "name": "No key"}],
    }  # fmt: skip
    (only,) = json.loads(export(world.alice, "?label=team:shop&label=tier:1"))["monitors"]
    assert only["key"] == "full"
    assert json.loads(export(world.charlie)) == {"monitors": [], "without_key": []}
    assert world.alice.get("/v1/monitors/export?label=team").status_code == 400


KEYS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10)
SETTINGS = st.fixed_dictionaries(
    {
        "name": TEXT.filter(lambda text: text.strip() != ""),
        "type": st.just("http"),
        "target": st.sampled_from(["https://shop.example/", "http://192.0.2.7:8080/x?y=z"]),
    },
    optional={
        "interval_seconds": st.integers(10, 86_400),
        "timeout_seconds": st.floats(0.1, 10, allow_nan=False),
        "failure_threshold": st.integers(1, 100),
        "recovery_threshold": st.integers(1, 100),
        "severity": st.sampled_from(["critical", "error", "warning", "info"]),
        "labels": st.dictionaries(TEXT, TEXT, max_size=3),
        "locations": st.just(["local"]),
        "enabled": st.booleans(),
        "http": st.fixed_dictionaries(
            {},
            optional={
                "method": st.sampled_from(["GET", "HEAD", "POST"]),
                "body": st.none() | TEXT,
                "follow_redirects": st.booleans(),
                "headers": st.dictionaries(
                    st.sampled_from(["Authorization", "X-A", "X.B", "Cookie"]),
                    HEADER | st.builds(lambda text: {"secret": text}, HEADER),
                    max_size=3,
                ),
            },
        ),
        "assertions": st.lists(
            st.sampled_from(
                [
                    {"source": "status", "op": "in", "value": ["200-299"]},
                    {"source": "body", "op": "contains", "value": "ok", "on_fail": "degraded"},
                    {"source": "header", "op": "eq", "name": "X", "value": "y", "on_fail": "down"},
                    {"source": "latency_ms", "op": "lt", "value": 800.5},
                ]
            ),
            max_size=3,
        ),
    },
)


#: How long examples take to be made says something about the machine alone.
UNWATCHED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=40, deadline=None, suppress_health_check=UNWATCHED)
@given(wanted=st.dictionaries(KEYS, SETTINGS, max_size=6))
def test_whatever_is_exported_is_the_same_bytes_again_and_plans_to_nothing(
    world: World, wanted: dict[str, dict[str, Any]]
) -> None:
    monitors = [{**monitor, "key": key} for key, monitor in wanted.items()]
    applied = apply(world.alice, monitors, prune=True)
    assert applied.status_code == 200, applied.text
    first = export(world.alice)
    assert export(world.alice) == first
    exported = json.loads(first)["monitors"]
    assert [one["key"] for one in exported] == sorted(wanted)
    for same in (exported, monitors, exported[::-1]):
        found = plan(world.alice, same, prune=True)
        assert (found["summary"], found["changes"]) == (summary(unchanged=len(wanted)), [])
    assert apply(world.alice, exported, prune=True).status_code == 200
    assert export(world.alice) == first


def test_a_thousand_are_planned_and_applied_in_as_many_statements_as_three(world: World) -> None:
    sent: dict[int, int] = {}
    for number in (3, 1_000):
        wanted = [desired(f"n{number}-{index}", labels={"n": str(number)}) for index in range(number)]
        scope = {"labels": {"n": str(number)}, "prune": True}
        for step in ("create", "update", "delete"):
            asked = {"create": wanted, "update": [{**one, "name": "x"} for one in wanted], "delete": []}[step]
            fingerprint = plan(world.alice, asked, **scope)["fingerprint"]
            began = time.perf_counter()
            with counted(world.services.database) as statements:
                done = apply(world.alice, asked, fingerprint, **scope)
            took_ms = (time.perf_counter() - began) * 1000
            print(f"{step} {number}: {took_ms:.0f} ms, {len(statements)} statements")
            assert done.get_json()["summary"][step] == number
            assert sent.setdefault(step, len(statements)) == len(statements), statements  # type: ignore[call-overload]
    assert max(sent.values()) <= 22, sent


def test_an_export_reads_in_pieces_and_in_one_snapshot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_plans, "_AT_ONCE", 10)
    apply(world.alice, [desired(f"k{index:02d}") for index in range(35)])
    with counted(world.services.database) as sent:
        exported = json.loads(export(world.alice))["monitors"]
    assert [one["key"] for one in exported] == [f"k{index:02d}" for index in range(35)]
    assert len(sent) == 2
