"""/v1/auth/oidc: log in through the operator's OpenID Connect provider.

What a login on its way has to remember travels in a sealed cookie: nothing is stored for who never comes back, and
nobody else's answer fits this browser. A person is known by (issuer, subject) from the first time on; that first time
by the address, if the provider has verified it and it belongs to a member, is invited, or may join by itself.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any, NamedTuple

from flask import Response, after_this_request, request
from pydantic import TypeAdapter, ValidationError

from api import audit, auth
from api.context import services
from api.oidc_provider import Identity, OidcProvider, Refused, Start
from api.replies import reply
from api.routing import Routes
from api.schemas_identity import CallbackQuery, Tokens
from common import log
from common.channels.email import MailAddress
from common.clock import utc_now
from common.domain.errors import Contended, Forbidden, Unauthorized
from common.passwords import NONE
from common.store import accounts, identities, invites, members
from common.store.identities import KnownUser
from common.vault import SecretUnreadable

routes = Routes("auth")

COOKIE = "tocsin_oidc"
_COOKIE_PATH = "/v1/auth/oidc"
_SEALED_FOR = "oidc login"
#: As long as somebody may take to log in over there.
_WITHIN = timedelta(minutes=10)

_MAIL: TypeAdapter[str] = TypeAdapter(MailAddress)


@routes.get("/v1/auth/oidc/start", status=302, statuses=(401, 403))
def start_oidc_login() -> Response:
    """Go to the provider's login. Open this in a browser; it comes back to /v1/auth/oidc/callback."""
    start = Start(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))
    try:
        url = _provider().where_to(start)
    except Refused as refused:
        raise _failed(refused.message) from refused
    response = Response(status=302, headers={"Location": url})
    response.set_cookie(
        COOKIE,
        _seal(start),
        max_age=int(_WITHIN.total_seconds()),
        path=_COOKIE_PATH,
        httponly=True,
        # Lax: the way back from the provider is a link from elsewhere.
        samesite="Lax",
        secure=services().settings.base_url.startswith("https://"),
    )
    return response


@routes.get("/v1/auth/oidc/callback", query=CallbackQuery, answer=Tokens, statuses=(401, 403))
def finish_oidc_login(query: CallbackQuery) -> Response:
    """Where the provider sends people back to: checks what it says of them and opens a session, like a login."""
    provider = _provider()
    # Whatever comes of it: one way there, one way back.
    after_this_request(_forget_cookie)
    start = _started(request.cookies.get(COOKIE, ""), query.state or "")
    if query.error or not query.code:
        raise _failed(f"the provider sent {query.error!r} and no code")
    if not provider.issued_by_us(query.iss):
        raise _failed("the answer names another issuer")
    try:
        identity = provider.who(query.code, start)
    except Refused as refused:
        raise _failed(refused.message) from refused
    return reply(_log_in(identity), 200)


class _Place(NamedTuple):
    """Where somebody comes in: as a member, or (`joins`) as a new one, perhaps by an invitation."""

    org_id: str
    role: str
    joins: bool = False
    invite_id: str | None = None


def _log_in(identity: Identity) -> dict[str, Any]:
    email = _usable(identity)
    with services().database.begin() as connection:
        known = identities.find(connection, identity.issuer, identity.subject)
        linked = known is not None
        if known is None and email:
            known = identities.by_email(connection, email)
        if known is not None and known.disabled:
            raise _failed("the user is disabled")
        belongs = accounts.memberships(connection, known.user_id) if known is not None else []
    place = _Place(belongs[0]["id"], belongs[0]["role"]) if belongs else _opening(email, known)
    with services().database.begin(place.org_id) as connection:
        name = identity.name.replace("\x00", "")[:200]
        newcomer = accounts.NewUser(email, name, NONE, verified=True)
        user_id = known.user_id if known is not None else accounts.new_user(connection, newcomer)
        if user_id is None:
            raise Contended("Somebody else came in with this address this very moment.")
        if place.invite_id is not None:
            accepted = invites.accept(connection, org_id=place.org_id, invite_id=place.invite_id, user_id=user_id)
            if not accepted:
                raise Contended("The invitation was used this very moment.")
        if place.joins:
            members.add(connection, org_id=place.org_id, user_id=user_id, role=place.role)
            joined = {"user_id": user_id, "email": email, "role": place.role, "invite_id": place.invite_id}
            actor = f"user:{user_id}"
            audit.changed(connection, "membership", user_id, None, joined, org_id=place.org_id, actor=actor)
        if not linked and not identities.link(connection, identity.issuer, identity.subject, user_id):
            # An address that changed hands over there must not hand over the account here.
            raise Forbidden(
                "This address belongs to somebody whom the provider calls by another subject; the operator can unlink "
                "them: tocsin user unlink.",
                code="OIDC_IDENTITY_CONFLICT",
            )
        return auth.open_session(connection, user_id=user_id, org_id=place.org_id, role=place.role)


def _usable(identity: Identity) -> str:
    """The verified address, "" for none. Raises Forbidden for one of a domain that may not log in here."""
    try:
        email = _MAIL.validate_python(identity.email).lower()
    except ValidationError:
        email = ""
    domains = services().settings.oidc_domains
    if domains and email.rpartition("@")[2] not in domains:
        raise _not_a_member("the provider vouches for no address of an allowed domain")
    return email


def _opening(email: str, known: KnownUser | None) -> _Place:
    """How somebody who is a member nowhere comes in. Raises Forbidden.

    A former member does not join again by themselves: somebody removed them.
    """
    role = services().settings.oidc_auto_join
    with services().database.begin() as connection:
        if email and known is None and role != "none":
            org_id = identities.first_organization(connection)
            if org_id is not None:
                return _Place(org_id, role, joins=True)
        invite = invites.find_by_email(connection, email) if email else None
    if invite is None:
        raise _not_a_member("neither a member nor invited")
    return _Place(invite[1], invite[2], joins=True, invite_id=invite[0])


def _provider() -> OidcProvider:
    provider = services().oidc
    if provider is None:
        raise Forbidden("This installation has no login provider.", code="OIDC_NOT_CONFIGURED")
    return provider


def _seal(start: Start) -> str:
    return services().vault.seal(
        _SEALED_FOR,
        {
            "state": start.state,
            "nonce": start.nonce,
            "verifier": start.verifier,
            "expires_at": (utc_now() + _WITHIN).isoformat(),
        },
    )


def _started(cookie: str, state: str) -> Start:
    """The login that this browser began. Raises Unauthorized unless the answer is to that one."""
    try:
        sealed = services().vault.open(_SEALED_FOR, cookie)
    except SecretUnreadable:
        raise _failed("this browser began no login") from None
    if datetime.fromisoformat(sealed["expires_at"]) <= utc_now():
        raise _failed("the login took too long")
    if not compare_digest(sealed["state"].encode(), state.encode()):
        raise _failed("the answer is to another login")
    return Start(sealed["state"], sealed["nonce"], sealed["verifier"])


def _forget_cookie(response: Response) -> Response:
    response.delete_cookie(COOKIE, path=_COOKIE_PATH, httponly=True, samesite="Lax")
    return response


def _failed(reason: str) -> Unauthorized:
    """One answer to all that goes wrong; only our log says what it was."""
    log.get_logger().warning("oidc_login_failed", reason=reason)
    return Unauthorized("The login through the provider failed; start again.", code="OIDC_LOGIN_FAILED")


def _not_a_member(reason: str) -> Forbidden:
    log.get_logger().warning("oidc_login_failed", reason=reason)
    return Forbidden(
        "You are known to the provider, but not a member here: ask for an invitation.", code="NOT_A_MEMBER"
    )
