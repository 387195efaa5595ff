"""pydantic's complaints in our words: every wrong field by its dotted path."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from common.domain.errors import FieldError

#: What pydantic says in words that are not ours.
_MESSAGES = {"extra_forbidden": "unknown field", "missing": "is required", "model_type": "must be an object"}


def field_errors(error: ValidationError, prefix: str = "") -> list[FieldError]:
    """Each wrong field; `prefix` ("config.") says where the validated value stands in the body."""
    items = error.errors(include_url=False, include_context=False, include_input=False)
    return [FieldError(prefix + _path(item), _message(item)) for item in items]


def _path(item: ErrorDetails) -> str:
    # "[key]" marks a dict's key as such: the key itself stands before it.
    return ".".join(str(part)[:100] for part in item["loc"] if part != "[key]") or "body"


def _message(item: ErrorDetails) -> str:
    return _MESSAGES.get(item["type"]) or item["msg"].removeprefix("Value error, ").replace("Input should", "should")
