"""The OpenAPI 3.1 document, made from the routes and their pydantic models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.parsing import MAX_ITEMS
from api.routing import Route
from api.schemas import Problem

_VERSION = "1.0.0"
_REF = "#/components/schemas/{model}"
_PATH_PART = re.compile(r"<([a-z_]+)>")

_DESCRIPTION = """
Tocsin watches endpoints, opens exactly one incident per outage, and makes sure that people hear of it.

Send `Authorization: Bearer <token>` with the access token of a login, or an API key (`tcs_…`). Lists are pages:
`next_cursor` of one page is `cursor` of the next. Errors are `application/problem+json`.
"""

Mode = Literal["validation", "serialization"]

#: What a route without a permission takes as Bearer, by its `token`.
_SCHEMES = {"": (), "refresh": ("refreshToken",), "any": ("accessToken", "refreshToken")}


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
            "securitySchemes": {
                "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, `tcs_…`."},
                "refreshToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
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
    return schema["$defs"], {model: found[model, mode] for model, mode in wanted.items()}


def _operation(route: Route, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    text = cleandoc(route.view.__doc__ or "")
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "tags": [route.tag],
        "summary": text.split("\n", 1)[0],
        "description": text,
        "security": _security(route),
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {str(route.facts.get("status", 200)): _answer(route, references)},
    }
    problem = {"description": "Error", "content": {"application/problem+json": {"schema": references[Problem]}}}
    operation["responses"]["default"] = problem
    if route.permission is not None:
        operation["x-permission"] = route.permission
    if body := route.facts.get("body"):
        operation["requestBody"] = _request_body(route, references[body])
    if item := route.facts.get("items"):
        schema = {"type": "array", "maxItems": MAX_ITEMS, "items": references[item]}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
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


def _request_body(route: Route, reference: dict[str, Any]) -> dict[str, Any]:
    if not route.facts.get("merge"):
        return {"required": True, "content": {"application/json": {"schema": reference}}}
    # Any part of the object; what is left out stays.
    name = reference["$ref"].rsplit("/", 1)[1]
    partial = {"type": "object", "description": f"Any fields of {name}; null resets one."}
    kinds = ("application/merge-patch+json", "application/json")
    return {"required": True, "content": {kind: {"schema": partial} for kind in kinds}}


def _answer(route: Route, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    model = route.facts.get("answer")
    if route.facts.get("status", 200) == 204:
        return {"description": "Done"}
    if model is None:
        return {"description": "OK"}
    schema = references[model]
    if route.facts.get("paged"):
        schema = {
            "type": "object",
            "required": ["data", "next_cursor"],
            "properties": {
                "data": {"type": "array", "items": schema},
                "next_cursor": {"type": ["string", "null"]},
            },
        }
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}
