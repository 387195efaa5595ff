"""Columns as PostgreSQL array literals: one string each, several times cheaper than dumping item by item."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime


def integers(values: Iterable[int | None]) -> str:
    """A literal for smallint[], int[] or bigint[]; None is NULL. Enums and booleans must be plain integers by then."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def reals(values: Iterable[float]) -> str:
    """A literal for real[] or double precision[]."""
    return "{" + ",".join(map(repr, values)) + "}"


def words(values: Iterable[str | None]) -> str:
    """A literal of what needs no quotes: ids, enums, moments as ISO 8601 has them; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else value for value in values]) + "}"


def texts(values: Iterable[str]) -> str:
    """A literal for text[], whatever the texts hold."""
    return "{" + ",".join(['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]) + "}"


def moments(values: Iterable[datetime]) -> str:
    """A literal for timestamptz[], of aware datetimes."""
    return "{" + ",".join([value.isoformat() for value in values]) + "}"
