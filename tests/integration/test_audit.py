"""The audit log: every change leaves a row, in its transaction, that nobody can take back and that holds no secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.exc import ProgrammingError

from api.app import ROUTES
from common.store import audit_log
from common.store import monitors as stored_monitors
from scheduler import app
from tests import api_cast
from tests.api_cast import CHANNEL, MONITOR, PASSWORD, Person, World
from tests.integration.test_api_channels import add_notification

world = api_cast.world

CANARY = "canary-7f3a"


def log(world: World, person: Person | None = None, **filters: str) -> list[dict[str, Any]]:
    response = (person or world.alice).get("/v1/audit-log", query_string=filters)
    assert response.status_code == 200, response.text
    return response.get_json()["data"]


def silence(world: World) -> str:
    body = {"matchers": [{"label": "team", "op": "=", "value": "shop"}], "duration_seconds": 60}
    return str(world.alice.post("/v1/silences", json=body).get_json()["id"])


def window(world: World) -> str:
    return str(world.alice.post("/v1/maintenance", json=MAINTENANCE).get_json()["id"])


def route(world: World) -> str:
    body = {"name": "r", "channel_ids": [world.alice.make_channel()["id"]]}
    return str(world.alice.post("/v1/routes", json=body).get_json()["id"])


def invite(world: World) -> str:
    return str(world.alice.post("/v1/invites", json={"email": "dora@example.com"}).get_json()["id"])


def api_key(world: World) -> str:
    return str(world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()["id"])


def monitor(world: World) -> str:
    return str(world.alice.make_monitor()["id"])


def planned(world: World) -> str:
    return str(world.alice.make_monitor(key="planned")["id"])


def channel(world: World) -> str:
    return str(world.alice.make_channel()["id"])


def heartbeat(world: World) -> str:
    return str(world.alice.make_monitor(type="heartbeat", target="")["id"])


def paused(world: World) -> str:
    id_ = monitor(world)
    world.alice.post(f"/v1/monitors/{id_}/pause")
    return id_


def dead(world: World) -> str:
    return add_notification(world, world.open_incident(world.alice.make_monitor()), channel(world))


def bob(world: World) -> str:
    return world.users["bob"]


def alice(world: World) -> str:
    return world.users["alice"]


def charlie(world: World) -> str:
    return world.users["charlie"]


def organization(world: World) -> str:
    return world.org_a


def incident(world: World) -> str:
    return world.open_incident(world.alice.make_monitor())


@dataclass(frozen=True)
class Change:
    """How to do it: what has to be there before, who does it with which body. `noted`: no document changes.

    A body that is a function is made from the id of what is there.
    """

    kind: str
    body: Any = None
    of: Callable[[World], str] | None = None
    sender: str = "alice"
    noted: bool = False
    added: bool = False  # something new to what is there


def made_by(answer: dict[str, Any]) -> str:
    """The id of what was made, singly or in bulk."""
    return str(answer["id"] if "id" in answer else answer["results"][0]["monitor"]["id"])


MAINTENANCE = {"name": "m", "matchers": [{"label": "team", "op": "=", "value": "shop"}], "duration_seconds": 60}
SILENCE = {"matchers": [{"label": "team", "op": "=", "value": "shop"}], "duration_seconds": 60}
PASSWORDS = {"current": PASSWORD, "new": "another correct horse"}

#: {operation: how to do it}; the test fails for one that is not here.
CHANGES = {
    "create_monitor": Change("monitor", MONITOR),
    "put_monitor": Change("monitor", MONITOR),
    "change_monitor": Change("monitor", {"name": "Renamed"}, monitor),
    "pause_monitor": Change("monitor", None, monitor),
    "resume_monitor": Change("monitor", None, paused),
    "delete_monitor": Change("monitor", None, monitor),
    "create_monitors": Change("monitor", {"monitors": [MONITOR]}),
    "pause_monitors": Change("monitor", lambda id_: {"ids": [id_]}, monitor),
    "resume_monitors": Change("monitor", lambda id_: {"ids": [id_]}, paused),
    "apply_monitors": Change("monitor", {"monitors": [{**MONITOR, "key": "planned", "name": "Renamed"}]}, planned),
    "renew_heartbeat": Change("monitor", None, heartbeat),
    "create_channel": Change("channel", CHANNEL),
    "change_channel": Change("channel", {"name": "Renamed"}, channel),
    "delete_channel": Change("channel", None, channel),
    "create_api_key": Change("api_key", {"name": "ci"}),
    "delete_api_key": Change("api_key", None, api_key),
    "create_organization": Change("organization", {"name": "C"}, sender="operator"),
    "change_organization": Change("organization", {"name": "Renamed"}, organization, sender="operator"),
    "change_own_organization": Change("organization", {"name": "Ours"}, organization),
    "create_route": Change("route", {"name": "r"}),
    "change_route": Change("route", {"name": "Renamed"}, route),
    "delete_route": Change("route", None, route),
    "create_silence": Change("silence", SILENCE),
    "change_silence": Change("silence", {"comment": "longer than thought"}, silence),
    "delete_silence": Change("silence", None, silence),
    "create_maintenance": Change("maintenance", MAINTENANCE),
    "change_maintenance": Change("maintenance", {"comment": "longer than thought"}, window),
    "end_maintenance": Change("maintenance", None, window, noted=True),
    "delete_maintenance": Change("maintenance", None, window),
    "create_invite": Change("invite", {"email": "emil@example.com"}),
    "delete_invite": Change("invite", None, invite),
    "redeliver_notification": Change("notification", None, dead),
    "redeliver_notifications": Change("notification", {}, dead),
    "create_incident": Change("incident", {"title": "by hand"}),
    "change_incident": Change("incident", {"title": "Renamed"}, incident),
    "set_incident_status": Change("incident", {"status": "acknowledged"}, incident),
    "acknowledge_incidents": Change("incident", lambda id_: {"ids": [id_]}, incident),
    "comment_incident": Change("comment", {"body": "looking"}, incident, added=True),
    "change_password": Change("user", PASSWORDS, alice, noted=True),
    "logout_everywhere": Change("user", None, charlie, sender="charlie", noted=True),
    "change_membership": Change("membership", {"role": "editor"}, bob),
    "delete_membership": Change("membership", None, bob),
}


def test_every_change_leaves_a_row_of_who_what_and_which(world: World) -> None:
    operator = world.operator()
    channels = [world.alice.make_channel()["id"]]
    audited = {route.operation_id: route for route in ROUTES if route.audited}
    assert set(audited) <= set(CHANGES), "say in CHANGES how to do it"
    for name, route in audited.items():
        change = CHANGES[name]
        existing = change.of(world) if change.of else None
        path = "/".join(existing if part.startswith("<") and existing else part for part in route.path.split("/"))
        body = change.body(existing) if callable(change.body) else change.body
        body = {**body, "channel_ids": channels} if name == "create_route" else body
        if name == "apply_monitors":
            body = {**body, "fingerprint": world.alice.post("/v1/monitors/plan", json=body).get_json()["fingerprint"]}
        sender = operator if change.sender == "operator" else getattr(world, change.sender)
        response = sender.call(
            route.method, path.replace("<key>", "by-key-1"), headers={"X-Request-ID": f"of-{name}"},
            **({} if body is None else {"json": body}),
        )  # fmt: skip
        assert response.status_code in (200, 201, 202, 204), (name, response.text)
        rows = world.rows("SELECT * FROM audit_log WHERE request_id = %(id)s", id=f"of-{name}")
        assert [(row["action"], row["resource_type"]) for row in rows] == [(name, change.kind)], name
        (row,) = rows
        new = existing is None or change.added
        assert row["resource_id"] == (made_by(response.get_json()) if new else existing), name
        assert row["address"] == "127.0.0.1"
        if sender is operator:
            assert row["actor"].startswith("platform-key:"), name
        else:
            assert row["actor"] == f"user:{world.users[change.sender]}", name
        if not change.noted:
            gone = route.method == "DELETE"
            assert (row["before"] is None, row["after"] is None) == (new, gone), name


def test_before_and_after_are_what_the_api_shows(world: World) -> None:
    made = world.alice.make_monitor(labels={"team": "shop"})
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"interval_seconds": 60})
    world.alice.delete(f"/v1/monitors/{made['id']}")
    deleted, changed, created = log(world, resource_id=made["id"])
    assert created["before"] is None
    assert created["after"]["labels"] == {"team": "shop"}
    assert created["after"].items() <= made.items()
    assert (changed["before"]["interval_seconds"], changed["after"]["interval_seconds"]) == (30, 60)
    assert (deleted["before"]["interval_seconds"], deleted["after"]) == (60, None)


def test_what_changes_nothing_is_no_change(world: World) -> None:
    made = world.alice.make_monitor()
    for _ in range(2):
        assert world.alice.post(f"/v1/monitors/{made['id']}/resume").status_code == 200
        assert world.alice.patch(f"/v1/monitors/{made['id']}", json={"name": made["name"]}).status_code == 200
    assert [entry["action"] for entry in log(world)] == ["create_monitor"]


def test_a_change_of_nothing_but_a_secret_is_a_change(world: World) -> None:
    made = world.alice.make_monitor(http={"headers": {"A": {"secret": "one"}}})
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"http": {"headers": {"A": {"secret": "two"}}}})
    changed = log(world)[0]
    assert changed["action"] == "change_monitor"
    assert changed["before"]["config_version"] < changed["after"]["config_version"]


def test_no_secret_gets_into_the_log(world: World) -> None:
    made = world.alice.make_monitor(http={"headers": {"A": {"secret": CANARY}}})
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"http": {"headers": {"A": {"secret": CANARY + "2"}}}})
    webhook = world.alice.make_channel()
    slack = {"name": "s", "type": "slack", "config": {"url": f"https://hooks.slack.com/services/{CANARY}"}}
    assert world.alice.post("/v1/channels", json=slack).status_code == 201
    pager = {"name": "p", "type": "pagerduty", "config": {"routing_key": CANARY.ljust(32, "0")}}
    assert world.alice.post("/v1/channels", json=pager).status_code == 201
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()["key"]
    tenant = world.operator().post("/v1/organizations", json={"name": "C"}).get_json()["api_key"]
    stored = repr(world.rows("SELECT * FROM audit_log"))
    assert len(world.rows("SELECT id FROM audit_log")) == 7
    for secret in (CANARY, webhook["secret"], key.rpartition("_")[2], tenant.rpartition("_")[2]):
        assert secret not in stored


def test_a_change_that_fails_leaves_no_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_arguments: Any) -> None:
        raise RuntimeError("after the row was written")

    monkeypatch.setattr(audit_log, "_values", explode)
    assert world.alice.post("/v1/monitors", json=MONITOR).status_code == 500
    assert world.rows("SELECT id FROM monitors") == []
    monkeypatch.undo()
    assert world.alice.post("/v1/monitors", json={**MONITOR, "locations": ["mars"]}).status_code == 400
    monkeypatch.setattr(stored_monitors, "get", explode)
    assert world.alice.post("/v1/monitors", json=MONITOR).status_code == 500
    assert world.rows("SELECT id FROM audit_log") == []


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"])
def test_the_api_can_only_add_to_it(world: World, statement: str) -> None:
    world.alice.make_monitor()
    with pytest.raises(ProgrammingError, match="permission denied"), world.databases.api.begin(world.org_a) as api:
        api.exec_driver_sql(statement)
    if statement.startswith("UPDATE"):
        with pytest.raises(ProgrammingError, match="permission denied"), world.databases.worker.begin() as worker:
            worker.exec_driver_sql(statement)
    assert len(log(world)) == 1


def test_admins_read_their_own_organization_and_nobody_else_does(world: World) -> None:
    world.alice.make_monitor()
    assert (len(log(world)), log(world, world.charlie)) == (1, [])
    assert world.bob.get("/v1/audit-log").status_code == 403
    assert world.nobody.get("/v1/audit-log").status_code == 401
    for role, status in (("editor", 403), ("admin", 200)):
        token = world.alice.post("/v1/api-keys", json={"name": role, "role": role}).get_json()["key"]
        assert world.person(token).get("/v1/audit-log").status_code == status
    assert world.operator().get("/v1/audit-log").status_code == 403


def test_it_is_filtered_by_actor_action_thing_and_time(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()
    machine = world.person(key["key"])
    shop, other = world.alice.make_monitor(), machine.make_monitor()
    world.alice.patch(f"/v1/monitors/{other['id']}", json={"name": "Other"})
    world.execute("UPDATE audit_log SET at = at - interval '1 day' WHERE resource_id = %(id)s", id=shop["id"])
    alice = f"user:{world.users['alice']}"
    cases: list[tuple[dict[str, str], int]] = [
        ({}, 4),
        ({"actor": alice}, 3),
        ({"actor": f"api-key:{key['id']}"}, 1),
        ({"action": "create_monitor"}, 2),
        ({"action": "create_monitor,change_monitor"}, 3),
        ({"resource_type": "api_key"}, 1),
        ({"resource_type": "monitor", "resource_id": other["id"]}, 2),
        ({"resource_id": "nothing"}, 0),
        ({"actor": alice, "action": "change_monitor", "resource_id": other["id"]}, 1),
    ]
    for filters, expected in cases:
        assert len(log(world, **filters)) == expected, filters
    moment = world.rows("SELECT now() - interval '1 hour' AS at")[0]["at"].isoformat()
    assert len(log(world, since=moment)) == 3
    assert [entry["resource_id"] for entry in log(world, until=moment)] == [shop["id"]]
    for wrong in ("since=yesterday", "since=2026-01-01T00:00:00", "colour=red", "actor=", "cursor=x"):
        assert world.alice.get(f"/v1/audit-log?{wrong}").status_code == 400, wrong


def test_its_pages_follow_each_other(world: World) -> None:
    for number in range(5):
        world.alice.make_monitor(name=f"m{number}")
    first = world.alice.get("/v1/audit-log?limit=3&action=create_monitor")
    page = first.get_json()
    second = world.alice.get(first.headers["Link"].partition(">")[0].lstrip("<")).get_json()
    names = [entry["after"]["name"] for entry in page["data"] + second["data"]]
    assert (names, second["next_cursor"]) == (["m4", "m3", "m2", "m1", "m0"], None)


def test_entries_are_kept_for_four_hundred_days(world: World) -> None:
    for days in (399, 401):
        made = world.alice.make_monitor()
        world.execute(
            "UPDATE audit_log SET at = now() - %(days)s * interval '1 day' WHERE resource_id = %(id)s",
            days=days, id=made["id"],
        )  # fmt: skip
    with world.databases.worker.begin() as connection:
        assert audit_log.forget(connection) == 1
    assert len(log(world)) == 1


def test_the_scheduler_forgets_what_is_past_its_time(world: World) -> None:
    world.alice.post("/v1/monitors", json=MONITOR, headers={"Idempotency-Key": "k"})
    assert app._forget_requests(world.databases.worker) is False
    world.execute("UPDATE audit_log SET at = now() - interval '401 days'")
    world.execute("UPDATE idempotency_keys SET expires_at = now()")
    assert app._forget_requests(world.databases.worker) is True
    assert app._forget_requests(world.databases.worker) is False
    assert world.rows("SELECT id FROM audit_log UNION ALL SELECT id FROM idempotency_keys") == []


def test_a_row_is_not_written_for_another_organization(world: World) -> None:
    entry = audit_log.Entry(world.org_b, "user:x", "x", "monitor", "1", None, {}, "r", "a")
    with pytest.raises(ProgrammingError, match="row-level security"), world.databases.api.begin(world.org_a) as api:
        audit_log.add(api, [entry])
