"""Users as the operator sees them: in all organizations. As tocsin_owner, for the command line."""

from __future__ import annotations

from typing import Any

from common.store.engine import Connection

# Every user with where they belong, the newest last.
_LIST = """
SELECT u.id::text, u.email, u.name, u.disabled_at IS NULL AS enabled, u.created_at,
       coalesce(jsonb_agg(jsonb_build_object('id', o.id, 'name', o.name, 'role', m.role) ORDER BY m.created_at)
                FILTER (WHERE m.user_id IS NOT NULL), '[]') AS organizations
  FROM users u LEFT JOIN memberships m ON m.user_id = u.id LEFT JOIN organizations o ON o.id = m.org_id
 GROUP BY u.id ORDER BY u.created_at, u.id
"""
_BY_EMAIL = "SELECT id::text FROM users WHERE email = lower(%(email)s)"

# Disabled a second time they keep the first moment.
_ENABLE = """
UPDATE users SET disabled_at = CASE WHEN NOT %(enabled)s THEN coalesce(disabled_at, clock_timestamp()) END
 WHERE email = lower(%(email)s)
RETURNING id::text
"""
_ORGANIZATION = """
SELECT id::text FROM organizations
 WHERE deleted_at IS NULL AND (%(org_id)s::text IS NULL OR id::text = %(org_id)s)
 ORDER BY created_at, id LIMIT 1
"""


def list_all(connection: Connection) -> list[dict[str, Any]]:
    """Every user with their organizations and roles."""
    return [dict(row) for row in connection.exec_driver_sql(_LIST).mappings()]


def find(connection: Connection, email: str) -> str | None:
    """The id of the user with this address."""
    user_id: str | None = connection.exec_driver_sql(_BY_EMAIL, {"email": email}).scalar()
    return user_id


def set_enabled(connection: Connection, email: str, *, enabled: bool) -> str | None:
    """Let a user in, or not any more; their id, None when there is none with this address."""
    user_id: str | None = connection.exec_driver_sql(_ENABLE, {"email": email, "enabled": enabled}).scalar()
    return user_id


def organization(connection: Connection, org_id: str | None) -> str | None:
    """The id of this organization, or of the first one; None when there is none."""
    found: str | None = connection.exec_driver_sql(_ORGANIZATION, {"org_id": org_id}).scalar()
    return found
