"""Members of an organization: listed, given another role, removed. Somebody always stays its owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.domain.errors import Conflict, NotFound
from common.store import keyset
from common.store.engine import Connection

_COLUMNS = """
u.id::text AS user_id, u.email, u.name, m.role, u.disabled_at IS NULL AS enabled, m.created_at
  FROM memberships m JOIN users u ON u.id = m.user_id
"""

# The newest first; the cursor is the last row's (created_at, user_id).
_LIST = f"""
SELECT {_COLUMNS}
 WHERE m.org_id = %(org_id)s AND (m.created_at, m.user_id) < (%(before_at)s::timestamptz, %(before_id)s::uuid)
 ORDER BY m.created_at DESC, m.user_id DESC LIMIT %(limit)s
"""
_GET = f"SELECT {_COLUMNS} WHERE m.org_id = %(org_id)s AND m.user_id = %(user_id)s"
_BY_EMAIL = f"SELECT {_COLUMNS} WHERE m.org_id = %(org_id)s AND u.email = lower(%(email)s)"

# All owners, and the two whom it is about, as they are once we have them: whoever else changes an owner waits, or we
# do. In the order of their ids, so that nobody waits for each other.
_HOLD = """
SELECT user_id::text, role FROM memberships
 WHERE org_id = %(org_id)s AND (role = 'owner' OR user_id = ANY (%(wanted)s::uuid[]))
 ORDER BY user_id FOR UPDATE
"""
_SET_ROLE = "UPDATE memberships SET role = %(role)s WHERE org_id = %(org_id)s AND user_id = %(user_id)s"
_REMOVE = "DELETE FROM memberships WHERE org_id = %(org_id)s AND user_id = %(user_id)s"

# The sessions of a former member in this organization.
_END_SESSIONS = """
UPDATE refresh_tokens SET revoked_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND user_id = %(user_id)s AND revoked_at IS NULL
"""

# Of two that make the same user a member, one does.
_ADD = """
INSERT INTO memberships (org_id, user_id, role) VALUES (%(org_id)s, %(user_id)s, %(role)s)
ON CONFLICT DO NOTHING RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Roles of owners and of those it is about, which nobody else can change until the transaction ends."""

    roles: dict[str, str]

    def role_of(self, user_id: str) -> str:
        """The role of a member. Raises NotFound."""
        if user_id not in self.roles:
            raise NotFound("membership")
        return self.roles[user_id]

    def must_keep_an_owner(self, user_id: str) -> None:
        """Raise Conflict when nobody else is an owner."""
        if not any(role == "owner" for other, role in self.roles.items() if other != user_id):
            raise Conflict("An organization has at least one owner: name another one first.", code="LAST_OWNER")


def list_page(
    connection: Connection, *, org_id: str, limit: int, before: tuple[datetime, str] | None
) -> list[dict[str, Any]]:
    """Members with their address, name and role, newest first."""
    return keyset.page(connection, _LIST, before, {"org_id": org_id, "limit": limit})


def get(connection: Connection, *, org_id: str, user_id: str, named: str = "membership") -> dict[str, Any]:
    """One member. Raises NotFound, of what the caller names it."""
    row = connection.exec_driver_sql(_GET, {"org_id": org_id, "user_id": user_id}).mappings().first()
    if row is None:
        raise NotFound(named)
    return dict(row)


def is_member(connection: Connection, *, org_id: str, email: str) -> bool:
    """Whether somebody with this address is a member."""
    return connection.exec_driver_sql(_BY_EMAIL, {"org_id": org_id, "email": email}).first() is not None


def hold(connection: Connection, *, org_id: str, user_ids: list[str]) -> Held:
    """Lock what a change of these members has to look at."""
    rows = connection.exec_driver_sql(_HOLD, {"org_id": org_id, "wanted": user_ids})
    return Held({row[0]: row[1] for row in rows})


def set_role(connection: Connection, *, org_id: str, user_id: str, role: str) -> None:
    """Give a held member another role; it counts at their next request."""
    connection.exec_driver_sql(_SET_ROLE, {"org_id": org_id, "user_id": user_id, "role": role})


def remove(connection: Connection, *, org_id: str, user_id: str) -> None:
    """Remove a held member and end their sessions here; the user stays, perhaps member elsewhere."""
    values = {"org_id": org_id, "user_id": user_id}
    connection.exec_driver_sql(_REMOVE, values)
    connection.exec_driver_sql(_END_SESSIONS, values)


def add(connection: Connection, *, org_id: str, user_id: str, role: str) -> bool:
    """Make a user a member; False when they are one already."""
    values = {"org_id": org_id, "user_id": user_id, "role": role}
    return connection.exec_driver_sql(_ADD, values).scalar() is True
