"""Who may do what: the one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: From the mightiest down; a role may hand out itself and everything after it.
ROLES = ("owner", "admin", "editor", "viewer")

_ALL = frozenset(ROLES)
_EDITORS = frozenset({"owner", "admin", "editor"})
_ADMINS = frozenset({"owner", "admin"})

#: Who holds a platform key: above all organizations, and in none of them.
OPERATOR = "operator"

#: {permission: roles that have it}
PERMISSIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "account:read": _ALL,
        "alerts:write": _EDITORS | {OPERATOR},
        "api-keys:read": _ADMINS,
        "api-keys:write": _ADMINS,
        "channels:read": _ALL,
        "channels:write": _EDITORS,
        "incidents:read": _ALL,
        "incidents:write": _EDITORS,
        "locations:read": _ALL,
        "monitors:check": _EDITORS,  # a check sends traffic to the target
        "monitors:read": _ALL,
        "monitors:write": _EDITORS,
        "notifications:read": _ALL,
        "organizations:read": frozenset({OPERATOR}),
        "organizations:write": frozenset({OPERATOR}),
    }
)


def allows(role: str, permission: str) -> bool:
    """Whether a role has a permission."""
    return role in PERMISSIONS[permission]


def permissions_of(role: str) -> list[str]:
    """Everything that a role may do."""
    return [permission for permission, roles in PERMISSIONS.items() if role in roles]


def covers(role: str, other: str) -> bool:
    """Whether `role` is at least as mighty as `other`."""
    return ROLES.index(role) <= ROLES.index(other)
