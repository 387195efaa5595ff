"""The mails that Tocsin writes to a person about their account. What strangers chose is quoted and kept on one line."""

from __future__ import annotations

from api.mailing import Letter
from common.domain.weak_passwords import LEAST_CHARACTERS

_NOT_YOU = "If you did not expect this, ignore this mail: without the token nothing happens."


def invitation(email: str, token: str, base_url: str, *, organization: str, role: str) -> Letter:
    """Somebody invites to their organization."""
    text = f"""\
You are invited to the organization "{organization}" on Tocsin ({base_url}), with the role {role}.

Your token, good for 7 days and once:

    {token}

To accept, send it to POST {base_url}/v1/invites/accept as
    {{"token": "…", "password": "…", "name": "…"}}
with a new password of at least {LEAST_CHARACTERS} characters. If you have an account here, log in first and send the
token alone, or send its password.

{_NOT_YOU}
"""
    return Letter("invitation", email, f'Invitation to "{organization}" on Tocsin', text)


def password_reset(email: str, token: str, base_url: str) -> Letter:
    """Somebody forgot their password."""
    text = f"""\
Somebody, hopefully you, wants to set a new password for {email} on Tocsin ({base_url}).

Your token, good for 30 minutes and once:

    {token}

Send it to POST {base_url}/v1/auth/password/reset as
    {{"token": "…", "new": "…"}}
All your sessions end with it.

{_NOT_YOU}
"""
    return Letter("password_reset", email, "A new password for Tocsin", text)


def confirmation(email: str, token: str, base_url: str) -> Letter:
    """Somebody registers with this address."""
    text = f"""\
Somebody, hopefully you, registers {email} on Tocsin ({base_url}).

Your token, good for one day and once:

    {token}

Send it to POST {base_url}/v1/auth/register/confirm as
    {{"token": "…"}}

{_NOT_YOU}
"""
    return Letter("confirmation", email, "Confirm your address for Tocsin", text)


def already_registered(email: str, base_url: str) -> Letter:
    """Somebody registers with an address that has an account."""
    text = f"""\
Somebody, hopefully you, tried to register {email} on Tocsin ({base_url}), but you have an account there already.

Log in with it. If you forgot its password, ask for a new one: POST {base_url}/v1/auth/password/forgot

If it was not you, ignore this mail: nothing has changed.
"""
    return Letter("already_registered", email, "You have an account on Tocsin", text)
