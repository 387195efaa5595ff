"""The OpenAPI 3.1 document, made from the routes and their pydantic models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from inspect import cleandoc
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api import idempotency, problems
from api.example_answers import ANSWERS, BY_OPERATION
from api.examples import EXAMPLES, PATCHES
from api.parsing import MAX_ITEMS
from api.routing import Route
from api.schemas import Problem

_VERSION = "1.0.0"
_REF = "#/components/schemas/{model}"
_PATH_PART = re.compile(r"<([a-z_]+)>")

_DESCRIPTION = """
Tocsin watches endpoints, opens exactly one incident per outage, and makes sure that people hear of it.

Send `Authorization: Bearer <token>` with the access token of a login, or an API key (`tcs_…`). Lists are pages:
`next_cursor` of one page is `cursor` of the next. Errors are `application/problem+json`. What creates takes an
`Idempotency-Key`: sent again with the same body it is answered as before and makes nothing new. Every answer has an
`X-Request-ID`; limited ones say in `RateLimit` what is left.
"""

_SECURITY = {
    "accessToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `access_token` of a login, good for 15 minutes.",
    },
    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, `tcs_…`, or the operator's, `tcp_…`."},
    "basicKey": {"type": "http", "scheme": "basic", "description": "An API key as user name or password."},
    "refreshToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `refresh_token` of a login, good once.",
    },
}

#: An idempotency key: printable ASCII, with no space at its ends.
_KEY = {
    "type": "string",
    "minLength": 1,
    "maxLength": idempotency.MAX_KEY_CHARS,
    "pattern": "^[\\x21-\\x7e]([\\x20-\\x7e]*[\\x21-\\x7e])?$",
}

Mode = Literal["validation", "serialization"]

#: What a route without a permission takes, by its `token`.
_SCHEMES = {
    "": (),
    "refresh": ("refreshToken",),
    "any": ("accessToken", "refreshToken"),
    "key": ("apiKey", "basicKey"),
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document."""
    shown = [route for route in routes if not route.facts.get("hidden")]
    definitions, references = _schemas(shown)
    paths: dict[str, Any] = {}
    for route in shown:
        path = _PATH_PART.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tocsin", "version": _VERSION, "description": cleandoc(_DESCRIPTION)},
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in shown)],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "responses": problems.components(references[Problem]),
            "headers": problems.HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


def _schemas(routes: list[Route]) -> tuple[dict[str, Any], dict[type[BaseModel], Any]]:
    """All models' schemas by name, and a reference for each model."""
    wanted: dict[type[BaseModel], Mode] = {Problem: "serialization"}
    for route in routes:
        for model in (route.facts.get("body"), route.facts.get("items")):
            if model is not None:
                wanted[model] = "validation"
        if answer := route.facts.get("answer"):
            wanted[answer] = "serialization"
    found, schema = models_json_schema(list(wanted.items()), ref_template=_REF)
    definitions: dict[str, Any] = schema["$defs"]
    for query in filter(None, (route.facts.get("query") for route in routes)):
        definitions |= query.model_json_schema(ref_template=_REF).get("$defs", {})
    for name, example in EXAMPLES.items():
        if name in definitions:
            definitions[name]["examples"] = [example]
    return definitions, {model: found[model, mode] for model, mode in wanted.items()}


def _operation(route: Route, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    text = cleandoc(route.view.__doc__ or "")
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "tags": [route.tag],
        "summary": text.split("\n", 1)[0],
        "description": text,
        "security": _security(route),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route, references),
    }
    if route.permission is not None:
        operation["x-permission"] = route.permission
    if body := route.facts.get("body"):
        operation["requestBody"] = _request_body(route, body, references[body])
    if item := route.facts.get("items"):
        schema = {"type": "array", "maxItems": MAX_ITEMS, "items": references[item]}
        content = {"application/json": {"schema": schema, "example": [EXAMPLES[item.__name__]]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.permission is not None:
        return [{"accessToken": []}, {"apiKey": []}]
    return [{name: []} for name in _SCHEMES[route.facts.get("token", "")]]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"} if name.endswith("_id") else {"type": "string"},
        }
        for name in _PATH_PART.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    query = route.facts.get("query")
    if query is None:
        return []
    properties = query.model_json_schema(ref_template=_REF).get("properties", {})
    return [
        {"name": name, "in": "query", "required": False, "explode": name in query.LISTS, "schema": schema}
        for name, schema in properties.items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    if route.idempotent:
        found.append(_header(idempotency.HEADER, "Yours, new for every new request; remembered for 24 hours.", _KEY))
    if route.facts.get("versioned"):
        name, then = ("If-Match", "otherwise 412") if route.writes else ("If-None-Match", "then 304")
        found.append(_header(name, f"An ETag: whether the version is that one still; {then}.", {"type": "string"}))
    if route.facts.get("media_type") == "text/event-stream":
        said = "The id of the last event that was received; the stream goes on after it."
        found.append(_header("Last-Event-ID", said, {"type": "string", "maxLength": 40}))
    return found


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _request_body(route: Route, body: type[BaseModel], reference: dict[str, Any]) -> dict[str, Any]:
    if not route.facts.get("merge"):
        content = {"application/json": {"schema": reference, "example": EXAMPLES[body.__name__]}}
        return {"required": True, "content": content}
    # Any part of the object; what is left out stays.
    name = reference["$ref"].rsplit("/", 1)[1]
    fields = {
        field: {"anyOf": [{"$ref": f"{reference['$ref']}/properties/{field}"}, {"type": "null"}]}
        for field in (info.alias or name for name, info in body.model_fields.items())
    }
    partial = {"type": "object", "description": f"Any fields of {name}; null resets one.", "properties": fields}
    kinds = ("application/merge-patch+json", "application/json")
    shown = {"schema": partial, "example": PATCHES[route.operation_id]}
    return {"required": True, "content": dict.fromkeys(kinds, shown)}


def _responses(route: Route, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    """The answer when all is well, and every other that can come."""
    good = _answer(route, references)
    responses = {str(route.status): good}
    for status in route.facts.get("own_errors", ()):
        responses[str(status)] = {**_without_example(good), "description": HTTPStatus(status).phrase}
    for status in problems.statuses(route):
        if status in problems.KINDS:
            responses[str(status)] = {"$ref": f"#/components/responses/{problems.KINDS[status].name}"}
        elif status == 200 and route.idempotent:
            replayed = {idempotency.REPLAYED: {"$ref": f"#/components/headers/{idempotency.REPLAYED}"}}
            responses["200"] = {**good, "description": "Done before, and answered again", "headers": replayed}
        elif status == 202 != route.status:
            responses["202"] = {"description": "Accepted: the rest follows by mail"}
        elif status == HTTPStatus.NOT_MODIFIED:
            responses[str(status)] = {"description": "It is still the version that was named"}
        else:
            responses[str(status)] = {**good, "description": HTTPStatus(status).phrase}
    return dict(sorted(responses.items()))


def _answer(route: Route, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    model = route.facts.get("answer")
    if route.status == 204:
        return {"description": "Done"}
    if media_type := route.facts.get("media_type"):
        return {"description": "OK", "content": {media_type: {"schema": {"type": "string"}}}}
    if model is None:
        return {"description": "OK"}
    schema, example = references[model], BY_OPERATION.get(route.operation_id, ANSWERS[model.__name__])
    if route.facts.get("paged"):
        example = {"data": [example], "next_cursor": None}
        schema = {
            "type": "object",
            "required": ["data", "next_cursor"],
            "properties": {
                "data": {"type": "array", "items": schema},
                "next_cursor": {"type": ["string", "null"]},
            },
        }
    headers = {"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}} if route.facts.get("versioned") else {}
    content = {"application/json": {"schema": schema, "example": example}}
    if route.facts.get("listed"):
        content = {"application/json": {"schema": {"type": "array", "items": schema}, "example": [example]}}
    if other := route.facts.get("other_media_type"):
        content[other] = {"schema": {"type": "string"}}
    return {"description": "OK", **headers, "content": content}


def _without_example(answer: dict[str, Any]) -> dict[str, Any]:
    """The same form for an error: what stands in the example is how it looks when all is well."""
    content = {kind: {"schema": media["schema"]} for kind, media in answer["content"].items()}
    return {**answer, "content": content}
