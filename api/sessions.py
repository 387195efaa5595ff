"""/v1/auth: log in, refresh, go to another organization, log out here or everywhere, and who am I."""

from __future__ import annotations

from typing import Any

from api import audit, auth
from api.context import caller, services
from api.routing import Routes
from api.schemas_identity import Login, Me, SwitchIn, Tokens
from common import log
from common.domain.errors import NotFound, Unauthorized
from common.store import accounts, api_keys

routes = Routes("auth")


@routes.post("/v1/auth/login", body=Login, answer=Tokens, statuses=(401, 404))
def login(body: Login) -> dict[str, Any]:
    """Open a session: an access token for 15 minutes, a refresh token for 30 days."""
    database, passwords = services().database, services().passwords
    with database.begin() as connection:
        found = [one for one in accounts.logins(connection, body.email) if not one.disabled]
    stored = found[0].password_hash if found else None
    # No transaction is open here: hashing takes its time, and connections are few.
    if not passwords.verify(stored, body.password) or not stored:
        raise _wrong()
    chosen = next((one for one in found if body.organization_id in (None, one.org_id)), None)
    if chosen is None:
        raise NotFound("organization")
    renewed = passwords.hash(body.password) if passwords.outdated(stored) else None
    with database.begin(chosen.org_id) as connection:
        # Changed while we were looking at it: the sessions that ended with it must not have a successor.
        if not accounts.hold_password(connection, user_id=chosen.user_id, checked=stored, new=renewed):
            raise _wrong()
        return auth.open_session(connection, user_id=chosen.user_id, org_id=chosen.org_id, role=chosen.role)


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


@routes.post(
    "/v1/auth/switch", permission="account:write", body=SwitchIn, answer=Tokens, statuses=(404,), audited=False
)
def switch_organization(body: SwitchIn) -> dict[str, Any]:
    """Open a session in another organization that you belong to. The one you call with stays."""
    user_id = str(caller().user_id)
    database = services().database
    with database.begin() as connection:
        found = accounts.memberships(connection, user_id)
    wanted = next((one for one in found if one["id"] == body.organization_id), None)
    if wanted is None:
        raise NotFound("organization")
    with database.begin(wanted["id"]) as connection:
        return auth.open_session(connection, user_id=user_id, org_id=wanted["id"], role=wanted["role"])


@routes.post("/v1/auth/logout", status=204, token="any")  # noqa: S106 - names a kind of token
def logout() -> None:
    """End the session of the access or refresh token that is sent; everything issued in it is refused from now on."""
    claims = auth.session_claims()
    with services().database.begin(claims["org"]) as connection:
        accounts.revoke_family(connection, org_id=claims["org"], family_id=claims["family"])


@routes.post("/v1/auth/logout-all", permission="account:write", status=204)
def logout_everywhere() -> None:
    """End all your sessions, this one too, on every device and in every organization. API keys go on working."""
    with services().database.begin(caller().org_id) as connection:
        accounts.end_sessions(connection, str(caller().user_id))
        audit.noted(connection, "user", str(caller().user_id))
    log.get_logger().info("logged_out_everywhere", user_id=caller().user_id)


@routes.get("/v1/auth/me", permission="account:read", answer=Me)
def who_am_i() -> dict[str, Any]:
    """Who is calling, for which organization, what they may do, and to which organizations they belong."""
    me = caller()
    with services().database.begin(me.org_id) as connection:
        organization = accounts.organization(connection, me.org_id)
        key = api_keys.get(connection, org_id=me.org_id, key_id=me.key_id) if me.key_id else None
        own = {"id": me.org_id, "name": organization["name"], "role": me.role}
        belongs = accounts.memberships(connection, me.user_id) if me.user_id else [own]
    return {
        "user": {"id": me.user_id, "email": me.email, "name": me.name} if me.user_id else None,
        "api_key": {name: key[name] for name in ("id", "name", "prefix")} if key else None,
        "organization": organization,
        "role": me.role,
        "permissions": auth.permissions_of_caller(me),
        "organizations": belongs,
    }


def _rotate(claims: dict[str, Any]) -> dict[str, Any] | None:
    """The next tokens of a session, None when this one was used or the session has ended."""
    org_id, family_id = claims["org"], claims["family"]
    with services().database.begin(org_id) as connection:
        user_id = accounts.use_token(connection, org_id=org_id, token_id=claims["jti"])
        if user_id is None:
            return None
        session = accounts.session(connection, user_id=user_id, org_id=org_id, family_id=family_id)
        if session is None or auth.issued_before(claims, session.tokens_valid_after):
            return None
        # A password hash is of no use here; the rest is what tokens are made from.
        owner = accounts.Login(user_id, "", disabled=False, org_id=org_id, role=session.role)
        answer, token = auth.make_tokens(owner, family_id)
        accounts.add_token(connection, token)
        return answer


def _wrong() -> Unauthorized:
    return Unauthorized("The address or the password is wrong.", code="INVALID_CREDENTIALS")
