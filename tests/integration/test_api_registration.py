"""Registration: closed unless opened; whoever asks learns nothing about who has an account."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api import registration
from tests import api_cast
from tests.api_cast import PASSWORD, World
from tests.certificate import make_certificate
from tests.identity_cast import NEW_PASSWORD, at_once, letters_to, token_in, with_mail, with_settings
from tests.receivers import MailReceiver

world = api_cast.world
DORA = {"email": "Dora@Example.com", "password": NEW_PASSWORD, "name": "Dora", "organization": "Dora's shop"}


@pytest.fixture
def open_world(world: World) -> World:
    return with_settings(world, registration="open", egress="public")


@pytest.fixture
def mailed(world: World, tmp_path: Path) -> Iterator[tuple[World, MailReceiver]]:
    with MailReceiver(make_certificate(tmp_path), starttls=False) as receiver:
        yield with_mail(world, receiver, registration="open", egress="public"), receiver


def register(world: World, **changed: Any) -> Any:
    return world.nobody.post("/v1/auth/register", json={**DORA, **changed})


def test_it_is_closed_by_default(world: World) -> None:
    for path, body in (("/v1/auth/register", DORA), ("/v1/auth/register/confirm", {"token": "x"})):
        answer = world.nobody.post(path, json=body)
        assert (answer.status_code, answer.get_json()["code"]) == (403, "REGISTRATION_CLOSED")


def test_a_stranger_becomes_owner_of_an_organization_of_their_own(open_world: World) -> None:
    answer = register(open_world)
    assert answer.status_code == 201
    assert set(answer.get_json()) == {"access_token", "refresh_token", "token_type", "expires_in"}
    dora = open_world.person(answer.get_json()["access_token"])
    me = dora.get("/v1/auth/me").get_json()
    assert (me["user"]["email"], me["role"], me["organization"]["name"]) == (
        "dora@example.com", "owner", "Dora's shop",
    )  # fmt: skip
    assert me["organization"]["id"] not in (open_world.org_a, open_world.org_b)
    assert dora.get("/v1/monitors").get_json()["data"] == []
    login = {"email": "dora@example.com", "password": NEW_PASSWORD}
    assert open_world.nobody.post("/v1/auth/login", json=login).status_code == 200
    (row,) = open_world.rows("SELECT email_verified_at FROM users WHERE email = 'dora@example.com'")
    assert row["email_verified_at"] is None


def test_what_is_wrong_is_named(open_world: World) -> None:
    cases = {
        "email": {"email": "dora"},
        "password": {"password": "dora@example.com"},
        "name": {"name": ""},
        "organization": {"organization": "a\nb"},
    }
    for field, wrong in cases.items():
        answer = register(open_world, **wrong)
        assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field)
    assert register(open_world, role="owner").status_code == 400


def test_without_mail_a_taken_address_is_refused_and_nothing_is_made(open_world: World) -> None:
    before = open_world.rows("SELECT count(*) FROM organizations")
    answer = register(open_world, email="ALICE@example.com")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "EMAIL_TAKEN")
    assert open_world.rows("SELECT count(*) FROM organizations") == before
    assert open_world.login("alice")


def test_of_two_who_register_one_address_at_once_one_does(open_world: World) -> None:
    def attempt() -> int:
        return open_world.client.application.test_client().post("/v1/auth/register", json=DORA).status_code

    assert sorted(at_once(attempt, attempt, attempt)) == [201, 409, 409]
    assert open_world.rows("SELECT count(*) AS n FROM organizations WHERE name = %(n)s", n=DORA["organization"]) == [
        {"n": 1}
    ]


def test_with_mail_a_known_and_an_unknown_address_look_the_same(mailed: tuple[World, MailReceiver]) -> None:
    world, receiver = mailed
    new, known = register(world), register(world, email="alice@example.com")
    assert (new.status_code, new.get_json()) == (known.status_code, known.get_json()) == (202, {})
    assert set(new.headers.keys()) == set(known.headers.keys())
    letters = letters_to(receiver, 2)
    told = {envelope.rcpt_tos[0]: text for envelope, text in zip(receiver.envelopes, letters, strict=True)}
    assert "have an account there already" in told["alice@example.com"]
    assert world.rows("SELECT 1 FROM users WHERE email = 'dora@example.com'") == []
    token = {"token": token_in(told["Dora@Example.com"])}
    confirmed = world.nobody.post("/v1/auth/register/confirm", json=token)
    assert confirmed.status_code == 201
    me = world.person(confirmed.get_json()["access_token"]).get("/v1/auth/me").get_json()
    assert (me["user"]["email"], me["role"]) == ("dora@example.com", "owner")
    (row,) = world.rows("SELECT email_verified_at FROM users WHERE email = 'dora@example.com'")
    assert row["email_verified_at"] is not None
    again = world.nobody.post("/v1/auth/register/confirm", json=token)
    assert (again.status_code, again.get_json()["code"]) == (409, "EMAIL_TAKEN")


def test_a_confirmation_expires_and_cannot_be_made(
    mailed: tuple[World, MailReceiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, receiver = mailed
    monkeypatch.setattr(registration, "_CONFIRM_WITHIN", timedelta(seconds=-1))
    register(world)
    (letter,) = letters_to(receiver, 1)
    assert NEW_PASSWORD not in letter
    other = world.services.vault.seal("oidc login", {"email": "x@example.com"})
    for token in (token_in(letter), other, "x", token_in(letter)[:-2]):
        answer = world.nobody.post("/v1/auth/register/confirm", json={"token": token})
        assert (answer.status_code, answer.get_json()["code"]) == (400, "TOKEN_INVALID")
    assert world.rows("SELECT 1 FROM users WHERE email = 'dora@example.com'") == []


def test_registering_with_the_right_password_of_somebody_is_no_login(open_world: World) -> None:
    assert register(open_world, email="alice@example.com", password=PASSWORD).status_code == 409
