"""/v1/auth/password: change it, forget it, set a new one by a token that came by mail or from the operator."""

from __future__ import annotations

from typing import Any

from api import audit, letters
from api.context import caller, services
from api.new_passwords import hash_new
from api.routing import Routes
from api.schemas_identity import ForgottenPassword, PasswordChange, PasswordReset
from common import log
from common.domain.errors import FieldError, ValidationFailed
from common.store import accounts, password_resets, tokens

routes = Routes("auth")


@routes.post("/v1/auth/password", permission="account:write", body=PasswordChange, status=204)
def change_password(body: PasswordChange) -> None:
    """Change your password. All your other sessions end, in every organization; this one stays."""
    me = caller()
    user_id, database = str(me.user_id), services().database
    with database.begin(me.org_id) as connection:
        stored = accounts.password_of(connection, user_id)
    if not services().passwords.verify(stored, body.current):
        raise _wrong_current()
    new = hash_new(body.new, me.email, field="new")
    with database.begin(me.org_id) as connection:
        kept = str(me.family_id)
        if not accounts.set_password(connection, user_id=user_id, checked=stored, new=new, kept_family=kept):
            # Changed meanwhile: what was said to be the current one is not any more.
            raise _wrong_current()
        audit.noted(connection, "user", user_id)
    log.get_logger().info("password_changed", user_id=user_id)


@routes.post("/v1/auth/password/forgot", body=ForgottenPassword, status=202)
def forget_password(body: ForgottenPassword) -> dict[str, Any]:
    """Have a token mailed with which a new password can be set within half an hour.

    The answer is the same, and takes the same time, whether or not somebody has this address. Without a mail server
    the operator makes a token: `tocsin user reset-password`.
    """
    if services().mailer.available:
        token = tokens.make()
        with services().database.begin() as connection:
            found = password_resets.ask(connection, body.email, token)
        if found is not None:
            services().mailer.send(letters.password_reset(found.email, token, services().settings.base_url))
    else:
        log.get_logger().warning("no_mail_server", wanted="password reset")
    return {}


@routes.post("/v1/auth/password/reset", body=PasswordReset, status=204)
def reset_password(body: PasswordReset) -> None:
    """Set a new password by a token, which is good once. All sessions of its user end."""
    with services().database.begin() as connection:
        found = password_resets.find(connection, body.token)
    if found is None:
        raise _wrong_token()
    new = hash_new(body.new, found.email, field="new")
    with services().database.begin() as connection:
        if password_resets.use(connection, body.token, new) is None:
            raise _wrong_token()
    log.get_logger().info("password_reset", user_id=found.user_id)


def _wrong_current() -> ValidationFailed:
    # Not 401: the token is good, and a client must not throw it away.
    details = [FieldError("current", "is not your password")]
    return ValidationFailed("The current password is wrong.", code="INVALID_CREDENTIALS", details=details)


def _wrong_token() -> ValidationFailed:
    details = [FieldError("token", "is wrong, was used, or has expired")]
    return ValidationFailed("The token is not good any more.", code="TOKEN_INVALID", details=details)
