"""Write docs/permissions.md from the routes and the one table of permissions: `python -m tools.permission_table`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from api.app import ROUTES
from api.permissions import OPERATOR, PERMISSIONS, PERSONAL, ROLES
from api.routing import Route

PATH = Path(__file__).parent.parent / "docs" / "permissions.md"

_HEAD = """\
# Who may do what

Made from the routes and from `api/permissions.py` by `python -m tools.permission_table`; tests walk every line of it.

A **key** has what its role has, without what is personal, and within its scopes if it has any: a scope is the name of a
permission. The **operator** holds a platform key (`tocsin platform-key create`), which belongs to no organization.
Whatever the role: an id of another organization is answered like one that does not exist, 404.
"""

#: Columns of both tables.
_WHO = (*ROLES, "key", OPERATOR)

_OPEN = {
    "": "nothing, or what stands in the request itself",
    "refresh": "a refresh token",
    "any": "an access or refresh token",
    "key": "an API or platform key, also in the path or as Basic",
}


def render() -> str:
    """The file's text."""
    return "\n".join([_HEAD, *_permissions(), "", *_routes(), "", *_open_routes(), ""])


def _permissions() -> Iterator[str]:
    yield "## Permissions"
    yield ""
    yield f"| permission | {' | '.join(_WHO)} |"
    yield f"|---{'|:---:' * len(_WHO)}|"
    for name in PERMISSIONS:
        yield f"| `{name}` | {_cells(name)} |"


def _routes() -> Iterator[str]:
    yield "## Routes"
    for tag, group in groupby(sorted(_shown(closed=True), key=lambda route: route.tag), key=lambda route: route.tag):
        yield ""
        yield f"### {tag.capitalize()}"
        yield ""
        yield f"| route | permission | {' | '.join(_WHO)} |"
        yield f"|---|---{'|:---:' * len(_WHO)}|"
        for route in group:
            yield f"| `{_call(route)}` | `{route.permission}` | {_cells(str(route.permission))} |"


def _open_routes() -> Iterator[str]:
    yield "## Routes without a permission"
    yield ""
    yield "| route | what it takes |"
    yield "|---|---|"
    for route in _shown(closed=False):
        yield f"| `{_call(route)}` | {_OPEN[route.facts.get('token', '')]} |"


def _shown(*, closed: bool) -> list[Route]:
    return [route for route in ROUTES if (route.permission is not None) is closed]


def _call(route: Route) -> str:
    return f"{route.method} {route.path.replace('<', '{').replace('>', '}')}"


def _cells(permission: str) -> str:
    roles = PERMISSIONS[permission]
    by_key = permission not in PERSONAL and bool(roles & set(ROLES))
    has = [*(role in roles for role in ROLES), by_key, OPERATOR in roles]
    return " | ".join("●" if one else "" for one in has)


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
