"""Routes as data: one entry says path, permission, body and answer; Flask, the OpenAPI document and tests read it.

What has to hold for all of them follows from that, so that no route can miss it: what creates takes an Idempotency-Key,
what writes is limited and leaves a row in the audit log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, Unpack

from flask import Flask, Response, g, request
from pydantic import BaseModel
from werkzeug.routing import BaseConverter, Map

from api import auth, idempotency, limits, parsing
from api.replies import reply
from api.schemas import Body, Query, exact_id
from common.domain.errors import Forbidden, NotFound, Unauthorized

View = Callable[..., Any]
V = TypeVar("V", bound=View)

_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Facts(TypedDict, total=False):
    """What a route may say about itself; all are optional."""

    permission: str | None  # None: anybody
    body: type[Body]
    items: type[Body]  # the body is an array of these: the view gets them as a list
    merge: bool  # the body is a JSON Merge Patch of `body`: the view gets the bare object
    query: type[Query]
    answer: type[BaseModel]
    media_type: str  # of an answer that is no JSON
    other_media_type: str  # of the same answer in another form, on request
    paged: bool  # the answer is a page of `answer`
    listed: bool  # the answer is an array of `answer`, where what others defined says so
    status: int
    statuses: tuple[int, ...]  # that it may answer with beside `status` and what the other facts imply
    own_errors: tuple[int, ...]  # errors in the form of the answer, where what others defined says so
    hidden: bool  # not in the OpenAPI document
    token: str  # what a route without permission takes: "refresh", "any" (both tokens), "key"
    versioned: bool  # answers with an ETag: to read takes If-None-Match (304), to change If-Match (412)
    idempotent: bool  # takes an Idempotency-Key; default: a POST that answers 201
    limit: str  # the rate limit that counts it (api/limits.py), "" for none; the default is in Route.limit
    audited: bool  # leaves a row in the audit log; default: what writes under /v1 behind a permission
    max_bytes: int  # of the body; the default is in Route.max_bytes


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

    @property
    def status(self) -> int:
        """Of the answer when all is well."""
        return self.facts.get("status", 200)

    @property
    def writes(self) -> bool:
        """Whether it is there to change something."""
        return self.method in _WRITING

    @property
    def idempotent(self) -> bool:
        """Whether it takes an Idempotency-Key: a key is somebody's, so only behind a permission."""
        creates = self.method == "POST" and self.status == 201
        return self.permission is not None and self.facts.get("idempotent", creates)

    @property
    def limit(self) -> str:
        """The rate limit that counts it: what lets people in by address and account, the rest by who calls."""
        if (given := self.facts.get("limit")) is not None:
            return given
        if (self.writes and self.path.startswith("/v1/auth/")) or (
            self.permission is None and self.path.startswith("/v1/")
        ):
            return limits.AUTH
        if self.writes:
            return limits.WRITES
        return limits.READS if self.path.startswith("/v1/") else ""

    @property
    def audited(self) -> bool:
        """Whether each change that it makes stands in the audit log."""
        changes = self.writes and self.path.startswith("/v1/") and self.permission is not None
        return self.facts.get("audited", changes)

    @property
    def max_bytes(self) -> int:
        """How large its body may be."""
        return self.facts.get("max_bytes", parsing.MAX_ARRAY_BYTES if "items" in self.facts else parsing.MAX_BODY_BYTES)


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


class NotLiteral(BaseConverter):
    """An id in a path, but not a word that is a path of its own there: DELETE /v1/invites/accept is 405, not 404."""

    part_isolating = True

    def __init__(self, url_map: Map, *words: str) -> None:
        super().__init__(url_map)
        self.regex = f"(?!(?:{'|'.join(map(re.escape, words))})$)[^/]+"


def mount(app: Flask, routes: Iterable[Route]) -> None:
    """Let Flask answer these routes; each endpoint is named by its method and path."""
    app.url_map.converters["id"] = NotLiteral
    mounted = list(routes)
    words = _words(mounted)
    for route in mounted:
        name = f"{route.method} {route.path}"
        app.add_url_rule(_rule(route.path, words), name, _endpoint(route), methods=[route.method])


def _words(routes: Iterable[Route]) -> dict[str, list[str]]:
    """Which words stand directly below a path."""
    found: dict[str, set[str]] = {}
    for route in routes:
        above = ""
        for part in route.path.split("/")[1:]:
            if not part.startswith("<"):
                found.setdefault(above, set()).add(part)
            above = f"{above}/{part}"
    return {above: sorted(parts) for above, parts in found.items()}


def _rule(path: str, words: Mapping[str, Sequence[str]]) -> str:
    """The path as Werkzeug takes it: an id never is one of the words that may stand in its place."""
    made, above = "", ""
    for part in path.split("/")[1:]:
        taken = words.get(above, ()) if part.startswith("<") else ()
        made += f"/<id({', '.join(map(repr, taken))}):{part[1:]}" if taken else f"/{part}"
        above = f"{above}/{part}"
    return made


def _endpoint(route: Route) -> Callable[..., Response]:
    """Who calls comes first, then the path's ids, query and body; a stranger learns nothing from our complaints."""
    facts = route.facts
    body, query, items = facts.get("body"), facts.get("query"), facts.get("items")

    def endpoint(**path: str) -> Response:
        g.operation = route.operation_id
        request.max_content_length = route.max_bytes
        _admit(route)
        arguments: dict[str, Any] = {name: _path_value(name, text) for name, text in path.items()}
        if query is not None:
            arguments["query"] = parsing.read_query(query)
        sent: Any = None
        if body is not None:
            sent = parsing.read_object()
            arguments["body"] = sent if facts.get("merge") else parsing.validate(body, sent)
        if items is not None:
            sent = parsing.read_array()
            arguments["body"] = parsing.validate_all(items, sent)
        if route.limit == limits.AUTH and isinstance(sent, dict) and isinstance(sent.get("email"), str):
            limits.count_account(sent["email"])

        def act() -> Response:
            answer = route.view(**arguments)
            return answer if isinstance(answer, Response) else reply(answer, route.status)

        return idempotency.once(sent, act) if route.idempotent else act()

    return endpoint


def _admit(route: Route) -> None:
    """Who calls, whether they may, and whether they come too often. Who is not let in is counted too."""
    if route.limit and (route.permission is None or route.limit == limits.AUTH):
        limits.count_address(route.limit)
    if route.permission is None:
        return
    try:
        auth.require(route.permission)
    except Unauthorized:
        limits.count_address(limits.WRITES)
        raise
    except Forbidden:
        limits.count_caller(route.limit or limits.WRITES)
        raise
    if route.limit:
        limits.count_caller(route.limit)


def _path_value(name: str, text: str) -> str:
    """An id that cannot be one belongs to nothing, like one that belongs to somebody else."""
    if not name.endswith("_id"):
        return text
    try:
        return exact_id(text)
    except ValueError:
        raise NotFound(name.removesuffix("_id").replace("_", " ")) from None
