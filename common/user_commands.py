"""`tocsin user`: people, in the database that the settings name or that `tocsin up` runs.

For who is locked out, and for installations without a mail server: what a mail would bring is printed here.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from common.domain.errors import StackError
from common.operating import transaction
from common.passwords import NONE
from common.store import accounts, identities, members, operated_users, password_resets, tokens

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="People: made, listed, disabled, helped to a new password."
)

#: A first token is handed over by people, who may be asleep.
_FIRST_LIFETIME = timedelta(days=1)

Email = Annotated[str, typer.Argument(help="The user's address.")]


class Role(StrEnum):
    """As in the API."""

    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"


@app.command()
def create(
    email: Email,
    name: Annotated[str, typer.Option(help="As others see them.")] = "",
    role: Annotated[Role, typer.Option(help="Their role in the organization.")] = Role.VIEWER,
    organization: Annotated[str | None, typer.Option(help="Its id; default: the first one.")] = None,
) -> None:
    """Make a user, or make one who is there a member. Prints a new user's token, good for a day to set a password."""
    if "@" not in email or not email.isprintable() or len(email) > 254:
        sys.stderr.write(f"tocsin user create: {email!r} is not an address\n")
        raise typer.Exit(2)
    token = tokens.make()
    with transaction("user create") as connection:
        org_id = operated_users.organization(connection, organization)
        if org_id is None:
            raise StackError(f"there is no organization {organization or ''}".rstrip())
        user_id = operated_users.find(connection, email)
        is_new = user_id is None
        if user_id is None:
            user_id = accounts.add_user(connection, email=email, name=name, password_hash=NONE)
            password_resets.give(connection, email, token, lifetime=_FIRST_LIFETIME)
        if not members.add(connection, org_id=org_id, user_id=user_id, role=role):
            raise StackError(f"{email} is a member already")
    made = {"id": user_id, "email": email.lower(), "organization_id": org_id, "role": role.value}
    _say({**made, "token": token} if is_new else made)


@app.command("list")
def list_users() -> None:
    """Print all users with their organizations and roles, one JSON object a line."""
    with transaction("user list") as connection:
        rows = operated_users.list_all(connection)
    for row in rows:
        _say({**row, "created_at": row["created_at"].isoformat()})


@app.command()
def disable(email: Email) -> None:
    """Let a user in no more: their sessions end at once. Keys that they made go on working."""
    with transaction("user disable") as connection:
        user_id = _found(operated_users.set_enabled(connection, email, enabled=False), email)
        accounts.end_sessions(connection, user_id)
    sys.stdout.write(f"disabled {email}\n")


@app.command()
def enable(email: Email) -> None:
    """Let a user in again."""
    with transaction("user enable") as connection:
        _found(operated_users.set_enabled(connection, email, enabled=True), email)
    sys.stdout.write(f"enabled {email}\n")


@app.command("reset-password")
def reset_password(email: Email) -> None:
    """Print a token with which the user sets a new password within half an hour: POST /v1/auth/password/reset."""
    token = tokens.make()
    with transaction("user reset-password") as connection:
        if password_resets.give(connection, email, token) is None:
            raise StackError(f"there is no user {email}, or they are disabled")
    sys.stdout.write(f"{token}\n")


@app.command()
def unlink(email: Email) -> None:
    """Forget by which account of the login provider a user comes in: the next one with their address is linked."""
    with transaction("user unlink") as connection:
        if not identities.unlink(connection, email):
            raise StackError(f"nobody with the address {email} comes in through a provider")
    sys.stdout.write(f"unlinked {email}\n")


def _found(user_id: str | None, email: str) -> str:
    if user_id is None:
        raise StackError(f"there is no user {email}")
    return user_id


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
