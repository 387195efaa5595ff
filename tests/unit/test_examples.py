"""The OpenAPI document's examples are what the API takes."""

from __future__ import annotations

from typing import Any

import pytest

from api.app import ROUTES
from api.examples import EXAMPLES
from api.openapi import document
from api.schemas import Body

BODIES: dict[str, type[Body]] = {
    model.__name__: model
    for route in ROUTES
    for model in (route.facts.get("body"), route.facts.get("items"))
    if model is not None
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_good_body(name: str) -> None:
    body = BODIES[name].model_validate(EXAMPLES[name])
    assert list(body.problems()) == []


def test_the_document_shows_them_and_what_creates_has_one() -> None:
    schemas: dict[str, Any] = document(ROUTES)["components"]["schemas"]
    for name, example in EXAMPLES.items():
        assert schemas[name]["examples"] == [example]
    creating = {route.facts["body"].__name__ for route in ROUTES if route.idempotent and "body" in route.facts}
    assert creating <= set(EXAMPLES)
