"""Passwords and sessions: changed, forgotten, reset; what ends with them, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from common.passwords import Passwords
from common.store import password_resets, tokens
from tests import api_cast
from tests.api_cast import PASSWORD, Person, World
from tests.certificate import make_certificate
from tests.identity_cast import NEW_PASSWORD, at_once, letters_to, token_in, with_mail
from tests.receivers import MailReceiver

world = api_cast.world
CHANGE, FORGOT, RESET = (f"/v1/auth/password{tail}" for tail in ("", "/forgot", "/reset"))


def alive(world: World, tokens: dict[str, Any]) -> tuple[int, int]:
    """What the session's tokens are answered."""
    access = world.person(tokens["access_token"]).get("/v1/auth/me").status_code
    return access, world.person(tokens["refresh_token"]).post("/v1/auth/refresh").status_code


def log_in(world: World, name: str, password: str) -> int:
    return world.nobody.post("/v1/auth/login", json={"email": f"{name}@example.com", "password": password}).status_code


def reset_token(world: World, name: str) -> str:
    """As the operator makes it."""
    token = tokens.make()
    with world.databases.owner.begin() as connection:
        assert password_resets.give(connection, f"{name}@example.com", token)
    return token


def test_a_new_password_ends_all_other_sessions_everywhere(world: World) -> None:
    world.execute("INSERT INTO memberships VALUES (%(o)s, %(u)s, 'viewer')", o=world.org_b, u=world.users["alice"])
    other, elsewhere = world.login("alice"), world.person(api_cast.session(world, "alice", "b"))
    assert elsewhere.get("/v1/auth/me").status_code == 200
    changed = world.alice.post(CHANGE, json={"current": PASSWORD, "new": NEW_PASSWORD})
    assert (changed.status_code, changed.data) == (204, b"")
    assert world.alice.get("/v1/auth/me").status_code == 200
    assert alive(world, other) == (401, 401)
    assert elsewhere.get("/v1/auth/me").status_code == 401
    assert (log_in(world, "alice", PASSWORD), log_in(world, "alice", NEW_PASSWORD)) == (401, 200)
    assert world.bob.get("/v1/auth/me").status_code == 200


def test_a_change_needs_the_current_password_and_a_good_new_one(world: World) -> None:
    wrong = world.alice.post(CHANGE, json={"current": "wrong", "new": NEW_PASSWORD})
    assert (wrong.status_code, wrong.get_json()["code"]) == (400, "INVALID_CREDENTIALS")
    for new in ("short", "password123456", "alice@example.com", "x" * 257):
        bad = world.alice.post(CHANGE, json={"current": PASSWORD, "new": new})
        assert (bad.status_code, bad.get_json()["details"][0]["field"]) == (400, "new"), new
    assert log_in(world, "alice", PASSWORD) == 200
    assert world.alice.get("/v1/auth/me").status_code == 200


def test_of_two_changes_at_once_one_counts(world: World) -> None:
    second = "another quiet lantern 8"

    def change(new: str) -> int:
        client = world.client.application.test_client()
        return client.post(CHANGE, json={"current": PASSWORD, "new": new}, headers=world.alice.headers).status_code

    codes = at_once(lambda: change(NEW_PASSWORD), lambda: change(second))
    # One after the other is possible too: then the later one's current password is wrong.
    assert sorted(codes) == [204, 400]
    assert sorted((log_in(world, "alice", NEW_PASSWORD), log_in(world, "alice", second))) == [200, 401]


def test_logout_everywhere_ends_every_session_and_no_key(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()["key"]
    one, two = world.login("alice"), world.login("alice")
    assert world.person(one["access_token"]).post("/v1/auth/logout-all").status_code == 204
    assert alive(world, one) == alive(world, two) == (401, 401)
    assert world.alice.get("/v1/auth/me").status_code == 401
    assert world.person(key).get("/v1/auth/me").status_code == 200
    assert world.bob.get("/v1/auth/me").status_code == 200
    assert alive(world, world.login("alice")) == (200, 200)


def test_tokens_issued_before_all_were_ended_are_refused_whatever_their_family(world: World) -> None:
    issued = world.login("alice")
    world.execute("UPDATE users SET tokens_valid_after = clock_timestamp() WHERE id = %(id)s", id=world.users["alice"])
    assert alive(world, issued) == (401, 401)


def test_a_flush_of_redis_revives_nothing(world: World, redis_url: str) -> None:
    ended, out, everywhere = world.login("alice"), world.login("alice"), world.login("bob")
    key = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()
    machine = world.person(key["key"])
    world.person(ended["refresh_token"]).post("/v1/auth/refresh")
    world.person(ended["refresh_token"]).post("/v1/auth/refresh")  # replayed: the family is over
    world.person(out["access_token"]).post("/v1/auth/logout")
    world.person(everywhere["access_token"]).post("/v1/auth/logout-all")
    world.alice.delete(f"/v1/api-keys/{key['id']}")
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    for tokens_ in (ended, out, everywhere):
        assert alive(world, tokens_) == (401, 401)
    assert machine.get("/v1/auth/me").status_code == 401


def test_a_forgotten_password_is_reset_by_a_token_once(world: World) -> None:
    session, key = world.login("bob"), world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()["key"]
    token, other = reset_token(world, "bob"), reset_token(world, "bob")
    assert token not in repr(world.rows("SELECT *, encode(token_hash, 'escape') FROM password_resets"))
    weak = world.nobody.post(RESET, json={"token": token, "new": "bob@example.com"})
    assert (weak.status_code, weak.get_json()["details"][0]["field"]) == (400, "new")
    assert world.nobody.post(RESET, json={"token": token, "new": NEW_PASSWORD}).status_code == 204
    assert alive(world, session) == (401, 401)
    assert world.bob.get("/v1/auth/me").status_code == 401
    assert (log_in(world, "bob", PASSWORD), log_in(world, "bob", NEW_PASSWORD)) == (401, 200)
    for used in (token, other, "x"):  # one that is used makes the others useless
        again = world.nobody.post(RESET, json={"token": used, "new": PASSWORD})
        assert (again.status_code, again.get_json()["code"]) == (400, "TOKEN_INVALID")
    assert world.person(key).get("/v1/auth/me").status_code == 200


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE password_resets SET expires_at = now() - interval '1 second'",
        "UPDATE users SET disabled_at = now() WHERE email = 'bob@example.com'",
    ],
)
def test_a_reset_that_expired_or_is_for_a_disabled_user_is_useless(world: World, sql: str) -> None:
    token = reset_token(world, "bob")
    world.execute(sql)
    assert world.nobody.post(RESET, json={"token": token, "new": NEW_PASSWORD}).status_code == 400


def test_of_two_who_use_a_reset_at_once_one_does(world: World) -> None:
    token = reset_token(world, "bob")

    def reset(new: str) -> int:
        client = world.client.application.test_client()
        return client.post(RESET, json={"token": token, "new": new}).status_code

    second = "another quiet lantern 8"
    assert sorted(at_once(lambda: reset(NEW_PASSWORD), lambda: reset(second))) == [204, 400]
    assert sorted((log_in(world, "bob", NEW_PASSWORD), log_in(world, "bob", second))) == [200, 401]


def test_a_change_makes_a_reset_under_way_useless(world: World) -> None:
    token = reset_token(world, "alice")
    assert world.alice.post(CHANGE, json={"current": PASSWORD, "new": NEW_PASSWORD}).status_code == 204
    assert world.nobody.post(RESET, json={"token": token, "new": PASSWORD}).status_code == 400


@pytest.fixture
def mailed(world: World, tmp_path: Path) -> Iterator[tuple[World, MailReceiver]]:
    with MailReceiver(make_certificate(tmp_path), starttls=False) as receiver:
        yield with_mail(world, receiver), receiver


def test_forgot_answers_the_same_to_all_and_mails_only_whom_we_know(mailed: tuple[World, MailReceiver]) -> None:
    world, receiver = mailed
    world.execute("UPDATE users SET disabled_at = now() WHERE email = 'charlie@example.com'")
    answers = [
        world.nobody.post(FORGOT, json={"email": email})
        for email in ("unknown@example.com", "charlie@example.com", "not an address", "BOB@example.com")
    ]
    assert {(answer.status_code, answer.data) for answer in answers} == {(202, b"{}")}
    (letter,) = letters_to(receiver, 1)
    assert receiver.envelopes[0].rcpt_tos == ["bob@example.com"]
    # The same was written for each.
    assert world.rows("SELECT count(*) AS n, count(user_id) AS known FROM password_resets") == [{"n": 4, "known": 1}]
    assert world.nobody.post(RESET, json={"token": token_in(letter), "new": NEW_PASSWORD}).status_code == 204
    assert log_in(world, "bob", NEW_PASSWORD) == 200


def test_a_mailbox_is_not_flooded(mailed: tuple[World, MailReceiver]) -> None:
    world, receiver = mailed
    for _ in range(8):
        assert world.nobody.post(FORGOT, json={"email": "bob@example.com"}).status_code == 202
    assert len(letters_to(receiver, 5)) == 5


def test_a_mail_server_that_is_away_delays_no_answer(world: World, tmp_path: Path) -> None:
    receiver = MailReceiver(make_certificate(tmp_path), starttls=False)
    with receiver:
        lost = with_mail(world, receiver)
    answer = lost.nobody.post(FORGOT, json={"email": "bob@example.com"})
    assert (answer.status_code, answer.data) == (202, b"{}")


def test_without_a_mail_server_forgot_answers_the_same(world: World) -> None:
    for email in ("bob@example.com", "unknown@example.com"):
        assert world.nobody.post(FORGOT, json={"email": email}).status_code == 202
    assert world.rows("SELECT 1 FROM password_resets") == []


def test_a_login_renews_a_hash_with_old_parameters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.passwords._TIME_COST", 1)
    old = Passwords().hash(PASSWORD)
    world.execute("UPDATE users SET password_hash = %(h)s WHERE email = 'bob@example.com'", h=old)
    assert alive(world, world.login("bob")) == (200, 200)
    (row,) = world.rows("SELECT password_hash FROM users WHERE email = 'bob@example.com'")
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert log_in(world, "bob", PASSWORD) == 200


def test_a_login_that_began_before_the_password_changed_opens_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = world.services.passwords
    verify = Passwords.verify

    def slowly(self: Passwords, stored: str | None, password: str) -> bool:
        fits = verify(self, stored, password)
        world.execute("UPDATE users SET password_hash = 'changed' WHERE email = 'bob@example.com'")
        return fits

    assert keeper.verify(api_cast.password_hash(), PASSWORD)
    monkeypatch.setattr(Passwords, "verify", slowly)
    assert log_in(world, "bob", PASSWORD) == 401


def test_who_has_no_password_cannot_log_in_with_any(world: World) -> None:
    world.execute("UPDATE users SET password_hash = '' WHERE email = 'bob@example.com'")
    for password in (PASSWORD, "nobody has this password", " "):
        assert log_in(world, "bob", password) == 401


def test_a_megabyte_of_password_is_refused_without_hashing(world: World) -> None:
    huge = "x" * 500_000
    assert log_in(world, "alice", huge) == 400
    assert world.alice.post(CHANGE, json={"current": huge, "new": NEW_PASSWORD}).status_code == 400


def test_a_key_has_no_password_and_no_sessions(world: World) -> None:
    key = world.alice.post("/v1/api-keys", json={"name": "ci", "role": "owner"}).get_json()["key"]
    machine: Person = world.person(key)
    for path, body in (
        (CHANGE, {"current": PASSWORD, "new": NEW_PASSWORD}),
        ("/v1/auth/logout-all", None),
        ("/v1/auth/switch", {"organization_id": world.org_b}),
    ):
        assert machine.post(path, json=body).status_code == 403, path
