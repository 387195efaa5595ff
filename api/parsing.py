"""From a request to checked values: JSON read strictly, then pydantic, every wrong field named by its dotted path."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

from flask import request
from pydantic import ValidationError
from pydantic_core import from_json
from werkzeug.exceptions import RequestEntityTooLarge

from api.complaints import field_errors
from api.schemas import Body, Query
from common.domain.errors import FieldError, UnsupportedMedia, ValidationFailed

B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)

MAX_BODY_BYTES = 1024 * 1024
#: Of a body that is an array.
MAX_ARRAY_BYTES = 5 * MAX_BODY_BYTES
#: Of a body that is an array.
MAX_ITEMS = 1_000
#: Nobody reads a thousand complaints about one body.
_MAX_DETAILS = 100
_MAX_NUMBER = 2**63 - 1


def read_object() -> dict[str, Any]:
    """The request's body as a JSON object without anything that PostgreSQL could not store."""
    _require_json()
    value = read_json()
    if not isinstance(value, dict):
        raise _failed("The body must be a JSON object.", [FieldError("body", "must be an object")])
    return value


def read_array() -> list[Any]:
    """The request's body as a JSON array of at most MAX_ITEMS, without anything that PostgreSQL could not store."""
    _require_json()
    value = read_json()
    if not isinstance(value, list):
        raise _failed("The body must be a JSON array.", [FieldError("body", "must be an array")])
    if len(value) > MAX_ITEMS:
        raise _failed("The array is too long.", [FieldError("body", f"must have at most {MAX_ITEMS} items")])
    return value


def read_json() -> Any:
    """The request's body, whatever Content-Type it has, without anything that PostgreSQL could not store."""
    data, twice = _read(), set[str]()
    try:
        value = from_json(data, allow_inf_nan=False)
        # Once more for what that one passes over: of two values of one name it silently takes the last.
        json.loads(data, object_pairs_hook=partial(_note_twice, twice))
    except ValueError as error:
        raise _failed("The body is not valid JSON.", [FieldError("body", str(error)[:200])]) from None
    if twice:
        wrong = [FieldError(name[:100].replace("\x00", ""), "must be given once") for name in sorted(twice)]
        raise _failed("Some names are given more than once in an object.", wrong)
    wrong = list(_unstorable(value, ""))
    if wrong:
        raise _failed("The body holds values that cannot be stored.", wrong)
    return value


def _note_twice(twice: set[str], pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len(names := Counter(name for name, _ in pairs)) < len(pairs):
        twice.update(name for name, times in names.items() if times > 1)


def _require_json() -> None:
    kind = request.mimetype
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMedia("The body must be JSON: Content-Type must be application/json.")


def validate(model: type[B], value: dict[str, Any]) -> B:
    """The value as this model; fields that only the server writes are ignored. Raises ValidationFailed."""
    body, wrong = _checked(model, value)
    if body is None or wrong:
        raise _failed("Some fields are wrong.", wrong)
    return body


def validate_all(model: type[B], values: list[Any]) -> list[B]:
    """Every value as this model. Raises one ValidationFailed with all that is wrong with any, by its index."""
    bodies: list[B] = []
    wrong: list[FieldError] = []
    for index, value in enumerate(values):
        body, problems = _checked(model, value, f"{index}.")
        wrong += problems
        if body is not None:
            bodies.append(body)
    if wrong:
        raise ValidationFailed("Some items are wrong; none of them was taken.", details=wrong[:MAX_ITEMS])
    return bodies


def read_query(model: type[Q]) -> Q:
    """The query string as this model; a list may be repeated or separated by commas. Raises ValidationFailed."""
    values: dict[str, Any] = {}
    for name, given in request.args.lists():
        if any("\x00" in text for text in (name, *given)):
            raise _failed("Some parameters are wrong.", [FieldError(name.replace("\x00", ""), "must not hold NUL")])
        if name in model.LISTS:
            values[name] = [part for text in given for part in text.split(",")]
        elif len(given) > 1:
            raise _failed("Some parameters are wrong.", [FieldError(name, "must be given once")])
        else:
            values[name] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _failed("Some parameters are wrong.", field_errors(error)) from None


def merge(target: Any, patch: Any) -> Any:
    """JSON Merge Patch, RFC 7396: null removes, an object merges, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _read() -> bytes:
    data = request.get_data(cache=False)
    # Werkzeug refuses a Content-Length beyond the cap, but cuts a chunked body off at it without a word.
    if request.content_length is None and len(data) >= (request.max_content_length or MAX_BODY_BYTES):
        raise RequestEntityTooLarge
    return data


def _checked(model: type[B], value: Any, prefix: str = "") -> tuple[B | None, list[FieldError]]:
    if isinstance(value, dict):
        value = {name: item for name, item in value.items() if name not in model.READ_ONLY}
    try:
        body = model.model_validate(value)
    except ValidationError as error:
        return None, field_errors(error, prefix)
    return body, [FieldError(prefix + problem.field, problem.message) for problem in body.problems()]


def _unstorable(value: Any, path: str) -> Iterator[FieldError]:
    """NUL (PostgreSQL's text cannot hold it), infinities and integers beyond 64 bits, wherever they hide."""
    if isinstance(value, str):
        if "\x00" in value:
            yield FieldError(path, "must not hold NUL characters")
    elif isinstance(value, dict):
        for name, item in value.items():
            inner = f"{path}.{name[:100]}" if path else name[:100]
            if "\x00" in name:
                yield FieldError(inner.replace("\x00", ""), "names must not hold NUL characters")
            yield from _unstorable(item, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, f"{path}.{index}")
    elif isinstance(value, int | float) and abs(value) > _MAX_NUMBER:
        yield FieldError(path, "is too large a number")


def _failed(message: str, details: list[FieldError]) -> ValidationFailed:
    return ValidationFailed(message, details=details[:_MAX_DETAILS])
