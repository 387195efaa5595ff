"""Every route, asked by everybody: each role in person and by key, keys with one scope, the operator, and nobody.

Driven by the routes' own data: a route that is added is walked, and one whose ids or body nobody gave fails here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from api.app import ROUTES
from api.permissions import OPERATOR, PERMISSIONS, PERSONAL, ROLES, SCOPES, allows, covers, permissions_of
from api.routing import Route
from tests import api_cast
from tests.api_cast import Person, World
from tests.identity_cast import add_member
from tests.integration.test_api_auth import BODIES
from tools import permission_table

world = api_cast.world

CLOSED = [route for route in ROUTES if route.permission is not None]
_PART = re.compile(r"<([a-z_]+)>")


def path_of(route: Route, ids: dict[str, str] | None = None) -> str:
    """Its path with these ids, or with such as nobody has."""
    return _PART.sub(
        lambda part: (ids or {}).get(part[1]) or (str(uuid4()) if part[1].endswith("_id") else "k"), route.path
    )


def key_of(world: World, role: str, scopes: list[str] | None = None) -> Person:
    made = world.alice.post("/v1/api-keys", json={"name": "walker", "role": role, "scopes": scopes})
    assert made.status_code == 201, made.text
    return world.person(made.get_json()["key"])


def walk(person: Any) -> Iterator[tuple[Route, int]]:
    """Every closed route with an id that nobody has and no body: allowed is whatever is neither 401 nor 403."""
    for route in CLOSED:
        who = person() if callable(person) else person
        yield route, who.call(route.method, path_of(route)).status_code


def test_the_permission_table_is_complete_and_used() -> None:
    assert {route.permission for route in CLOSED} == set(PERMISSIONS)
    assert set(SCOPES) | PERSONAL | {name for name, roles in PERMISSIONS.items() if roles == {OPERATOR}} == set(
        PERMISSIONS
    )


def test_a_mightier_role_may_whatever_a_lesser_one_may() -> None:
    for higher, lower in pairwise(ROLES):
        assert covers(higher, lower) and not covers(lower, higher)
        assert set(permissions_of(lower)) < set(permissions_of(higher)) or (higher, lower) == ("owner", "admin")


@pytest.mark.parametrize("role", ROLES)
def test_a_person_may_what_the_role_may(world: World, role: str) -> None:
    add_member(world, "walker", role)

    def fresh() -> Person:
        # One of the routes ends every session.
        return world.person(api_cast.session(world, "walker", "a"))

    for route, status in walk(fresh):
        allowed = allows(role, str(route.permission))
        assert (status not in (401, 403)) is allowed, (route.operation_id, status)
        assert allowed or status == 403, (route.operation_id, status)


@pytest.mark.parametrize("role", ROLES)
def test_a_key_may_what_its_role_may_except_what_is_personal(world: World, role: str) -> None:
    key = key_of(world, role)
    for route, status in walk(key):
        allowed = allows(role, str(route.permission)) and route.permission not in PERSONAL
        assert (status not in (401, 403)) is allowed, (route.operation_id, status)
        assert allowed or status == 403, (route.operation_id, status)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_with_one_scope_may_that_and_nothing_else(world: World, scope: str) -> None:
    key = key_of(world, "owner", [scope])
    for route, status in walk(key):
        assert (status != 403) is (route.permission == scope), (route.operation_id, status)
        assert status != 401, route.operation_id


def test_a_platform_key_may_what_is_the_operators_and_sees_no_organization(world: World) -> None:
    operator = world.operator()
    for route, status in walk(operator):
        assert (status != 403) is allows(OPERATOR, str(route.permission)), (route.operation_id, status)
    assert operator.post("/v1/alerts", json=[]).status_code == 202


def test_nobody_and_whoever_is_out_may_nothing(world: World) -> None:
    gone = add_member(world, "gone", "owner")
    world.execute("DELETE FROM memberships WHERE user_id = %(id)s", id=world.users["gone"])
    revoked = world.alice.post("/v1/api-keys", json={"name": "revoked", "role": "owner"}).get_json()
    assert world.alice.delete(f"/v1/api-keys/{revoked['id']}").status_code == 204
    for who in (world.nobody, gone, world.person(revoked["key"]), world.person("tcsp_unknown_key")):
        for route, status in walk(who):
            assert status == 401, (route.operation_id, status)


def test_what_a_caller_may_not_is_refused_before_its_body_is_read(world: World) -> None:
    for route in CLOSED:
        if not allows("viewer", str(route.permission)) and route.method != "GET":
            answer = world.bob.call(route.method, path_of(route), data=b"{not json", content_type="application/json")
            assert answer.status_code == 403, route.operation_id


def furnish(world: World) -> dict[str, str]:
    """One of everything that a path can name, in alice's organization."""
    from tests.integration.test_api_tenants import furnish as furnish_more

    invite = world.alice.post("/v1/invites", json={"email": "invited@example.com"}).get_json()
    return {
        "user_id": world.users["bob"],
        "invite_id": invite["id"],
        "organization_id": world.org_a,
        **furnish_more(world),
    }


#: How the answer calls what is not there; by default by the path's last id.
CODES = {"users": "USER", "memberships": "MEMBERSHIP"}


def test_every_id_of_another_organization_is_404_in_every_role_and_changes_nothing(world: World) -> None:
    ids = furnish(world)
    with world.databases.owner.begin() as connection:
        tables = [
            row[0]
            for row in connection.exec_driver_sql(
                "SELECT table_name FROM information_schema.columns WHERE column_name = 'org_id'"
                " AND table_schema = 'public' AND table_name <> 'api_keys'"
            )
        ]
    mine = {table: world.rows(f"SELECT * FROM {table} WHERE org_id = %(org)s", org=world.org_a) for table in tables}
    strangers = {role: add_member(world, f"stranger{role}", role, "b") for role in ROLES}
    walked = set()
    for route in CLOSED:
        names = [name for name in _PART.findall(route.path) if name.endswith("_id")]
        if not names or OPERATOR in PERMISSIONS[str(route.permission)]:
            continue
        missing = [name for name in names if name not in ids]
        assert not missing, f"{route.operation_id}: furnish() makes no {missing}"
        needs_body = ("body" in route.facts or "items" in route.facts) and not route.facts.get("merge")
        assert not needs_body or route.operation_id in BODIES, f"{route.operation_id} has no body in BODIES"
        walked.update(names)
        for role, stranger in strangers.items():
            answer = stranger.call(route.method, path_of(route, ids), json=BODIES.get(route.operation_id, {}))
            wanted = 404 if allows(role, str(route.permission)) else 403
            assert answer.status_code == wanted, (route.operation_id, role, answer.text)
            unknown = stranger.call(route.method, path_of(route), json=BODIES.get(route.operation_id, {}))
            # Nothing tells an id of others from one that nobody has.
            assert _said(unknown) == _said(answer), route.operation_id
    assert walked == set(ids) - {"organization_id"}
    for table in tables:
        assert world.rows(f"SELECT * FROM {table} WHERE org_id = %(org)s", org=world.org_a) == mine[table], table


def _said(answer: Any) -> tuple[int, dict[str, Any]]:
    body = {name: value for name, value in answer.get_json().items() if name != "request_id"}
    return answer.status_code, body


def test_the_operators_key_finds_nothing_of_an_organization_by_its_ids(world: World) -> None:
    ids = furnish(world)
    operator = world.operator()
    for route in CLOSED:
        if "_id>" in route.path and not allows(OPERATOR, str(route.permission)):
            assert operator.call(route.method, path_of(route, ids), json={}).status_code == 403, route.operation_id


@pytest.mark.parametrize(
    ("scopes", "asked", "status"),
    [
        (["api-keys:write"], {"role": "viewer"}, 403),  # a key without scopes would be mightier
        (["api-keys:write"], {"role": "viewer", "scopes": ["monitors:read"]}, 403),
        (["api-keys:write", "monitors:read"], {"role": "viewer", "scopes": ["monitors:read"]}, 201),
        (["api-keys:write", "monitors:read"], {"role": "owner", "scopes": ["monitors:read"]}, 201),
        (["api-keys:write", "monitors:read"], {"role": "editor", "scopes": ["monitors:read", "monitors:write"]}, 403),
        (["api-keys:write"], {"role": "owner", "scopes": ["api-keys:write"]}, 201),
    ],
)
def test_a_key_makes_no_key_that_may_more(world: World, scopes: list[str], asked: dict[str, Any], status: int) -> None:
    key = key_of(world, "owner", scopes)
    assert key.post("/v1/api-keys", json={"name": "x", **asked}).status_code == status


def test_a_key_with_scopes_hands_out_no_role_beyond_them(world: World) -> None:
    key = key_of(world, "owner", ["invites:write", "memberships:write", "api-keys:write"])
    bob = f"/v1/memberships/{world.users['bob']}"
    owners = world.alice.post("/v1/api-keys", json={"name": "x", "role": "owner"}).get_json()
    for answer in (
        key.post("/v1/invites", json={"email": "new@example.com", "role": "viewer"}),
        key.patch(bob, json={"role": "owner"}),
        key.delete(bob),
        key.delete(f"/v1/api-keys/{owners['id']}"),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "viewer", "scopes": ["monitors:write"]}, "scopes.0"),
        ({"role": "editor", "scopes": ["monitors:write", "everything"]}, "scopes.1"),
        ({"role": "owner", "scopes": ["account:write"]}, "scopes.0"),
        ({"role": "owner", "scopes": ["organizations:write"]}, "scopes.0"),
        ({"role": "owner", "scopes": []}, "scopes"),
        ({"role": "owner", "scopes": "monitors:read"}, "scopes"),
        ({"role": "operator"}, "role"),
    ],
)
def test_scopes_are_permissions_that_the_role_has(world: World, body: dict[str, Any], field: str) -> None:
    answer = world.alice.post("/v1/api-keys", json={"name": "x", **body})
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field)


def test_a_key_with_scopes_says_so_and_me_shows_what_is_left(world: World) -> None:
    scopes = ["account:read", "monitors:read"]
    made = world.alice.post("/v1/api-keys", json={"name": "x", "role": "editor", "scopes": scopes}).get_json()
    assert made["scopes"] == scopes
    shown = world.alice.get(f"/v1/api-keys/{made['id']}").get_json()
    assert (shown["scopes"], "key" in shown) == (scopes, False)
    me = world.person(made["key"]).get("/v1/auth/me").get_json()
    assert (me["role"], me["permissions"]) == ("editor", scopes)
    assert [one["id"] for one in me["organizations"]] == [world.org_a]


def test_the_version_before_does_not_take_a_key_with_scopes_for_a_whole_one(world: World) -> None:
    for scopes, found in ((None, 1), (["monitors:read"], 0)):
        made = world.alice.post("/v1/api-keys", json={"name": "x", "scopes": scopes}).get_json()
        with world.databases.api.begin() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM auth_api_key(%(p)s)", {"p": made["prefix"]}).all()
        assert len(rows) == found


def test_the_database_gives_the_api_no_more_than_its_organization(world: World) -> None:
    """The functions beside row-level security each need a secret, an address or an id; tables stay closed."""
    furnish(world)
    with world.databases.api.begin(world.org_b) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM invites").scalar() == 0
        for sql in (
            "UPDATE memberships SET role = 'owner'",
            "UPDATE organizations SET name = 'mine'",
            "UPDATE invites SET role = 'owner'",
        ):
            where = {"UPDATE memberships SET role = 'owner'": f" WHERE org_id = '{world.org_a}'"}.get(sql, "")
            count = connection.exec_driver_sql(f"{sql}{where}").rowcount
            assert count == (1 if "organizations" in sql else 0), sql
    for sql in ("SELECT * FROM password_resets", "SELECT * FROM identities", "UPDATE users SET password_hash = ''"):
        with pytest.raises(Exception, match="permission denied"), world.databases.api.begin(world.org_b) as connection:
            connection.exec_driver_sql(sql)
    into_theirs = f"INSERT INTO memberships VALUES ('{world.org_a}', '{world.users['charlie']}', 'owner')"
    with pytest.raises(Exception, match="row-level security"), world.databases.api.begin(world.org_b) as connection:
        connection.exec_driver_sql(into_theirs)


def test_the_document_of_permissions_is_up_to_date() -> None:
    assert permission_table.PATH.read_text(encoding="utf-8") == permission_table.render(), (
        "run: python -m tools.permission_table"
    )
