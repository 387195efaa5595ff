"""Invitations: shown once, accepted once, by the one who was invited, within their time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.passwords import Passwords
from tests import api_cast
from tests.api_cast import PASSWORD, Person, World
from tests.certificate import make_certificate
from tests.identity_cast import NEW_PASSWORD, add_member, at_once, letters_to, token_in, with_mail
from tests.receivers import MailReceiver

world = api_cast.world
ACCEPT = "/v1/invites/accept"


def invite(person: Person, email: str = "dora@example.com", role: str = "editor") -> dict[str, Any]:
    answer = person.post("/v1/invites", json={"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def test_a_new_user_accepts_with_a_password_and_is_in(world: World) -> None:
    made = invite(world.alice, "Dora@Example.com")
    assert (made["email"], made["role"], made["mailed"]) == ("dora@example.com", "editor", False)
    assert made["created_by"] == f"user:{world.users['alice']}"
    body = {"token": made["token"], "password": NEW_PASSWORD, "name": "Dora"}
    answer = world.nobody.post(ACCEPT, json=body)
    assert answer.status_code == 201
    me = world.person(answer.get_json()["access_token"]).get("/v1/auth/me").get_json()
    assert (me["user"]["email"], me["user"]["name"]) == ("dora@example.com", "Dora")
    assert (me["organization"]["id"], me["role"]) == (world.org_a, "editor")
    login = world.nobody.post("/v1/auth/login", json={"email": "dora@example.com", "password": NEW_PASSWORD})
    assert login.status_code == 200
    again = world.nobody.post(ACCEPT, json=body)
    assert (again.status_code, again.get_json()["code"]) == (400, "TOKEN_INVALID")


def test_the_token_is_shown_once_and_not_in_the_database(world: World) -> None:
    made = invite(world.alice)
    listed = world.alice.get("/v1/invites").get_json()["data"]
    assert [item["id"] for item in listed] == [made["id"]]
    assert "token" not in listed[0]
    assert made["token"] not in repr(world.rows("SELECT *, encode(token_hash, 'escape') FROM invites"))


def test_an_existing_user_proves_the_address_by_session_or_password(world: World) -> None:
    token = invite(world.alice, "charlie@example.com", "admin")["token"]
    for answer in (
        world.nobody.post(ACCEPT, json={"token": token}),
        world.bob.post(ACCEPT, json={"token": token}),
        world.nobody.post(ACCEPT, json={"token": token, "password": NEW_PASSWORD}),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "INVITE_NOT_YOURS")
    answer = world.charlie.post(ACCEPT, json={"token": token})
    assert answer.status_code == 201
    me = world.person(answer.get_json()["access_token"]).get("/v1/auth/me").get_json()
    assert (me["organization"]["id"], me["role"], len(me["organizations"])) == (world.org_a, "admin", 2)
    assert world.alice.delete(f"/v1/memberships/{world.users['charlie']}").status_code == 204
    token = invite(world.alice, "charlie@example.com", "viewer")["token"]
    assert world.nobody.post(ACCEPT, json={"token": token, "password": PASSWORD}).status_code == 201


def test_a_token_does_not_open_the_account_of_a_disabled_user(world: World) -> None:
    world.execute("UPDATE users SET disabled_at = now() WHERE email = 'charlie@example.com'")
    token = invite(world.alice, "charlie@example.com")["token"]
    assert world.nobody.post(ACCEPT, json={"token": token, "password": PASSWORD}).status_code == 403


def test_of_two_who_accept_at_once_one_does(world: World) -> None:
    for number in range(4):
        token = invite(world.alice, f"dora{number}@example.com")["token"]

        def accept(token: str = token) -> int:
            client = world.client.application.test_client()
            return client.post(ACCEPT, json={"token": token, "password": NEW_PASSWORD}).status_code

        codes = sorted(at_once(accept, accept, accept))
        assert codes[0] == 201 and set(codes[1:]) <= {400, 403, 409}, codes
        sql = "SELECT count(*) AS n FROM memberships m JOIN users u ON u.id = m.user_id WHERE u.email = %(email)s"
        assert world.rows(sql, email=f"dora{number}@example.com") == [{"n": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE invites SET expires_at = now() - interval '1 second'",
        "UPDATE invites SET revoked_at = now()",
        "UPDATE organizations SET disabled_at = now() WHERE name = 'A'",
    ],
)
def test_what_has_expired_or_was_taken_back_is_useless(world: World, sql: str) -> None:
    token = invite(world.alice)["token"]
    world.execute(sql)
    answer = world.nobody.post(ACCEPT, json={"token": token, "password": NEW_PASSWORD})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "TOKEN_INVALID")
    assert world.rows("SELECT 1 FROM users WHERE email = 'dora@example.com'") == []


def test_an_invitation_that_is_taken_back_while_it_is_accepted_makes_nobody_a_member(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = invite(world.alice)
    hash_password = Passwords.hash

    def slowly(self: Passwords, password: str) -> str:
        world.execute("UPDATE invites SET revoked_at = now()")
        return hash_password(self, password)

    monkeypatch.setattr(Passwords, "hash", slowly)
    answer = world.nobody.post(ACCEPT, json={"token": made["token"], "password": NEW_PASSWORD})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "TOKEN_INVALID")
    assert world.rows("SELECT 1 FROM users WHERE email = 'dora@example.com'") == []


def test_an_invitation_is_deleted_once_and_by_its_own_organization(world: World) -> None:
    made = invite(world.alice)
    path = f"/v1/invites/{made['id']}"
    assert world.charlie.delete(path).status_code == 404
    assert world.bob.delete(path).status_code == 403
    assert world.alice.delete(path).status_code == 204
    assert world.alice.delete(path).status_code == 404
    assert world.nobody.post(ACCEPT, json={"token": made["token"], "password": NEW_PASSWORD}).status_code == 400


def test_a_newer_invitation_replaces_the_older_one(world: World) -> None:
    old, new = invite(world.alice, role="admin"), invite(world.alice, role="viewer")
    assert [item["id"] for item in world.alice.get("/v1/invites").get_json()["data"]] == [new["id"]]
    assert world.nobody.post(ACCEPT, json={"token": old["token"], "password": NEW_PASSWORD}).status_code == 400
    assert world.nobody.post(ACCEPT, json={"token": new["token"], "password": NEW_PASSWORD}).status_code == 201


def test_nobody_invites_to_more_than_they_are(world: World) -> None:
    admin = add_member(world, "dora", "admin")
    assert admin.post("/v1/invites", json={"email": "e@example.com", "role": "owner"}).status_code == 403
    assert admin.post("/v1/invites", json={"email": "e@example.com", "role": "admin"}).status_code == 201
    owners = invite(world.alice, "f@example.com", "owner")
    assert admin.delete(f"/v1/invites/{owners['id']}").status_code == 403


def test_whom_to_invite_is_checked(world: World) -> None:
    assert world.alice.post("/v1/invites", json={"email": "BOB@example.com"}).get_json()["code"] == "ALREADY_MEMBER"
    for email in ("", "x", "a b@example.com", "a@example.com\nBcc: b@example.com", "x" * 300 + "@example.com"):
        assert world.alice.post("/v1/invites", json={"email": email}).status_code == 400, email
    token = invite(world.alice)["token"]
    for password in (None, "short", "password12345", "dora@example.com"):
        answer = world.nobody.post(ACCEPT, json={"token": token, "password": password})
        assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, "password"), password
    assert world.nobody.post(ACCEPT, json={"token": "x", "password": NEW_PASSWORD}).status_code == 400
    assert world.nobody.post(ACCEPT, json={"token": token, "password": NEW_PASSWORD}).status_code == 201


def test_a_mail_brings_the_token_where_there_is_a_mail_server(world: World, tmp_path: Path) -> None:
    world.execute("UPDATE organizations SET name = 'Shop \"Ö\"' WHERE name = 'A'")
    with MailReceiver(make_certificate(tmp_path), starttls=False) as receiver:
        mailing = with_mail(world, receiver)
        made = invite(mailing.alice)
        assert made["mailed"] is True
        (letter,) = letters_to(receiver, 1)
        assert receiver.envelopes[0].rcpt_tos == ["dora@example.com"]
        assert receiver.parsed()[0]["Subject"] == 'Invitation to "Shop "Ö"" on Tocsin'
    assert token_in(letter) == made["token"]
    assert world.nobody.post(ACCEPT, json={"token": token_in(letter), "password": NEW_PASSWORD}).status_code == 201
