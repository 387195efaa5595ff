"""Columns of numbers as PostgreSQL array literals: one string each, several times cheaper than dumping item by item."""

from __future__ import annotations

from collections.abc import Iterable


def integers(values: Iterable[int | None]) -> str:
    """A literal for smallint[], int[] or bigint[]; None is NULL. Enums and booleans must be plain integers by then."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def reals(values: Iterable[float]) -> str:
    """A literal for real[] or double precision[]."""
    return "{" + ",".join(map(repr, values)) + "}"
