"""The OpenAPI document's examples are what the API takes and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import validator_for

from api.app import ROUTES
from api.example_answers import ANSWERS, BY_OPERATION
from api.examples import EXAMPLES, PATCHES
from api.openapi import document
from api.schemas import Body

DRAFT = "https://json-schema.org/draft/2020-12/schema"

BODIES: dict[str, type[Body]] = {
    model.__name__: model
    for route in ROUTES
    for model in (route.facts.get("body"), route.facts.get("items"))
    if model is not None
}
MERGED: dict[str, type[Body]] = {
    route.operation_id: route.facts["body"] for route in ROUTES if route.facts.get("merge")
}
DOCUMENT: dict[str, Any] = document(ROUTES)
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}


def media_of(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON bodies that it takes, and those that it answers with when all is well."""
    answers = [(status, answer) for status, answer in operation["responses"].items() if status.startswith("2")]
    for what, holder in [("body", operation.get("requestBody", {})), *answers]:
        for kind, media in holder.get("content", {}).items():
            if kind.endswith("json"):
                yield f"{what} {kind}", media


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_good_body(name: str) -> None:
    body = BODIES[name].model_validate(EXAMPLES[name])
    assert list(body.problems()) == []


@pytest.mark.parametrize("operation_id", MERGED)
def test_an_example_of_a_patch_changes_a_good_body_to_a_good_one(operation_id: str) -> None:
    model, patch = MERGED[operation_id], PATCHES[operation_id]
    whole = {**EXAMPLES[model.__name__], **patch}
    body = model.model_validate({name: value for name, value in whole.items() if value is not None})
    assert list(body.problems()) == []


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_every_operation_shows_what_it_takes_and_what_it_answers(operation_id: str) -> None:
    for what, media in media_of(OPERATIONS[operation_id]):
        assert "example" in media, f"say in api/examples.py or api/example_answers.py what is the {what}"
        schema = {"$schema": DRAFT, "allOf": [media["schema"]], "components": DOCUMENT["components"]}
        found = validator_for(schema, validate_formats=True).iter_errors(media["example"])
        assert [f"{error.instance_path}: {error.message}" for error in found] == [], what


@pytest.mark.parametrize("name", ANSWERS)
def test_an_example_of_an_answer_holds_just_what_its_model_says(name: str) -> None:
    models = {route.facts["answer"].__name__: route.facts["answer"] for route in ROUTES if "answer" in route.facts}
    shown = [ANSWERS[name]]
    shown += [
        example
        for operation_id, example in BY_OPERATION.items()
        if any(route.operation_id == operation_id and route.facts["answer"].__name__ == name for route in ROUTES)
    ]
    for example in shown:
        models[name].model_validate(example)
        known = {field.alias or field_name for field_name, field in models[name].model_fields.items()}
        assert set(example) <= known


def test_nothing_is_shown_that_no_operation_has() -> None:
    assert set(PATCHES) == set(MERGED)
    assert set(BY_OPERATION) <= set(OPERATIONS)
    assert set(EXAMPLES) == set(BODIES)


def test_an_error_in_the_form_of_the_answer_is_not_shown_as_if_all_were_well() -> None:
    for operation in OPERATIONS.values():
        for status, answer in operation["responses"].items():
            assert status.startswith("2") or all("example" not in media for media in answer.get("content", {}).values())


def test_the_document_shows_them_and_what_creates_has_one() -> None:
    schemas: dict[str, Any] = DOCUMENT["components"]["schemas"]
    for name, example in EXAMPLES.items():
        assert schemas[name]["examples"] == [example]
    creating = {route.facts["body"].__name__ for route in ROUTES if route.idempotent and "body" in route.facts}
    assert creating <= set(EXAMPLES)
