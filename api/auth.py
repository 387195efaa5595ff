"""Who is calling: a user's access token or an API key, both checked against the database at every request.

So a revoked session or key, a disabled user and a changed role count at once, not when a token expires.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Any

from flask import Flask, g, request
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    get_jwt,
    verify_jwt_in_request,
)
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt.exceptions import PyJWTError
from uuid_utils import uuid7

from api.context import Caller, services
from api.permissions import OPERATOR, covers, permissions_of
from api.schemas import is_id
from common import log
from common.clock import utc_now
from common.domain.errors import Forbidden, Unauthorized
from common.store import accounts, api_keys, platform_keys
from common.store.engine import Connection

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=30)
_NAME = "tocsin"
#: The year 9999; no date is later.
_LATEST_S = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_MARKS = (api_keys.MARK, platform_keys.MARK)

_UNKNOWN = "Log in, or send an API key, as `Authorization: Bearer …`."
_REJECTED = "The token is wrong, has expired or was revoked."


def configure_tokens(app: Flask, key: str) -> None:
    """Fix how tokens are signed and read: one algorithm, one audience, one issuer, headers only."""
    app.config.update(
        JWT_SECRET_KEY=key,
        JWT_ALGORITHM="HS256",
        JWT_DECODE_ALGORITHMS=["HS256"],
        JWT_TOKEN_LOCATION=["headers"],
        JWT_ENCODE_AUDIENCE=_NAME,
        JWT_DECODE_AUDIENCE=_NAME,
        JWT_ENCODE_ISSUER=_NAME,
        JWT_DECODE_ISSUER=_NAME,
        # Two API machines need not agree to the second.
        JWT_DECODE_LEEWAY=5,
    )
    JWTManager(app)


def require(permission: str) -> Caller:
    """The caller, if they have the permission. Raises Unauthorized and Forbidden."""
    return _admit(_identify(), permission)


def require_key(permission: str, key: str = "") -> Caller:
    """The caller by a key that their tool could only send in the path (`key`), as Bearer, or as a half of Basic.

    An API or platform key, no person's session. Raises Unauthorized and Forbidden.
    """
    given = [key] if key else _offered_keys()
    token = next((one for one in given if one.startswith(_MARKS)), None)
    if token is None:
        raise rejected() if key or request.authorization else Unauthorized(_UNKNOWN)
    return _admit(_key_caller(token), permission)


def _offered_keys() -> list[str]:
    offered = request.authorization
    if offered is None:
        return []
    return [text for text in (offered.token, offered.password, offered.username) if text]


def _admit(caller: Caller, permission: str) -> Caller:
    g.caller = caller
    log.bind(actor=caller.actor, org_id=caller.org_id)
    if permission not in permissions_of_caller(caller):
        whose = f"Your role ({caller.role})" if caller.user_id else f"This key, with the role {caller.role},"
        raise Forbidden(f"{whose} does not have the permission {permission}.")
    return caller


def visitor() -> Caller | None:
    """Who calls a route that is open to all; None without an Authorization header. Raises Unauthorized."""
    return _identify() if request.headers.get("Authorization") else None


def permissions_of_caller(caller: Caller) -> list[str]:
    """Everything that the caller may do."""
    return permissions_of(caller.role, caller.scopes, key=caller.key_id is not None)


def must_cover(caller: Caller, role: str, scopes: Sequence[str] | None = None) -> None:
    """Raise Forbidden unless the caller may hand out this role, or a key with it and these scopes.

    Nobody hands out more than they have: not a mightier role, nor by a key with few scopes one with many.
    """
    if not covers(caller.role, role):
        raise Forbidden(f"Your role ({caller.role}) cannot hand out or take away the role {role}.")
    if caller.scopes is not None:
        beyond = set(permissions_of(role, scopes, key=True)) - set(caller.scopes)
        if beyond:
            raise Forbidden(f"This key's scopes do not hold {', '.join(sorted(beyond))}: it cannot hand them out.")


def open_session(connection: Connection, *, user_id: str, org_id: str, role: str) -> dict[str, Any]:
    """A new session in an organization whose transaction this is; the answer to the login."""
    login = accounts.Login(user_id, "", disabled=False, org_id=org_id, role=role)
    answer, token = make_tokens(login, family_id=str(uuid7()))
    accounts.add_token(connection, token)
    log.get_logger().info("logged_in", user_id=user_id, org_id=org_id)
    return answer


def issued_before(claims: dict[str, Any], moment: datetime) -> bool:
    """Whether a token is older than the moment from which its user's tokens are valid."""
    return datetime.fromtimestamp(claims["iat"], UTC) < moment


def make_tokens(login: accounts.Login, family_id: str) -> tuple[dict[str, Any], accounts.RefreshToken]:
    """The answer to a login or refresh, and the refresh token's row that has to be stored for it to be good."""
    lifetime_s = int(REFRESH_LIFETIME.total_seconds())
    row = accounts.RefreshToken(str(uuid7()), family_id, login.org_id, login.user_id, lifetime_s)
    # iat with its fraction: compared with the moment from which a user's tokens are valid.
    claims = {"org": login.org_id, "family": family_id, "iat": utc_now().timestamp()}
    access = create_access_token(
        login.user_id, additional_claims={**claims, "role": login.role}, expires_delta=ACCESS_LIFETIME
    )
    refresh = create_refresh_token(
        login.user_id, additional_claims={**claims, "jti": row.id}, expires_delta=REFRESH_LIFETIME
    )
    answer = {
        "access_token": access,
        "refresh_token": refresh,
        "token_type": "Bearer",
        "expires_in": int(ACCESS_LIFETIME.total_seconds()),
    }
    return answer, row


def refresh_claims() -> dict[str, Any]:
    """The claims of the refresh token in this request. Raises Unauthorized."""
    return _claims(refresh=True)


def session_claims() -> dict[str, Any]:
    """The claims of the access or refresh token in this request, revoked or not. Raises Unauthorized."""
    return _claims(verify_type=False)


def rejected() -> Unauthorized:
    """The one answer to every token that is no good: nobody learns why."""
    return Unauthorized(_REJECTED)


def _identify() -> Caller:
    header = request.headers.get("Authorization", "")
    if not header:
        raise Unauthorized(_UNKNOWN)
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.startswith(_MARKS):
        return _key_caller(token.strip())
    # Prometheus may send no other; reading only, since a browser sends Basic by itself once it knows it.
    if scheme.lower() == "basic" and request.method == "GET":
        for half in _offered_keys():
            if half.startswith(_MARKS):
                return _key_caller(half)
    return _user_caller()


def _user_caller() -> Caller:
    claims = _claims()
    user_id, org_id, family_id = claims["sub"], claims["org"], claims["family"]
    with services().database.once(org_id) as asking:
        session = accounts.session(asking, user_id=user_id, org_id=org_id, family_id=family_id)
    if session is None or issued_before(claims, session.tokens_valid_after):
        raise rejected()
    return Caller(org_id, session.role, user_id=user_id, family_id=family_id, email=session.email, name=session.name)


def _key_caller(token: str) -> Caller:
    if token.startswith(platform_keys.MARK):
        return _operator(token)
    prefix, presented = api_keys.split(token)
    database = services().database
    with database.once() as asking:
        key = api_keys.find(asking, prefix)
    if key is None or not compare_digest(key.key_hash, presented) or key.expired:
        raise rejected()
    if key.idle:
        with database.begin(key.org_id) as connection:
            api_keys.touch(connection, org_id=key.org_id, key_id=key.id)
    return Caller(key.org_id, key.role, key_id=key.id, scopes=None if key.scopes is None else tuple(key.scopes))


def _operator(token: str) -> Caller:
    prefix, presented = platform_keys.split(token)
    with services().database.once() as asking:
        key = platform_keys.find(asking, prefix)
    if key is None or not compare_digest(key.key_hash, presented):
        raise rejected()
    return Caller("", OPERATOR, key_id=key.id)


def _claims(*, refresh: bool = False, verify_type: bool = True) -> dict[str, Any]:
    try:
        verify_jwt_in_request(refresh=refresh, verify_type=verify_type)
    except (JWTExtendedException, PyJWTError, UnicodeError):
        raise rejected() from None
    claims: dict[str, Any] = get_jwt()
    # Signed by us, so these are there; a token of another version or maker with our key must still not be half read.
    names = ("sub", "org", "family", "jti") if refresh else ("sub", "org", "family")
    ids = all(is_id(claims.get(name)) for name in names)
    if not ids or "exp" not in claims or not _is_moment(claims.get("iat")):
        raise rejected()
    return claims


def _is_moment(value: object) -> bool:
    """Whether these are seconds since 1970 that a date can be made of."""
    return isinstance(value, int | float) and 0 <= value < _LATEST_S
