"""Who may act: tokens, keys, roles, and how fast a revocation counts."""

from __future__ import annotations

import base64
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from api import auth
from api.app import ROUTES
from common.clock import utc_now
from common.store import accounts
from scheduler.app import _forget_requests
from tests import api_cast
from tests.api_cast import CHANNEL, JWT_KEY, MONITOR, PASSWORD, World

world = api_cast.world

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, JWT_KEY, algorithms=["HS256"], audience="tocsin", issuer="tocsin")


def signed(claims: dict[str, Any], key: Any = JWT_KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def test_a_login_answers_with_both_tokens_and_their_claims(world: World) -> None:
    answer = world.login("alice")
    assert set(answer) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 900)
    claims = claims_of(answer["access_token"])
    assert (claims["sub"], claims["org"], claims["role"]) == (world.users["alice"], world.org_a, "owner")
    assert claims["family"] == claims_of(answer["refresh_token"])["family"]


@pytest.mark.parametrize("email", ["alice@example.com", "unknown@example.com", "ALICE@EXAMPLE.COM"])
def test_a_wrong_password_and_an_unknown_user_look_the_same(world: World, email: str) -> None:
    response = world.nobody.post("/v1/auth/login", json={"email": email, "password": "wrong"})
    assert response.status_code == 401
    assert response.get_json()["code"] == "INVALID_CREDENTIALS"
    assert response.get_json()["message"] == "The address or the password is wrong."


def test_a_login_does_not_care_for_the_case_of_the_address(world: World) -> None:
    answer = world.nobody.post("/v1/auth/login", json={"email": "Alice@Example.com", "password": PASSWORD})
    assert answer.status_code == 200


def test_me_says_who_for_whom_and_what_is_allowed(world: World) -> None:
    me = world.bob.get("/v1/auth/me").get_json()
    assert me["user"] == {"id": world.users["bob"], "email": "bob@example.com", "name": "Bob"}
    assert (me["api_key"], me["organization"]["id"], me["role"]) == (None, world.org_a, "viewer")
    assert "monitors:read" in me["permissions"]
    assert "monitors:write" not in me["permissions"]


def test_a_refresh_token_works_once_and_its_replay_ends_the_whole_session(world: World) -> None:
    first = world.login("alice")
    second = world.person(first["refresh_token"]).post("/v1/auth/refresh").get_json()
    assert set(second) == set(first)
    assert world.person(second["access_token"]).get("/v1/auth/me").status_code == 200
    replay = world.person(first["refresh_token"]).post("/v1/auth/refresh")
    assert replay.status_code == 401
    for token in (first["access_token"], second["access_token"]):
        assert world.person(token).get("/v1/auth/me").status_code == 401
    assert world.person(second["refresh_token"]).post("/v1/auth/refresh").status_code == 401


def test_of_refreshes_at_the_same_time_one_wins_and_the_session_ends(world: World) -> None:
    tokens = world.login("alice")

    def refresh(_number: int) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {tokens['refresh_token']}"}
        response = world.client.application.test_client().post("/v1/auth/refresh", headers=headers)
        return response.status_code, response.get_json().get("access_token", "")

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(refresh, range(4)))
    assert sorted(code for code, _ in answers) == [200, 401, 401, 401]
    assert world.person(max(answers, key=lambda answer: answer[1])[1]).get("/v1/auth/me").status_code == 401


def test_a_replay_leaves_other_sessions_of_the_same_user_alone(world: World) -> None:
    stolen = world.login("alice")["refresh_token"]
    for _ in range(2):
        world.person(stolen).post("/v1/auth/refresh")
    assert world.alice.get("/v1/auth/me").status_code == 200


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_after_logout_no_token_of_the_session_is_good(world: World, which: str) -> None:
    tokens = world.login("alice")
    assert world.person(tokens[which]).post("/v1/auth/logout").status_code == 204
    assert world.person(tokens["access_token"]).get("/v1/auth/me").status_code == 401
    assert world.person(tokens["refresh_token"]).post("/v1/auth/refresh").status_code == 401
    assert world.alice.get("/v1/auth/me").status_code == 200


def test_tokens_that_we_did_not_make_for_this_are_refused(world: World) -> None:
    tokens = world.login("alice")
    claims = claims_of(tokens["access_token"])
    now = int(time.time())
    forged = {
        "no algorithm": signed(claims, "", "none"),
        "a key of somebody else's": signed(claims, "x" * 40),
        "another algorithm": signed(claims, JWT_KEY + "0" * 30, "HS512"),
        "a public key, signed by its owner": signed(claims, RSA_KEY, "RS256"),
        "an algorithm that is none of ours in a header of ours": swapped(claims),
        "no moment of issue": signed({k: v for k, v in claims.items() if k != "iat"}),
        "a moment of issue that is none": signed({**claims, "iat": "yesterday"}),
        "a moment of issue before there were dates": signed({**claims, "iat": -1e18}),
        "a session in another spelling": signed({**claims, "family": f"{{{claims['family']}}}"}),
        "a refresh token": tokens["refresh_token"],
        "expired": signed({**claims, "exp": now - 60}),
        "without an end": signed({k: v for k, v in claims.items() if k != "exp"}),
        "another audience": signed({**claims, "aud": "somebody"}),
        "no audience": signed({k: v for k, v in claims.items() if k != "aud"}),
        "another issuer": signed({**claims, "iss": "somebody"}),
        "no organization": signed({k: v for k, v in claims.items() if k != "org"}),
        "an organization that is no id": signed({**claims, "org": "x"}),
        "an organization of others": signed({**claims, "org": world.org_b}),
        "a session that never was": signed({**claims, "family": world.org_a}),
        "from the future": signed({**claims, "nbf": now + 600}),
        "no token at all": "x.y.z",
        "not even text": "\u00ff\u00fe",
        "a key that is none": "tcs_nothing",
        "a key of nothing": "tcs_",
    }
    for why, token in forged.items():
        response = world.person(token).get("/v1/monitors")
        assert response.status_code == 401, why
        assert response.get_json()["code"] == "UNAUTHORIZED", why
        assert response.headers["WWW-Authenticate"] == "Bearer"
    for header in ("", "Basic YTpi", "Bearer", "Bearer a b", "bearer"):
        assert world.nobody.get("/v1/monitors", headers={"Authorization": header}).status_code == 401, header


def swapped(claims: dict[str, Any]) -> str:
    """Signed with our algorithm, but the header says RS256: who believes it takes our key for a public one."""
    header, body, _ = signed(claims).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "typ": "JWT"}).encode()).decode().rstrip("=")
    mac = hmac.digest(JWT_KEY.encode(), f"{header}.{body}".encode(), "sha256")
    return f"{header}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def test_refresh_tokens_that_we_did_not_make_for_this_are_refused_and_end_nothing(world: World) -> None:
    tokens = world.login("alice")
    claims = claims_of(tokens["refresh_token"])
    for why, token in {
        "no algorithm": signed(claims, "", "none"),
        "a key of somebody else's": signed(claims, "x" * 40),
        "a public key": signed(claims, RSA_KEY, "RS256"),
        "expired": signed({**claims, "exp": int(time.time()) - 60}),
        "another audience": signed({**claims, "aud": "somebody"}),
        "another issuer": signed({**claims, "iss": "somebody"}),
        "no moment of issue": signed({k: v for k, v in claims.items() if k != "iat"}),
        "a moment of issue before there were dates": signed({**claims, "iat": -1e18}),
        "no id": signed({k: v for k, v in claims.items() if k != "jti"}),
        "an id that is none": signed({**claims, "jti": "x"}),
        "an id in another spelling": signed({**claims, "jti": f"urn:uuid:{claims['jti']}"}),
        "an access token": tokens["access_token"],
    }.items():
        assert world.person(token).post("/v1/auth/refresh").status_code == 401, why
    assert world.person(tokens["refresh_token"]).post("/v1/auth/refresh").status_code == 200


def test_refresh_tokens_are_forgotten_a_day_after_their_end_and_no_sooner(world: World) -> None:
    for who, hours in (("alice", 25), ("bob", 23)):
        world.login(who)
        world.execute(
            "UPDATE refresh_tokens SET expires_at = now() - %(hours)s * interval '1 hour' WHERE user_id = %(id)s",
            hours=hours, id=world.users[who],
        )  # fmt: skip
    gone = len(world.rows("SELECT 1 FROM refresh_tokens WHERE user_id = %(id)s", id=world.users["alice"]))
    with world.databases.worker.begin() as connection:
        assert accounts.forget_tokens(connection, limit=1) == 1
        assert accounts.forget_tokens(connection) == gone - 1
    left = {str(row["user_id"]) for row in world.rows("SELECT DISTINCT user_id FROM refresh_tokens")}
    assert world.users["bob"] in left and world.users["alice"] not in left
    world.execute("UPDATE refresh_tokens SET expires_at = now() - interval '2 days'")
    assert _forget_requests(world.databases.worker) is True
    assert world.rows("SELECT 1 FROM refresh_tokens") == []


def test_a_refresh_knows_the_role_of_now(world: World) -> None:
    tokens = world.login("bob")
    world.execute("UPDATE memberships SET role = 'admin' WHERE user_id = %(id)s", id=world.users["bob"])
    renewed = world.person(tokens["refresh_token"]).post("/v1/auth/refresh").get_json()
    assert claims_of(renewed["access_token"])["role"] == "admin"


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM memberships WHERE user_id = %(id)s",
        "UPDATE users SET disabled_at = now() WHERE id = %(id)s",
        "UPDATE organizations o SET disabled_at = now() FROM users u WHERE u.id = %(id)s AND o.name = 'A'",
        "UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = %(id)s",
        "UPDATE refresh_tokens SET expires_at = now() WHERE user_id = %(id)s",
    ],
)
def test_nothing_is_refreshed_for_who_is_out(world: World, sql: str) -> None:
    tokens = world.login("bob")
    world.execute(sql, id=world.users["bob"])
    assert world.person(tokens["refresh_token"]).post("/v1/auth/refresh").status_code == 401


def test_an_access_token_cannot_be_refreshed(world: World) -> None:
    token = world.login("alice")["access_token"]
    assert world.person(token).post("/v1/auth/refresh").status_code == 401
    assert world.person(token).get("/v1/auth/me").status_code == 200


def test_an_expired_access_token_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "ACCESS_LIFETIME", timedelta(seconds=-30))
    assert world.person(world.login("alice")["access_token"]).get("/v1/auth/me").status_code == 401


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("UPDATE memberships SET role = 'viewer' WHERE user_id = %(id)s", 403),
        ("DELETE FROM memberships WHERE user_id = %(id)s", 401),
        ("UPDATE users SET disabled_at = now() WHERE id = %(id)s", 401),
        ("UPDATE users SET tokens_valid_after = clock_timestamp() WHERE id = %(id)s", 401),
        ("UPDATE organizations o SET deleted_at = now() FROM users u WHERE u.id = %(id)s AND o.name = 'A'", 401),
    ],
)
def test_what_an_administrator_changes_counts_at_the_next_request(world: World, sql: str, status: int) -> None:
    assert world.alice.post("/v1/monitors", json=MONITOR).status_code == 201
    world.execute(sql, id=world.users["alice"])
    assert world.alice.post("/v1/monitors", json=MONITOR).status_code == status


def test_a_disabled_user_cannot_log_in(world: World) -> None:
    world.execute("UPDATE users SET disabled_at = now() WHERE id = %(id)s", id=world.users["bob"])
    answer = world.nobody.post("/v1/auth/login", json={"email": "bob@example.com", "password": PASSWORD})
    assert answer.status_code == 401


def test_an_api_key_is_shown_once_works_and_dies_at_once(world: World) -> None:
    made = world.alice.post("/v1/api-keys", json={"name": "ci", "role": "editor"})
    assert made.status_code == 201
    key = made.get_json()
    assert key["key"].startswith(f"tcs_{key['prefix']}_")
    machine = world.person(key["key"])
    me = machine.get("/v1/auth/me").get_json()
    assert (me["user"], me["api_key"], me["role"]) == (
        None, {name: key[name] for name in ("id", "name", "prefix")}, "editor",
    )  # fmt: skip
    assert machine.post("/v1/monitors", json=MONITOR).status_code == 201
    listed = world.alice.get("/v1/api-keys").get_json()["data"]
    assert [item["id"] for item in listed] == [key["id"]]
    assert "key" not in listed[0]
    assert world.alice.delete(f"/v1/api-keys/{key['id']}").status_code == 204
    assert machine.get("/v1/auth/me").status_code == 401
    assert world.alice.get("/v1/api-keys").get_json()["data"] == []
    assert world.alice.delete(f"/v1/api-keys/{key['id']}").status_code == 404


def test_the_secret_of_a_key_is_not_in_the_database(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()
    secret = key["key"].split("_", 2)[2]
    assert secret not in repr(world.rows("SELECT * FROM api_keys"))


def test_a_key_with_the_right_prefix_and_a_wrong_secret_is_refused(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()
    assert world.person(f"tcs_{key['prefix']}_wrong").get("/v1/auth/me").status_code == 401
    assert world.person(f"tcs_{key['prefix']}").get("/v1/auth/me").status_code == 401


def test_an_expired_key_is_refused(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci", "expires_in_days": 1}).get_json()
    assert world.person(key["key"]).get("/v1/auth/me").status_code == 200
    world.execute("UPDATE api_keys SET expires_at = %(at)s", at=utc_now() - timedelta(seconds=1))
    assert world.person(key["key"]).get("/v1/auth/me").status_code == 401


def test_the_last_use_of_a_key_is_written_down_once_a_minute(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()
    machine = world.person(key["key"])
    machine.get("/v1/auth/me")
    first = world.rows("SELECT last_used_at, xmin::text FROM api_keys")
    machine.get("/v1/auth/me")
    assert world.rows("SELECT last_used_at, xmin::text FROM api_keys") == first
    assert first[0]["last_used_at"] is not None


def test_nobody_hands_out_or_revokes_more_than_they_are(world: World) -> None:
    admin_key = world.alice.post("/v1/api-keys", json={"name": "admin", "role": "admin"}).get_json()
    owner_key = world.alice.post("/v1/api-keys", json={"name": "owner", "role": "owner"}).get_json()
    admin = world.person(admin_key["key"])
    assert admin.post("/v1/api-keys", json={"name": "x", "role": "owner"}).status_code == 403
    assert admin.post("/v1/api-keys", json={"name": "x", "role": "admin"}).status_code == 201
    assert admin.delete(f"/v1/api-keys/{owner_key['id']}").status_code == 403


#: A body that each route would take, so that only the permission can refuse it.
BODIES: dict[str, Any] = {
    "create_monitor": MONITOR,
    "put_monitor": MONITOR,
    "change_monitor": {"name": "x"},
    "create_channel": CHANNEL,
    "change_channel": {"name": "x"},
    "create_route": {"name": "x", "channel_ids": ["00000000-0000-0000-0000-000000000000"]},
    "change_route": {"name": "x"},
    "test_routes": {"name": "x", "source": "x"},
    "create_silence": {"matchers": [{"label": "team", "op": "=", "value": "shop"}], "duration_seconds": 60},
    "change_silence": {"comment": "x"},
    "create_maintenance": {
        "name": "m",
        "matchers": [{"label": "team", "op": "=", "value": "nobody"}],
        "duration_seconds": 60,
    },
    "change_maintenance": {"comment": "x"},
    "create_incident": {"title": "x"},
    "change_incident": {"title": "x"},
    "acknowledge_incidents": {"filter": {}},
    "set_incident_status": {"status": "resolved"},
    "comment_incident": {"body": "x"},
    "create_api_key": {"name": "x", "role": "viewer"},
    "create_invite": {"email": "new@example.com", "role": "viewer"},
    "change_membership": {"role": "viewer"},
    "take_alerts": [],
    "read_series": {"ids": ["00000000-0000-0000-0000-000000000000"], "window": "1h"},
    "create_organization": {"name": "x"},
    "change_organization": {"name": "x"},
}


def test_routes_without_a_permission_are_these_and_no_others() -> None:
    public = {route.operation_id for route in ROUTES if route.permission is None}
    assert public == {
        "login", "refresh", "logout",
        "register", "confirm_registration", "forget_password", "reset_password", "accept_invite",
        "start_oidc_login", "finish_oidc_login",
        "livez", "health", "healthz", "readyz", "ready", "metrics",
        # Their key stands in the path, in the body or in Basic: they look at it themselves.
        "alertmanager_webhook", "alertmanager_webhook_by_key", "alertmanager_alerts", "alertmanager_alerts_by_key",
        "pagerduty_enqueue",
        "ping", "ping_action", "post_ping", "post_ping_action", "push", "post_push",
    }  # fmt: skip
