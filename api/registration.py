"""/v1/auth/register: strangers make a user and an organization of their own, where the operator lets them.

Nobody learns who has an account (docs/identity.md): with a mail server the answer is always that a mail is on its way,
and the mail says the rest. Without one a taken address has to be refused; there only the rate limit slows a search.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flask import Response
from uuid_utils import uuid7

from api import audit, auth, letters
from api.context import services
from api.replies import reply
from api.routing import Routes
from api.schemas_identity import RegistrationIn, TokenIn, Tokens
from common.clock import utc_now
from common.domain.errors import Conflict, FieldError, Forbidden, ValidationFailed
from common.store import accounts, identities, members
from common.vault import SecretUnreadable

routes = Routes("auth")

_CONFIRM_WITHIN = timedelta(days=1)
_SEALED_FOR = "registration"


@routes.post("/v1/auth/register", body=RegistrationIn, answer=Tokens, status=201, statuses=(202, 403, 409))
def register(body: RegistrationIn) -> dict[str, Any] | Response:
    """Make a user with an organization of their own, and log them in.

    Where mails can be sent the answer is 202 and empty: the session begins with the token in the mail, at
    /v1/auth/register/confirm.
    """
    _must_be_open()
    # First, and whatever comes of it: a known address must not be answered sooner.
    password_hash = services().passwords.hash(body.password)
    if not services().mailer.available:
        user = accounts.NewUser(body.email, body.name, password_hash, verified=False)
        return _found(user, body.organization)
    _write_to(body, password_hash)
    return reply({}, 202)


@routes.post("/v1/auth/register/confirm", body=TokenIn, answer=Tokens, status=201, statuses=(403, 409))
def confirm_registration(body: TokenIn) -> dict[str, Any]:
    """Confirm the address by the token that was mailed to it: makes the user and the organization, and logs in."""
    _must_be_open()
    try:
        sealed = services().vault.open(_SEALED_FOR, body.token)
    except SecretUnreadable:
        raise _wrong_token() from None
    if datetime.fromisoformat(sealed["expires_at"]) <= utc_now():
        raise _wrong_token()
    user = accounts.NewUser(sealed["email"], sealed["name"], sealed["password_hash"], verified=True)
    return _found(user, sealed["organization"])


def _must_be_open() -> None:
    if services().settings.registration != "open":
        raise Forbidden("Registration is closed here: ask for an invitation.", code="REGISTRATION_CLOSED")


def _write_to(body: RegistrationIn, password_hash: str) -> None:
    """Mail a token that holds everything: nothing is stored for who never answers."""
    base_url = services().settings.base_url
    sealed = services().vault.seal(
        _SEALED_FOR,
        {
            "email": body.email,
            "name": body.name,
            "password_hash": password_hash,
            "organization": body.organization,
            "expires_at": (utc_now() + _CONFIRM_WITHIN).isoformat(),
        },
    )
    with services().database.begin() as connection:
        known = identities.by_email(connection, body.email)
    letter = (
        letters.already_registered(body.email, base_url)
        if known
        else letters.confirmation(body.email, sealed, base_url)
    )
    services().mailer.send(letter)


def _found(user: accounts.NewUser, name: str) -> dict[str, Any]:
    """Make the organization with its owner, all or nothing."""
    org_id = str(uuid7())
    with services().database.begin(org_id) as connection:
        user_id = accounts.new_user(connection, user)
        if user_id is None:
            raise Conflict("This address is taken: log in, or reset the password.", code="EMAIL_TAKEN")
        accounts.add_organization(connection, name, org_id)
        members.add(connection, org_id=org_id, user_id=user_id, role="owner")
        made = {"name": name, "owner": user_id}
        audit.changed(connection, "organization", org_id, None, made, org_id=org_id, actor=f"user:{user_id}")
        return auth.open_session(connection, user_id=user_id, org_id=org_id, role="owner")


def _wrong_token() -> ValidationFailed:
    details = [FieldError("token", "is wrong or has expired")]
    return ValidationFailed("The token is not good any more.", code="TOKEN_INVALID", details=details)
