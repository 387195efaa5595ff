"""Users, their passwords and sessions, and organizations: how one begins and how it ends.

A session is a family of refresh tokens: every refresh uses one up and adds the next. A token that is used twice was
stolen, by whoever came second or first, so the whole family is revoked.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from uuid_utils import uuid7

from common.store import api_keys, locations
from common.store.engine import Connection
from common.store.once import Asks

# Everyone who may log in with this address, one row per organization, the oldest membership first.
_BY_EMAIL = "SELECT user_id::text, password_hash, disabled, org_id::text, role FROM auth_user_by_email(%(email)s)"

# Whether a session still holds, and what its user may do now.
_SESSION = """
SELECT email, name, role, tokens_valid_after
  FROM auth_session(%(user_id)s::uuid, %(org_id)s::uuid, %(family_id)s::uuid)
"""

_CONTINUE_FAMILY = """
INSERT INTO refresh_tokens (id, family_id, org_id, user_id, expires_at)
VALUES (%(id)s, %(family_id)s, %(org_id)s, %(user_id)s, clock_timestamp() + %(lifetime_s)s * interval '1 second')
"""

# Use a refresh token up. Of two that try, one gets the row; the other finds used_at set and no row.
_USE_UP = """
UPDATE refresh_tokens SET used_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND id = %(id)s AND used_at IS NULL AND revoked_at IS NULL AND expires_at > clock_timestamp()
RETURNING user_id::text
"""
_REVOKE_FAMILY = """
UPDATE refresh_tokens SET revoked_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND family_id = %(family_id)s AND revoked_at IS NULL
"""

# Refresh tokens past their time, some at a time. A day later than that: of a family that was revoked, no token may
# outlive the rows that say so.
_FORGET_TOKENS = """
DELETE FROM refresh_tokens WHERE id = ANY(ARRAY(
  SELECT id FROM refresh_tokens WHERE expires_at < clock_timestamp() - interval '1 day'
   ORDER BY expires_at LIMIT %(limit)s))
"""

# Every session of a user, in all organizations, but the one that is kept.
_END_SESSIONS = "SELECT auth_end_sessions(%(user_id)s::uuid, %(kept)s::uuid)"

# Whether the password that was checked still holds, until this transaction ends.
_HOLD = "SELECT auth_hold_password(%(user_id)s::uuid, %(checked)s)"
_REHASH = "SELECT auth_rehash(%(user_id)s::uuid, %(checked)s, %(new)s)"
_REPLACE_HASH = "SELECT auth_set_password(%(user_id)s::uuid, %(checked)s, %(new)s, %(kept)s::uuid)"
_HASH = "SELECT password_hash FROM users WHERE id = %(user_id)s"

# A new user; no row's id when the address is taken.
_NEW_USER = "SELECT auth_add_user(%(user_id)s::uuid, %(email)s, %(name)s, %(hash)s, %(verified)s)::text"

# Where a user is a member, the oldest membership first.
_MEMBERSHIPS = "SELECT org_id::text AS id, name, role FROM auth_memberships(%(user_id)s::uuid)"

_ORGANIZATION = "SELECT id::text, name, created_at FROM organizations WHERE id = %(org_id)s"
_RENAME = "UPDATE organizations SET name = %(name)s WHERE id = %(org_id)s RETURNING id::text, name, created_at"

# Bootstrap, as tocsin_owner and under the migration lock: nobody else can come between look and insert. The two below
# are also what a registration does, in a transaction that stands in the new organization.
_ANY_ORGANIZATION = "SELECT 1 FROM organizations LIMIT 1"
_ADD_ORGANIZATION = "INSERT INTO organizations (id, name) VALUES (%(org_id)s, %(name)s)"
# As tocsin_owner: the operator's own users.
_ADD_USER = """
INSERT INTO users (id, email, name, password_hash) VALUES (%(user_id)s, lower(%(email)s), %(name)s, %(password_hash)s)
"""
_ADD_MEMBERSHIP = "INSERT INTO memberships (org_id, user_id, role) VALUES (%(org_id)s, %(user_id)s, %(role)s)"

_ITS_MONITORS = "monitor_no IN (SELECT monitor_no FROM monitors WHERE org_id = %(org_id)s)"

_ROLLED_UP = ("rollups_5m", "rollups_hour", "rollups_day", "health_changes", "watch_changes")

# Everything of one organization, as tocsin_owner, in the order that the services write in: the votes first, since who
# has them opens and resolves incidents; the outbox before the ledger that the relay makes of it; a notification is
# locked before its attempts, since who settles it adds one. Users go with their last organization.
#   Heartbeats before all of these: who judges one holds it while its verdict is written. Spans of maintenance before
#   the states that show them.
_REMOVE = (
    "DELETE FROM heartbeats WHERE org_id = %(org_id)s",
    f"DELETE FROM ping_inbox WHERE {_ITS_MONITORS}",
    f"DELETE FROM pings WHERE {_ITS_MONITORS}",
    f"DELETE FROM votes WHERE {_ITS_MONITORS}",
    "DELETE FROM maintenance_spans WHERE org_id = %(org_id)s",
    "DELETE FROM monitor_states WHERE org_id = %(org_id)s",
    "DELETE FROM outbox WHERE org_id = %(org_id)s",
    "SELECT 1 FROM notifications WHERE org_id = %(org_id)s ORDER BY id FOR UPDATE",
    "DELETE FROM delivery_attempts WHERE org_id = %(org_id)s",
    "DELETE FROM notifications WHERE org_id = %(org_id)s",
    "DELETE FROM reminders WHERE org_id = %(org_id)s",
    "DELETE FROM alerts WHERE org_id = %(org_id)s",
    "DELETE FROM alert_ends WHERE org_id = %(org_id)s",
    "DELETE FROM blind_incidents WHERE org_id = %(org_id)s",
    "DELETE FROM incident_events WHERE org_id = %(org_id)s",
    "DELETE FROM held_notes WHERE org_id = %(org_id)s",
    "DELETE FROM parent_holds WHERE org_id = %(org_id)s",
    "DELETE FROM incidents WHERE org_id = %(org_id)s",
    "DELETE FROM maintenance_windows WHERE org_id = %(org_id)s",
    "DELETE FROM route_cooldowns WHERE org_id = %(org_id)s",
    "DELETE FROM routes WHERE org_id = %(org_id)s",
    "DELETE FROM silences WHERE org_id = %(org_id)s",
    "DELETE FROM channels WHERE org_id = %(org_id)s",
    f"DELETE FROM results WHERE {_ITS_MONITORS}",
    f"DELETE FROM result_details WHERE {_ITS_MONITORS}",
    *(f"DELETE FROM {table} WHERE {_ITS_MONITORS}" for table in _ROLLED_UP),
    "DELETE FROM monitors WHERE org_id = %(org_id)s",
    "DELETE FROM refresh_tokens WHERE org_id = %(org_id)s",
    "DELETE FROM idempotency_keys WHERE org_id = %(org_id)s",
    "DELETE FROM audit_log WHERE org_id = %(org_id)s",
    "DELETE FROM invites WHERE org_id = %(org_id)s",
    "DELETE FROM api_keys WHERE org_id = %(org_id)s",
    """
    WITH left_over AS (DELETE FROM memberships WHERE org_id = %(org_id)s RETURNING user_id)
    DELETE FROM users WHERE id IN (SELECT user_id FROM left_over)
       AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = users.id AND m.org_id <> %(org_id)s)
    """,
    "DELETE FROM organizations WHERE id = %(org_id)s",
)


@dataclass(frozen=True, slots=True)
class Login:
    """One way to log in with an address."""

    user_id: str
    password_hash: str
    disabled: bool
    org_id: str
    role: str


@dataclass(frozen=True, slots=True)
class Session:
    """The user behind an access token, as the database knows them now."""

    email: str
    name: str
    role: str
    tokens_valid_after: datetime


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token to store; `id` is its jti."""

    id: str
    family_id: str
    org_id: str
    user_id: str
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the first administrator needs; shown once."""

    email: str
    password: str
    api_key: str


def logins(connection: Connection, email: str) -> list[Login]:
    """All memberships of the user with this address; needs no organization."""
    return [Login(*row) for row in connection.exec_driver_sql(_BY_EMAIL, {"email": email})]


def session(connection: Asks, *, user_id: str, org_id: str, family_id: str) -> Session | None:
    """The session behind an access token, None when it was revoked, or its user disabled or removed."""
    keys = {"user_id": user_id, "org_id": org_id, "family_id": family_id}
    row = connection.exec_driver_sql(_SESSION, keys).first()
    return None if row is None else Session(*row)


def add_token(connection: Connection, token: RefreshToken) -> None:
    """Store a refresh token: the first of a family opens the session, each next one continues it."""
    connection.exec_driver_sql(
        _CONTINUE_FAMILY,
        {
            "id": token.id,
            "family_id": token.family_id,
            "org_id": token.org_id,
            "user_id": token.user_id,
            "lifetime_s": token.lifetime_s,
        },
    )


def use_token(connection: Connection, *, org_id: str, token_id: str) -> str | None:
    """Use a refresh token up; its user's id, or None when it was used, revoked or has expired."""
    user_id: str | None = connection.exec_driver_sql(_USE_UP, {"org_id": org_id, "id": token_id}).scalar()
    return user_id


def revoke_family(connection: Connection, *, org_id: str, family_id: str) -> None:
    """End a session: none of its tokens is good any more, at once."""
    connection.exec_driver_sql(_REVOKE_FAMILY, {"org_id": org_id, "family_id": family_id})


def forget_tokens(connection: Connection, *, limit: int = 50_000) -> int:
    """Delete refresh tokens that expired more than a day ago; how many. Fewer than `limit`: none is left."""
    return connection.exec_driver_sql(_FORGET_TOKENS, {"limit": limit}).rowcount


def end_sessions(connection: Connection, user_id: str, *, kept_family: str | None = None) -> None:
    """End every session of a user, in all their organizations, but the one that is kept."""
    connection.exec_driver_sql(_END_SESSIONS, {"user_id": user_id, "kept": kept_family})


def hold_password(connection: Connection, *, user_id: str, checked: str, new: str | None = None) -> bool:
    """Whether the hash that was checked is still the user's, and stays it until this transaction ends.

    `new` is the same password's hash under newer parameters, to be stored instead.
    """
    values = {"user_id": user_id, "checked": checked, "new": new}
    # Never first one and then the other: two logins of a user would wait for each other.
    return connection.exec_driver_sql(_HOLD if new is None else _REHASH, values).scalar() is True


def password_of(connection: Connection, user_id: str) -> str:
    """The hash of a member's password."""
    return str(connection.exec_driver_sql(_HASH, {"user_id": user_id}).scalar_one())


def set_password(connection: Connection, *, user_id: str, checked: str, new: str, kept_family: str) -> bool:
    """Replace the hash that was checked and end all other sessions; False when somebody was faster."""
    values = {"user_id": user_id, "checked": checked, "new": new, "kept": kept_family}
    return connection.exec_driver_sql(_REPLACE_HASH, values).scalar() is True


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to be made. `verified`: the address is known to be theirs; `password_hash` "": they have no password."""

    email: str
    name: str
    password_hash: str = field(repr=False)
    verified: bool


def new_user(connection: Connection, user: NewUser) -> str | None:
    """Make a user, member of nothing yet; their id, None when the address is taken."""
    values = {
        "user_id": str(uuid7()),
        "email": user.email,
        "name": user.name,
        "hash": user.password_hash,
        "verified": user.verified,
    }
    user_id: str | None = connection.exec_driver_sql(_NEW_USER, values).scalar()
    return user_id


def memberships(connection: Connection, user_id: str) -> list[dict[str, Any]]:
    """{id, name, role} of every organization where a user is a member; none for a disabled one."""
    return [dict(row) for row in connection.exec_driver_sql(_MEMBERSHIPS, {"user_id": user_id}).mappings()]


def organization(connection: Connection, org_id: str) -> dict[str, Any]:
    """{id, name, created_at} of an organization."""
    return dict(connection.exec_driver_sql(_ORGANIZATION, {"org_id": org_id}).mappings().one())


def rename_organization(connection: Connection, org_id: str, name: str) -> dict[str, Any]:
    """Give an organization another name."""
    return dict(connection.exec_driver_sql(_RENAME, {"org_id": org_id, "name": name}).mappings().one())


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """Who runs a new installation; the password is generated when there is none."""

    email: str
    password: str | None
    location: str


def bootstrap(connection: Connection, admin: FirstAdmin, hash_password: Callable[[str], str]) -> Credentials | None:
    """Make the first organization with its owner and an API key; None when there is an organization already."""
    locations.ensure(connection, admin.location)
    if connection.exec_driver_sql(_ANY_ORGANIZATION).first() is not None:
        return None
    password = admin.password or secrets.token_urlsafe(18)
    owner = Owner(admin.email, "Administrator", hash_password(password))
    made = create_organization(connection, "Default", owner, key_name="bootstrap")
    return Credentials(admin.email.lower(), password, made.api_key)


@dataclass(frozen=True, slots=True)
class Owner:
    """The first user of a new organization."""

    email: str
    name: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class NewOrganization:
    """An organization that was just made; the API key is shown this once."""

    org_id: str
    user_id: str
    api_key: str = field(repr=False)


def create_organization(connection: Connection, name: str, owner: Owner, *, key_name: str) -> NewOrganization:
    """Make an organization with its owner and an API key of theirs. As tocsin_owner."""
    org_id = add_organization(connection, name)
    user_id = add_user(connection, email=owner.email, name=owner.name, password_hash=owner.password_hash)
    add_member(connection, org_id=org_id, user_id=user_id, role="owner")
    key = api_keys.NewKey(org_id, key_name, "owner", created_by=user_id)
    api_keys.add(connection, key)
    return NewOrganization(org_id, user_id, key.token)


def remove_organization(connection: Connection, org_id: str) -> None:
    """Remove every row of an organization, and its users unless they belong to another one. As tocsin_owner.

    Delete its monitors through the API first: a check that is under way would store its result afterwards.
    """
    for statement in _REMOVE:
        connection.exec_driver_sql(statement, {"org_id": org_id})


def add_organization(connection: Connection, name: str, org_id: str = "") -> str:
    """A new organization; its id."""
    org_id = org_id or str(uuid7())
    connection.exec_driver_sql(_ADD_ORGANIZATION, {"org_id": org_id, "name": name})
    return org_id


def add_user(connection: Connection, *, email: str, name: str, password_hash: str) -> str:
    """A new user, member of nothing yet; their id."""
    user_id = str(uuid7())
    connection.exec_driver_sql(
        _ADD_USER, {"user_id": user_id, "email": email, "name": name, "password_hash": password_hash}
    )
    return user_id


def add_member(connection: Connection, *, org_id: str, user_id: str, role: str) -> None:
    """Make a user a member of an organization."""
    connection.exec_driver_sql(_ADD_MEMBERSHIP, {"org_id": org_id, "user_id": user_id, "role": role})
