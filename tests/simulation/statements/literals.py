"""Array literals, as the product writes them, back into lists."""

from __future__ import annotations

from typing import Any


def items(literal: str) -> list[Any]:
    """The items of an array literal without quotes, as text."""
    if literal == "{}":
        return []
    return [None if item == "NULL" else item for item in literal[1:-1].split(",")]


def texts(literal: str) -> list[str]:
    """The items of an array literal with quotes, none of which holds one."""
    return [] if literal == "{}" else [item.strip('"') for item in literal[1:-1].split(",")]
