"""/v1/auth: log in, refresh, log out, and who am I."""

from __future__ import annotations

from typing import Any

from uuid_utils import uuid7

from api import auth
from api.context import caller, services
from api.permissions import permissions_of
from api.routing import Routes
from api.schemas import Login, Me, Tokens
from common import log
from common.domain.errors import Unauthorized
from common.store import accounts, api_keys

routes = Routes("auth")


@routes.post("/v1/auth/login", body=Login, answer=Tokens)
def login(body: Login) -> dict[str, Any]:
    """Open a session: an access token for 15 minutes, a refresh token for 30 days."""
    database = services().database
    with database.begin() as connection:
        logins = accounts.logins(connection, body.email)
    found = next((one for one in logins if not one.disabled), None)
    # No transaction is open here: hashing takes its time, and connections are few.
    if not services().passwords.verify(found.password_hash if found else None, body.password) or found is None:
        raise Unauthorized("The address or the password is wrong.", code="INVALID_CREDENTIALS")
    answer, token = auth.make_tokens(found, family_id=str(uuid7()))
    with database.begin(found.org_id) as connection:
        accounts.add_token(connection, token)
    log.get_logger().info("logged_in", user_id=found.user_id, org_id=found.org_id)
    return answer


@routes.post("/v1/auth/refresh", answer=Tokens, token="refresh")  # noqa: S106 - names a kind of token
def refresh() -> dict[str, Any]:
    """Use up a refresh token (sent as Bearer) for the next pair. A token that was used before ends the session."""
    claims = auth.refresh_claims()
    answer = _rotate(claims)
    if answer is None:
        # Its own transaction: the refusal below must not take the revocation back.
        with services().database.begin(claims["org"]) as connection:
            accounts.revoke_family(connection, org_id=claims["org"], family_id=claims["family"])
        log.get_logger().warning("refresh_token_replayed", user_id=claims["sub"], family_id=claims["family"])
        raise auth.rejected()
    return answer


@routes.post("/v1/auth/logout", status=204, token="any")  # noqa: S106 - names a kind of token
def logout() -> None:
    """End the session of the access or refresh token that is sent; everything issued in it is refused from now on."""
    claims = auth.session_claims()
    with services().database.begin(claims["org"]) as connection:
        accounts.revoke_family(connection, org_id=claims["org"], family_id=claims["family"])


@routes.get("/v1/auth/me", permission="account:read", answer=Me)
def who_am_i() -> dict[str, Any]:
    """Who is calling, for which organization, and what they may do."""
    me = caller()
    with services().database.begin(me.org_id) as connection:
        organization = accounts.organization(connection, me.org_id)
        key = api_keys.get(connection, org_id=me.org_id, key_id=me.key_id) if me.key_id else None
    return {
        "user": {"id": me.user_id, "email": me.email, "name": me.name} if me.user_id else None,
        "api_key": {name: key[name] for name in ("id", "name", "prefix")} if key else None,
        "organization": organization,
        "role": me.role,
        "permissions": permissions_of(me.role),
    }


def _rotate(claims: dict[str, Any]) -> dict[str, Any] | None:
    """The next tokens of a session, None when this one was used or the session has ended."""
    org_id, family_id = claims["org"], claims["family"]
    with services().database.begin(org_id) as connection:
        user_id = accounts.use_token(connection, org_id=org_id, token_id=claims["jti"])
        if user_id is None:
            return None
        session = accounts.session(connection, user_id=user_id, org_id=org_id, family_id=family_id)
        if session is None:
            return None
        # A password hash is of no use here; the rest is what tokens are made from.
        owner = accounts.Login(user_id, "", disabled=False, org_id=org_id, role=session.role)
        answer, token = auth.make_tokens(owner, family_id)
        accounts.add_token(connection, token)
        return answer
