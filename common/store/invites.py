"""Invitations: open until accepted, revoked, expired, or replaced by a newer one for the same address."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from uuid_utils import uuid7

from common.domain.errors import Conflict, NotFound
from common.store import keyset, tokens
from common.store.engine import Connection

LIFETIME = timedelta(days=7)

_COLUMNS = "id::text, email, role, created_by, created_at, expires_at"
_OPEN = "accepted_at IS NULL AND revoked_at IS NULL"

# The newer one counts.
_REPLACE = f"""
UPDATE invites SET revoked_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND email = lower(%(email)s) AND {_OPEN}
"""

# Two at once for one address: the second gets no row.
_ADD = f"""
INSERT INTO invites (id, org_id, email, role, token_hash, created_by, expires_at)
VALUES (%(id)s, %(org_id)s, lower(%(email)s), %(role)s, %(token_hash)s, %(created_by)s,
        clock_timestamp() + %(lifetime)s)
ON CONFLICT (org_id, email) WHERE {_OPEN} DO NOTHING
RETURNING {_COLUMNS}
"""

# Open ones, expired ones too, newest first; the cursor is the last row's (created_at, id).
_LIST = f"""
SELECT {_COLUMNS} FROM invites
 WHERE org_id = %(org_id)s AND {_OPEN} AND (created_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
 ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_GET = f"SELECT {_COLUMNS} FROM invites WHERE org_id = %(org_id)s AND id = %(id)s AND {_OPEN}"
_REVOKE = f"""
UPDATE invites SET revoked_at = clock_timestamp() WHERE org_id = %(org_id)s AND id = %(id)s AND {_OPEN} RETURNING true
"""

# Whoever may no longer hand out a role has not handed it out.
_REVOKE_OF = f"""
UPDATE invites SET revoked_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND created_by = %(actor)s AND role = ANY (%(roles)s) AND {_OPEN}
"""

# By its token or, when a provider vouches for the address, by that; before its organization is known.
_BY_HASH = """
SELECT invite_id::text, org_id::text, email, role, user_id::text, password_hash, disabled
  FROM auth_invite(%(token_hash)s)
"""
_BY_EMAIL = "SELECT invite_id::text, org_id::text, role FROM auth_invite_of(%(email)s)"

# Of two that accept at once, one gets the row.
_ACCEPT = f"""
UPDATE invites SET accepted_at = clock_timestamp(), accepted_by = %(user_id)s
 WHERE org_id = %(org_id)s AND id = %(id)s AND {_OPEN} AND expires_at > clock_timestamp()
RETURNING true
"""


@dataclass(frozen=True, slots=True)
class NewInvite:
    """An invitation that is about to be stored; whoever holds `token` may accept it."""

    org_id: str
    email: str
    role: str
    created_by: str
    token: str = field(default_factory=tokens.make, repr=False)


@dataclass(frozen=True, slots=True)
class OpenInvite:
    """An invitation that can be accepted, and the user who has its address, if any."""

    id: str
    org_id: str
    email: str
    role: str
    user_id: str | None
    password_hash: str | None = field(repr=False)
    disabled: bool | None


def add(connection: Connection, invite: NewInvite) -> dict[str, Any]:
    """Store an invitation in the place of an open one for the same address. Raises Conflict."""
    values = {
        "id": str(uuid7()),
        "org_id": invite.org_id,
        "email": invite.email,
        "role": invite.role,
        "token_hash": tokens.hash_of(invite.token),
        "created_by": invite.created_by,
        "lifetime": LIFETIME,
    }
    connection.exec_driver_sql(_REPLACE, values)
    row = connection.exec_driver_sql(_ADD, values).mappings().first()
    if row is None:
        raise Conflict("Somebody invites this address at this very moment.", code="ALREADY_INVITED")
    return dict(row)


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None
) -> list[dict[str, Any]]:
    """Open invitations, newest first, without their tokens."""
    return keyset.page(connection, _LIST, before, {"org_id": org_id, "limit": limit})


def get(connection: Connection, *, org_id: str, invite_id: str) -> dict[str, Any]:
    """An open invitation. Raises NotFound."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "id": invite_id}).mappings().first()
    if row is None:
        raise NotFound("invite")
    return dict(row)


def revoke(connection: Connection, *, org_id: str, invite_id: str) -> None:
    """Make an open invitation useless. Raises NotFound when it was accepted or revoked meanwhile."""
    if connection.exec_driver_sql(_REVOKE, {"org_id": org_id, "id": invite_id}).scalar() is None:
        raise NotFound("invite")


def revoke_of(connection: Connection, *, org_id: str, actor: str, roles: list[str]) -> None:
    """Make the open invitations of somebody useless that lead to one of these roles."""
    connection.exec_driver_sql(_REVOKE_OF, {"org_id": org_id, "actor": actor, "roles": roles})


def find(connection: Connection, token: str) -> OpenInvite | None:
    """The invitation that this token accepts; needs no organization."""
    row = connection.exec_driver_sql(_BY_HASH, {"token_hash": tokens.hash_of(token)}).first()
    return None if row is None else OpenInvite(*row)


def find_by_email(connection: Connection, email: str) -> tuple[str, str, str] | None:
    """(id, organization, role) of the oldest invitation for an address; needs no organization."""
    row = connection.exec_driver_sql(_BY_EMAIL, {"email": email}).first()
    return None if row is None else (row[0], row[1], row[2])


def accept(connection: Connection, *, org_id: str, invite_id: str, user_id: str) -> bool:
    """Use an invitation up; False when it is no longer open."""
    values = {"org_id": org_id, "id": invite_id, "user_id": user_id}
    return connection.exec_driver_sql(_ACCEPT, values).scalar() is True
