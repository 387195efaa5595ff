"""Routes as data: one entry says path, permission, body and answer; Flask, the OpenAPI document and tests read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, Unpack
from uuid import UUID

from flask import Flask, Response
from pydantic import BaseModel

from api import auth, parsing
from api.replies import reply
from api.schemas import Body, Query
from common.domain.errors import NotFound

View = Callable[..., Any]
V = TypeVar("V", bound=View)


class Facts(TypedDict, total=False):
    """What a route may say about itself; all are optional."""

    permission: str | None  # None: anybody
    body: type[Body]
    items: type[Body]  # the body is an array of these: the view gets them as a list
    merge: bool  # the body is a JSON Merge Patch of `body`: the view gets the bare object
    query: type[Query]
    answer: type[BaseModel]
    paged: bool  # the answer is a page of `answer`
    status: int
    hidden: bool  # not in the OpenAPI document
    token: str  # "refresh": the Bearer is a refresh token


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    view: View
    facts: Facts
    tag: str

    @property
    def operation_id(self) -> str:
        """Its stable name in clients."""
        return self.view.__name__

    @property
    def permission(self) -> str | None:
        """What a caller must be allowed; None: anybody may call."""
        return self.facts.get("permission")


class Routes:
    """The routes of one resource."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def get(self, path: str, **facts: Unpack[Facts]) -> Callable[[V], V]:
        """Register a view for GET."""
        return self._add("GET", path, facts)

    def post(self, path: str, **facts: Unpack[Facts]) -> Callable[[V], V]:
        """Register a view for POST."""
        return self._add("POST", path, facts)

    def put(self, path: str, **facts: Unpack[Facts]) -> Callable[[V], V]:
        """Register a view for PUT."""
        return self._add("PUT", path, facts)

    def patch(self, path: str, **facts: Unpack[Facts]) -> Callable[[V], V]:
        """Register a view for PATCH."""
        return self._add("PATCH", path, facts)

    def delete(self, path: str, **facts: Unpack[Facts]) -> Callable[[V], V]:
        """Register a view for DELETE, answered by 204."""
        facts.setdefault("status", 204)
        return self._add("DELETE", path, facts)

    def _add(self, method: str, path: str, facts: Facts) -> Callable[[V], V]:
        def register(view: V) -> V:
            self._routes.append(Route(method, path, view, facts, self._tag))
            return view

        return register


def mount(app: Flask, routes: Iterable[Route]) -> None:
    """Let Flask answer these routes."""
    for route in routes:
        app.add_url_rule(route.path, f"{route.method} {route.path}", _endpoint(route), methods=[route.method])


def _endpoint(route: Route) -> Callable[..., Response]:
    """Permission first, then the path's ids, query and body; a stranger learns nothing from our complaints."""
    facts = route.facts
    body, query, status = facts.get("body"), facts.get("query"), facts.get("status", 200)
    items = facts.get("items")

    def endpoint(**path: str) -> Response:
        if route.permission is not None:
            auth.require(route.permission)
        arguments: dict[str, Any] = {name: _path_value(name, text) for name, text in path.items()}
        if query is not None:
            arguments["query"] = parsing.read_query(query)
        if body is not None:
            value = parsing.read_object()
            arguments["body"] = value if facts.get("merge") else parsing.validate(body, value)
        if items is not None:
            arguments["body"] = parsing.validate_all(items, parsing.read_array())
        answer = route.view(**arguments)
        return answer if isinstance(answer, Response) else reply(answer, status)

    return endpoint


def _path_value(name: str, text: str) -> str:
    """An id that cannot be one belongs to nothing, like one that belongs to somebody else."""
    if not name.endswith("_id"):
        return text
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFound(name.removesuffix("_id").replace("_", " ")) from None
