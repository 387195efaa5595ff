"""Who may do what: the one table. docs/permissions.md is made from it and from the routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        "account:write": _ALL,
        "alerts:write": _EDITORS | {OPERATOR},
        "api-keys:read": _ADMINS,
        "api-keys:write": _ADMINS,
        "audit-log:read": _ADMINS,
        "channels:read": _ALL,
        "channels:write": _EDITORS,
        "incidents:read": _ALL,
        "incidents:write": _EDITORS,
        "invites:read": _ADMINS,
        "invites:write": _ADMINS,
        "locations:read": _ALL,
        "maintenance:read": _ALL,
        "maintenance:write": _EDITORS,
        "memberships:read": _ALL,
        "memberships:write": _ADMINS,
        "monitors:check": _EDITORS,  # a check sends traffic to the target
        "monitors:read": _ALL,
        "monitors:write": _EDITORS,
        "notifications:read": _ALL,
        "notifications:write": _EDITORS,
        "organization:read": _ALL,
        "organization:write": _ADMINS,
        "organizations:read": frozenset({OPERATOR}),
        "organizations:write": frozenset({OPERATOR}),
        "probes:write": _EDITORS,  # Prometheus' /probe: a key for nothing but this can be made
        "queues:read": _ADMINS | {OPERATOR},  # of the whole installation: the operator's alone where all may register
        "queues:write": _ADMINS | {OPERATOR},
        "routes:read": _ALL,
        "routes:write": _EDITORS,
        "silences:read": _ALL,
        "silences:write": _EDITORS,
        "users:read": _ALL,
    }
)

#: A person's own password and sessions: no key has these, whatever its role.
PERSONAL = frozenset({"account:write"})


#: What a key may be limited to. A key without scopes has everything of its role.
SCOPES = tuple(name for name, roles in PERMISSIONS.items() if name not in PERSONAL and roles & _ALL)


def allows(role: str, permission: str) -> bool:
    """Whether a role has a permission."""
    return role in PERMISSIONS[permission]


def permissions_of(role: str, scopes: Sequence[str] | None = None, *, key: bool = False) -> list[str]:
    """Everything that a role may do; by a key nothing personal, and within its scopes only."""
    return [
        permission
        for permission, roles in PERMISSIONS.items()
        if role in roles and (scopes is None or permission in scopes) and not (key and permission in PERSONAL)
    ]


def covers(role: str, other: str) -> bool:
    """Whether `role` is at least as mighty as `other`."""
    return ROLES.index(role) <= ROLES.index(other)
