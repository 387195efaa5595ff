"""Users, memberships and the organization: who is there, as what, and that somebody always owns it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from common.store import accounts
from tests import api_cast
from tests.api_cast import MONITOR, PASSWORD, World
from tests.identity_cast import NEW_PASSWORD, add_member, at_once

world = api_cast.world


def members(world: World) -> dict[str, str]:
    rows = world.alice.get("/v1/memberships").get_json()["data"]
    return {row["email"].partition("@")[0]: row["role"] for row in rows}


def test_members_see_each_other_and_nobody_else(world: World) -> None:
    listed = world.bob.get("/v1/users").get_json()["data"]
    assert [(user["email"], user["role"], user["enabled"]) for user in listed] == [
        ("bob@example.com", "viewer", True), ("alice@example.com", "owner", True),
    ]  # fmt: skip
    assert "password" not in repr(listed)
    one = world.bob.get(f"/v1/users/{world.users['alice']}").get_json()
    assert one == listed[1]
    foreign = world.bob.get(f"/v1/users/{world.users['charlie']}")
    assert (foreign.status_code, foreign.get_json()["code"]) == (404, "USER_NOT_FOUND")
    first = world.bob.get("/v1/memberships?limit=1").get_json()
    rest = world.bob.get(f"/v1/memberships?limit=1&cursor={first['next_cursor']}").get_json()
    assert [row["user_id"] for row in first["data"] + rest["data"]] == [world.users["bob"], world.users["alice"]]
    assert rest["next_cursor"] is None


def test_a_role_changes_at_once_without_a_new_login(world: World) -> None:
    path = f"/v1/memberships/{world.users['bob']}"
    assert world.bob.post("/v1/monitors", json=MONITOR).status_code == 403
    changed = world.alice.patch(path, json={"role": "editor"})
    assert (changed.status_code, changed.get_json()["role"]) == (200, "editor")
    assert world.bob.post("/v1/monitors", json=MONITOR).status_code == 201
    assert world.alice.patch(path, json={"role": "viewer"}).status_code == 200
    assert world.bob.post("/v1/monitors", json=MONITOR).status_code == 403
    assert world.alice.patch(path, json={"role": "boss"}).status_code == 400
    assert world.alice.patch(path, json={"name": "x", "role": "viewer"}).status_code == 200  # read-only is ignored


def test_a_removed_member_is_out_at_once_and_may_be_somewhere_else(world: World) -> None:
    tokens = world.login("bob")
    world.execute(
        "INSERT INTO memberships VALUES (%(org)s, %(user)s, 'admin')", org=world.org_b, user=world.users["bob"]
    )
    elsewhere = world.person(api_cast.session(world, "bob", "b"))
    assert world.alice.delete(f"/v1/memberships/{world.users['bob']}").status_code == 204
    assert world.bob.get("/v1/monitors").status_code == 401
    assert world.person(tokens["refresh_token"]).post("/v1/auth/refresh").status_code == 401
    assert elsewhere.get("/v1/monitors").status_code == 200
    assert members(world) == {"alice": "owner"}
    again = world.alice.delete(f"/v1/memberships/{world.users['bob']}")
    assert (again.status_code, again.get_json()["code"]) == (404, "MEMBERSHIP_NOT_FOUND")


@pytest.mark.parametrize("way", ["demote", "remove"])
def test_the_last_owner_stays(world: World, way: str) -> None:
    path = f"/v1/memberships/{world.users['alice']}"
    for other in ("admin", "viewer"):
        answer = world.alice.patch(path, json={"role": other}) if way == "demote" else world.alice.delete(path)
        assert (answer.status_code, answer.get_json()["code"]) == (409, "LAST_OWNER")
    assert world.alice.patch(path, json={"role": "owner"}).status_code == 200
    assert members(world)["alice"] == "owner"


@pytest.mark.parametrize("way", ["demote", "remove"])
def test_two_owners_who_end_each_other_at_once_leave_one(world: World, way: str) -> None:
    for number in range(5):
        dora = add_member(world, f"dora{number}", "owner")
        theirs, mine = (f"/v1/memberships/{world.users[name]}" for name in (f"dora{number}", "alice"))
        person = world.person(api_cast.session(world, "alice", "a"))

        def end(who: Any, path: str) -> int:
            client = world.client.application.test_client()
            arguments = {"json": {"role": "viewer"}} if way == "demote" else {}
            method = "PATCH" if way == "demote" else "DELETE"
            return client.open(path, method=method, headers=who.headers, **arguments).status_code

        codes = at_once(partial(end, person, theirs), partial(end, dora, mine))
        owners = [name for name, role in _roles(world).items() if role == "owner"]
        assert len(owners) == 1, codes
        assert min(codes) in (200, 204) and sorted(codes)[1] in (401, 403, 409), codes
        world.execute("DELETE FROM memberships WHERE org_id = %(org)s AND role <> 'nobody'", org=world.org_a)
        world.execute(
            "INSERT INTO memberships VALUES (%(org)s, %(user)s, 'owner')", org=world.org_a, user=world.users["alice"]
        )


def test_of_two_who_demote_each_other_at_once_one_does_though_a_third_owner_stays(world: World) -> None:
    add_member(world, "eve", "owner")
    for number in range(3):
        dora = add_member(world, f"dora{number}", "owner")
        person = world.person(api_cast.session(world, "alice", "a"))

        def demote(who: Any, name: str) -> int:
            client = world.client.application.test_client()
            path = f"/v1/memberships/{world.users[name]}"
            return client.patch(path, json={"role": "viewer"}, headers=who.headers).status_code

        # Whoever comes second was an owner when they came in, and is none when it is their turn.
        codes = at_once(partial(demote, person, f"dora{number}"), partial(demote, dora, "alice"))
        assert sorted(codes) == [200, 403], codes
        world.execute("UPDATE memberships SET role = 'owner' WHERE user_id = %(id)s", id=world.users["alice"])


def _roles(world: World) -> dict[str, str]:
    rows = world.rows("SELECT user_id::text, role FROM memberships WHERE org_id = %(org)s", org=world.org_a)
    return {row["user_id"]: row["role"] for row in rows}


def test_an_admin_rules_up_to_admins_only(world: World) -> None:
    admin = add_member(world, "dora", "admin")
    boss, bob, own = (f"/v1/memberships/{world.users[name]}" for name in ("alice", "bob", "dora"))
    for answer in (
        admin.patch(boss, json={"role": "viewer"}),
        admin.delete(boss),
        admin.patch(bob, json={"role": "owner"}),
        admin.patch(own, json={"role": "owner"}),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "FORBIDDEN")
    assert admin.patch(bob, json={"role": "admin"}).status_code == 200
    assert admin.delete(own).status_code == 204  # who leaves, leaves
    assert members(world) == {"alice": "owner", "bob": "admin"}


def test_the_invitations_of_a_demoted_administrator_are_taken_back(world: World) -> None:
    dora = add_member(world, "dora", "owner")
    tokens = {
        role: dora.post("/v1/invites", json={"email": f"{role}@new.example", "role": role}).get_json()["token"]
        for role in ("owner", "admin", "viewer")
    }
    path = f"/v1/memberships/{world.users['dora']}"
    assert world.alice.patch(path, json={"role": "admin"}).status_code == 200
    still = [row["role"] for row in world.alice.get("/v1/invites").get_json()["data"]]
    assert sorted(still) == ["admin", "viewer"]
    assert world.alice.delete(path).status_code == 204
    assert world.alice.get("/v1/invites").get_json()["data"] == []
    for token in tokens.values():
        assert world.nobody.post("/v1/invites/accept", json={"token": token, "password": PASSWORD}).status_code == 400


def test_the_organization_is_read_by_all_and_renamed_by_administrators(world: World) -> None:
    shown = world.bob.get("/v1/organization").get_json()
    assert (shown["id"], shown["name"], set(shown)) == (world.org_a, "A", {"id", "name", "created_at"})
    assert world.bob.patch("/v1/organization", json={"name": "x"}).status_code == 403
    assert world.alice.patch("/v1/organization", json={"name": "Shop & Söhne"}).get_json()["name"] == "Shop & Söhne"
    assert world.charlie.get("/v1/organization").get_json()["name"] == "B"
    for bad in ({"name": ""}, {"name": "a\nb"}, {"nam": "x"}, {"name": None}):
        assert world.alice.patch("/v1/organization", json=bad).status_code == 400, bad


def test_who_belongs_to_several_organizations_chooses_at_login_and_switches(world: World) -> None:
    world.execute(
        "INSERT INTO memberships VALUES (%(org)s, %(user)s, 'admin')", org=world.org_b, user=world.users["bob"]
    )
    me = world.bob.get("/v1/auth/me").get_json()
    assert [(one["name"], one["role"]) for one in me["organizations"]] == [("A", "viewer"), ("B", "admin")]
    credentials = {"email": "bob@example.com", "password": PASSWORD}

    def log_in(**more: str) -> Any:
        return world.nobody.post("/v1/auth/login", json={**credentials, **more})

    assert world.person(log_in().get_json()["access_token"]).get("/v1/organization").get_json()["name"] == "A"
    there = world.person(log_in(organization_id=world.org_b).get_json()["access_token"])
    assert there.get("/v1/organization").get_json()["name"] == "B"
    stranger = {"organization_id": "00000000-0000-4000-8000-000000000000"}
    assert (log_in(**stranger).status_code, log_in(organization_id="x").status_code) == (404, 400)
    assert log_in(organization_id=world.org_b, password="wrong").status_code == 401
    switched = world.bob.post("/v1/auth/switch", json={"organization_id": world.org_b})
    assert world.person(switched.get_json()["access_token"]).get("/v1/auth/me").get_json()["role"] == "admin"
    assert world.bob.get("/v1/auth/me").get_json()["role"] == "viewer"
    assert world.alice.post("/v1/auth/switch", json={"organization_id": world.org_b}).status_code == 404


def test_a_switch_does_not_lead_into_a_disabled_organization(world: World) -> None:
    world.execute(
        "INSERT INTO memberships VALUES (%(org)s, %(user)s, 'admin')", org=world.org_b, user=world.users["bob"]
    )
    world.execute("UPDATE organizations SET disabled_at = now() WHERE id = %(org)s", org=world.org_b)
    assert world.bob.post("/v1/auth/switch", json={"organization_id": world.org_b}).status_code == 404
    assert len(world.bob.get("/v1/auth/me").get_json()["organizations"]) == 1


def test_what_is_done_to_members_stands_in_the_audit_log_and_no_token_does(world: World) -> None:
    made = world.alice.post("/v1/invites", json={"email": "dora@example.com"}).get_json()
    accept = {"token": made["token"], "password": NEW_PASSWORD}
    assert world.nobody.post("/v1/invites/accept", json=accept).status_code == 201
    bob = f"/v1/memberships/{world.users['bob']}"
    world.alice.patch(bob, json={"role": "editor"})
    world.alice.delete(bob)
    world.alice.patch("/v1/organization", json={"name": "Shop"})
    world.alice.post("/v1/auth/password", json={"current": PASSWORD, "new": NEW_PASSWORD})
    world.alice.post("/v1/auth/logout-all")
    rows = world.rows("SELECT * FROM audit_log ORDER BY at")
    assert [row["action"] for row in rows] == [
        "create_invite", "accept_invite", "change_membership", "delete_membership", "change_own_organization",
        "change_password", "logout_everywhere",
    ]  # fmt: skip
    assert (rows[2]["before"]["role"], rows[2]["after"]["role"], rows[3]["after"]) == ("viewer", "editor", None)
    assert {row["actor"] for row in rows[2:]} == {f"user:{world.users['alice']}"}
    assert rows[1]["actor"] == f"user:{rows[1]['resource_id']}"
    for secret in (made["token"], PASSWORD, NEW_PASSWORD):
        assert secret not in repr(rows)


def test_an_organization_is_removed_with_every_row_of_every_table(world: World) -> None:
    columns = world.rows(
        "SELECT table_name AS t FROM information_schema.columns"
        " WHERE column_name = 'org_id' AND table_schema = 'public'"
    )
    statements = " ".join(accounts._REMOVE)
    assert [row["t"] for row in columns if f"DELETE FROM {row['t']} WHERE" not in statements] == []
    world.alice.post("/v1/invites", json={"email": "dora@example.com"})
    with world.databases.owner.begin() as connection:
        accounts.remove_organization(connection, world.org_a)
    assert [row["email"] for row in world.rows("SELECT email FROM users")] == ["charlie@example.com"]
