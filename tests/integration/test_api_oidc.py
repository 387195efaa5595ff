"""Login through a real provider process: whom it lets in, and every way to get in without being them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from pydantic import SecretStr

from api import oidc
from api import oidc_provider as oidc_client
from tests import api_cast, oidc_provider
from tests.api_cast import PASSWORD, World
from tests.identity_cast import NEW_PASSWORD, with_settings
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, Remote

world = api_cast.world

ALICE = {"sub": "a-1", "email": "alice@example.com", "email_verified": True, "name": "Alice"}
DORA = {"sub": "d-1", "email": "dora@corp.example", "email_verified": True, "name": "Dora"}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our API waits for the provider even where the machine lets that stand still for a while."""
    monkeypatch.setattr(oidc_client, "_TIMEOUT_S", 60.0)


@pytest.fixture(scope="module")
def process() -> Iterator[Remote]:
    with oidc_provider.running() as remote:
        yield remote


@pytest.fixture
def provider(process: Remote) -> Remote:
    process.behave(user=ALICE)
    return process


def over(world: World, provider: Remote, **more: Any) -> World:
    """An API that knows the provider."""
    return with_settings(
        world,
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=SecretStr(CLIENT_SECRET),
        **more,
    )


@pytest.fixture
def site(world: World, provider: Remote) -> World:
    return over(world, provider)


def go(site: World, provider: Remote) -> str:
    """Start, log in over there; the path and query that the browser comes back to."""
    start = site.nobody.get("/v1/auth/oidc/start")
    assert start.status_code == 302, start.text
    back = urlsplit(provider.visit(start.headers["Location"]))
    assert back.path == "/v1/auth/oidc/callback"
    return f"{back.path}?{back.query}"


def changed(path: str, **parts: str) -> str:
    base, _, query = path.partition("?")
    return f"{base}?{urlencode({**dict(parse_qsl(query)), **parts})}"


def refused(site: World, path: str, status: int = 401, code: str = "OIDC_LOGIN_FAILED") -> None:
    before = site.rows("SELECT count(*) FROM refresh_tokens")
    answer = site.nobody.get(path)
    assert (answer.status_code, answer.get_json()["code"]) == (status, code), answer.text
    assert site.rows("SELECT count(*) FROM refresh_tokens") == before


def me(site: World, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return site.person(answer.get_json()["access_token"]).get("/v1/auth/me").get_json()


def test_without_a_provider_there_is_no_such_login(world: World) -> None:
    for path in ("/v1/auth/oidc/start", "/v1/auth/oidc/callback?code=x&state=y"):
        answer = world.nobody.get(path)
        assert (answer.status_code, answer.get_json()["code"]) == (403, "OIDC_NOT_CONFIGURED")


def test_a_member_comes_in_by_the_verified_address_and_then_by_the_subject(site: World, provider: Remote) -> None:
    first = site.nobody.get(go(site, provider))
    assert set(first.get_json()) == {"access_token", "refresh_token", "token_type", "expires_in"}
    who = me(site, first)
    assert (who["user"]["id"], who["organization"]["id"], who["role"]) == (site.users["alice"], site.org_a, "owner")
    assert site.person(first.get_json()["refresh_token"]).post("/v1/auth/refresh").status_code == 200
    provider.behave(user={**ALICE, "email": "alice@married.example"})
    assert me(site, site.nobody.get(go(site, provider)))["user"]["id"] == site.users["alice"]
    assert site.rows("SELECT issuer, subject FROM identities") == [{"issuer": provider.issuer, "subject": "a-1"}]
    assert site.login("alice")  # the password of a verified address stays


def test_the_way_there_has_state_nonce_and_pkce_and_a_cookie_of_its_own(site: World, provider: Remote) -> None:
    start = site.nobody.get("/v1/auth/oidc/start")
    query = dict(parse_qsl(urlsplit(start.headers["Location"]).query))
    assert (query["code_challenge_method"], len(query["code_challenge"])) == ("S256", 43)
    assert len(query["state"]) >= 32 and len(query["nonce"]) >= 32
    assert query["redirect_uri"] == "http://127.0.0.1:8000/v1/auth/oidc/callback"
    cookie = start.headers["Set-Cookie"]
    for part in ("HttpOnly", "SameSite=Lax", "Path=/v1/auth/oidc", "Max-Age=600"):
        assert part in cookie
    assert query["state"] not in cookie and query["nonce"] not in cookie
    over_tls = with_settings(site, public_url="https://tocsin.example")
    assert "Secure" in over_tls.nobody.get("/v1/auth/oidc/start").headers["Set-Cookie"]
    other = dict(parse_qsl(urlsplit(site.nobody.get("/v1/auth/oidc/start").headers["Location"]).query))
    assert all(other[name] != query[name] for name in ("state", "nonce", "code_challenge"))


def test_an_answer_to_another_login_or_browser_is_refused(site: World, provider: Remote) -> None:
    path = go(site, provider)
    refused(site, changed(path, state="x" * 43))  # and the cookie is gone with it
    refused(site, path)
    path = go(site, provider)
    site.client.delete_cookie(oidc.COOKIE, path="/v1/auth/oidc")
    refused(site, path)
    path = go(site, provider)
    site.client.set_cookie(oidc.COOKIE, site.services.vault.seal("registration", {}), path="/v1/auth/oidc")
    refused(site, path)
    refused(site, changed(go(site, provider), iss="https://evil.example"))
    refused(site, "/v1/auth/oidc/callback")
    assert me(site, site.nobody.get(go(site, provider)))["role"] == "owner"


def test_a_code_works_once_and_only_in_the_login_it_was_made_for(site: World, provider: Remote) -> None:
    path = go(site, provider)
    cookie = site.client.get_cookie(oidc.COOKIE, path="/v1/auth/oidc")
    assert cookie is not None
    assert site.nobody.get(path).status_code == 200
    site.client.set_cookie(oidc.COOKIE, cookie.value, path="/v1/auth/oidc")
    refused(site, path)
    # A stolen code in the thief's own login: the verifier is not the one that it was made for.
    stolen = dict(parse_qsl(urlsplit(go(site, provider)).query))["code"]
    refused(site, changed(go(site, provider), code=stolen))


def test_a_login_that_takes_too_long_is_refused(site: World, provider: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "_WITHIN", timedelta(seconds=-1))
    start = site.nobody.get("/v1/auth/oidc/start")
    sealed = start.headers["Set-Cookie"].split("=", 1)[1].split(";", 1)[0]
    back = urlsplit(provider.visit(start.headers["Location"]))
    site.client.set_cookie(oidc.COOKIE, sealed, path="/v1/auth/oidc")
    refused(site, f"{back.path}?{back.query}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"claims": {"nonce": "of another login"}},
        {"dropped": ["nonce"]},
        {"claims": {"aud": "another client"}},
        {"claims": {"aud": [CLIENT_ID, "another client"]}},  # for both, and nobody says who asked
        {"claims": {"aud": [CLIENT_ID, "another client"], "azp": "another client"}},
        {"dropped": ["aud"]},
        {"claims": {"iss": "https://evil.example"}},
        {"dropped": ["iss"]},
        {"claims": {"exp": 1_000_000_000}},
        {"dropped": ["exp"]},
        {"dropped": ["iat"]},
        {"claims": {"iat": 4_000_000_000}},
        {"dropped": ["sub"]},
        {"claims": {"sub": ""}},
        {"claims": {"sub": 7}},
        {"claims": {"sub": "a\u0000b"}},
        {"alg": "none"},
        {"alg": "HS256"},  # with the public key for a secret
        {"alg": "HS256", "with": "secret"},
        {"with": "another key"},
        {"error": "access_denied"},
        {"answered_iss": "https://evil.example"},
    ],
    ids=str,
)
def test_what_does_not_prove_this_login_is_refused(site: World, provider: Remote, wrong: dict[str, Any]) -> None:
    provider.behave(**wrong)
    refused(site, go(site, provider))
    assert site.rows("SELECT 1 FROM identities") == []


def test_a_token_for_several_clients_of_which_we_asked_is_ours(site: World, provider: Remote) -> None:
    provider.behave(claims={"aud": ["another", CLIENT_ID], "azp": CLIENT_ID})
    assert me(site, site.nobody.get(go(site, provider)))["role"] == "owner"


def test_a_provider_that_calls_itself_otherwise_is_not_ours(site: World, provider: Remote) -> None:
    provider.behave(discovered_issuer="https://evil.example")
    refused(site, "/v1/auth/oidc/start")


def test_a_wrong_client_secret_is_refused_by_the_provider(world: World, provider: Remote) -> None:
    site = over(world, provider)
    site = with_settings(site, oidc_client_secret=SecretStr("wrong"))
    refused(site, go(site, provider))


def test_new_keys_of_the_provider_are_fetched_when_they_are_used(site: World, provider: Remote) -> None:
    assert site.nobody.get(go(site, provider)).status_code == 200
    before = provider.asked("/keys")
    assert site.nobody.get(go(site, provider)).status_code == 200
    assert provider.asked("/keys") == before
    provider.behave(rotate=True)
    assert site.nobody.get(go(site, provider)).status_code == 200
    assert provider.asked("/keys") == before + 1


@pytest.mark.parametrize("verified", [False, None, "false", "no", 1])
def test_an_address_that_the_provider_did_not_verify_opens_no_account(
    site: World, provider: Remote, verified: Any
) -> None:
    provider.behave(user={**ALICE, "email_verified": verified})
    refused(site, go(site, provider), 403, "NOT_A_MEMBER")


def test_who_is_neither_member_nor_invited_stays_outside(site: World, provider: Remote) -> None:
    provider.behave(user=DORA)
    refused(site, go(site, provider), 403, "NOT_A_MEMBER")
    assert site.rows("SELECT 1 FROM users WHERE email = 'dora@corp.example'") == []


def test_who_is_invited_comes_in_without_a_password(site: World, provider: Remote) -> None:
    body = {"email": "dora@corp.example", "role": "editor"}
    token = site.alice.post("/v1/invites", json=body).get_json()["token"]
    provider.behave(user=DORA)
    who = me(site, site.nobody.get(go(site, provider)))
    assert (who["user"]["name"], who["role"], who["organization"]["id"]) == ("Dora", "editor", site.org_a)
    for password in ("", NEW_PASSWORD):
        login = {"email": "dora@corp.example", "password": password or " "}
        assert site.nobody.post("/v1/auth/login", json=login).status_code == 401
    accept = {"token": token, "password": NEW_PASSWORD}
    assert site.nobody.post("/v1/invites/accept", json=accept).status_code == 400


def test_new_people_join_the_first_organization_if_the_operator_says_so(world: World, provider: Remote) -> None:
    site = over(world, provider, oidc_auto_join="editor", oidc_allowed_domains="other.example, Corp.example")
    provider.behave(user=DORA)
    who = me(site, site.nobody.get(go(site, provider)))
    assert (who["role"], who["organization"]["id"], who["user"]["email"]) == ("editor", site.org_a, "dora@corp.example")
    # Somebody removed them: they do not come back by themselves.
    assert site.alice.delete(f"/v1/memberships/{who['user']['id']}").status_code == 204
    refused(site, go(site, provider), 403, "NOT_A_MEMBER")
    provider.behave(user={**DORA, "sub": "e-1", "email": "eve@corp.example.evil.example"})
    refused(site, go(site, provider), 403, "NOT_A_MEMBER")
    provider.behave(user={**DORA, "sub": "e-1", "email_verified": False})
    refused(site, go(site, provider), 403, "NOT_A_MEMBER")


def test_an_address_that_changed_hands_does_not_hand_over_the_account(site: World, provider: Remote) -> None:
    assert site.nobody.get(go(site, provider)).status_code == 200
    provider.behave(user={**ALICE, "sub": "a-2"})
    refused(site, go(site, provider), 403, "OIDC_IDENTITY_CONFLICT")


def test_who_registered_somebody_elses_address_loses_it_to_them(site: World, provider: Remote) -> None:
    site.execute("UPDATE users SET email_verified_at = NULL WHERE email = 'alice@example.com'")
    squatter = site.login("alice")
    who = me(site, site.nobody.get(go(site, provider)))
    assert who["user"]["id"] == site.users["alice"]
    assert site.person(squatter["access_token"]).get("/v1/auth/me").status_code == 401
    assert site.person(squatter["refresh_token"]).post("/v1/auth/refresh").status_code == 401
    login = {"email": "alice@example.com", "password": PASSWORD}
    assert site.nobody.post("/v1/auth/login", json=login).status_code == 401


def test_a_disabled_user_stays_out(site: World, provider: Remote) -> None:
    assert site.nobody.get(go(site, provider)).status_code == 200
    site.execute("UPDATE users SET disabled_at = now() WHERE email = 'alice@example.com'")
    refused(site, go(site, provider))


def test_an_address_may_come_from_userinfo_about_the_same_person(site: World, provider: Remote) -> None:
    provider.behave(dropped=["email", "email_verified", "name"])
    assert me(site, site.nobody.get(go(site, provider)))["user"]["id"] == site.users["alice"]
    provider.behave(dropped=["email", "email_verified"], userinfo={"sub": "b-1", "email": "bob@example.com"})
    refused(site, go(site, provider))


def test_a_provider_that_is_away_is_said_to_be(world: World) -> None:
    site = over(world, Remote("http://127.0.0.1:1"))
    answer = site.nobody.get("/v1/auth/oidc/start")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "UNAVAILABLE")
    assert "Retry-After" in answer.headers
