"""Which monitors a query string asks for, and where its cursor says to go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from api import pagination
from api.monitor_documents import status_of
from api.schemas_monitor_lists import MonitorQuery
from common.domain.errors import FieldError, ValidationFailed
from common.store.monitor_lists import MonitorFilter, Place, word_count

#: Each is looked for by itself, and a short one finds much.
MAX_WORDS = 12

_SORTED_BY_NAME = frozenset({"name", "-name"})


def of_query(query: MonitorQuery) -> MonitorFilter:
    """What a list shows. Raises ValidationFailed."""
    if query.q is not None and not 1 <= word_count(query.q) <= MAX_WORDS:
        raise _wrong("q", f"must hold 1 to {MAX_WORDS} words; punctuation separates them")
    labels, keys = _labels(query.label or [])
    return MonitorFilter(said=query.q, labels=labels, label_keys=keys, types=query.type, states=query.state)


def exact_labels(texts: Sequence[str] | None) -> dict[str, str] | None:
    """The labels in a query, each with its value. Raises ValidationFailed."""
    return _labels(texts or [])[0]


def after(query: MonitorQuery) -> Place | None:
    """Where its page begins, None without a cursor. Raises ValidationFailed."""
    if query.cursor is None:
        return None
    parts = pagination.decode_parts(query.cursor)
    try:
        of, id_, *place = parts
        found = Place(str(UUID(id_)), *_typed(query.sort, place))
    except (ValueError, TypeError, AttributeError):
        # A well-formed cursor of another list or sort looks like this, too.
        raise _other() from None
    if of != _of(query):
        raise _other()
    return found


def cursor(query: MonitorQuery, row: Mapping[str, Any]) -> str:
    """What leads to the page after this row."""
    at = row["created_at"].isoformat()
    place = [row["name_place"]] if query.sort in _SORTED_BY_NAME else [at]
    if query.sort == "state":
        place.append(status_of(row).value)
    return pagination.encode_parts([_of(query), row["id"], *place])


def _typed(sort: str, place: Sequence[Any]) -> tuple[datetime | None, str | None, str | None]:
    first, *rest = place
    if not isinstance(first, str) or any(not isinstance(part, str) for part in rest):
        raise TypeError("not texts")
    if len(rest) != (1 if sort == "state" else 0) or "\x00" in first:
        raise ValueError("another sort's")
    first.encode()  # half of a surrogate pair is a ValueError, too
    if sort in _SORTED_BY_NAME:
        return None, first, None
    moment = datetime.fromisoformat(first)
    if moment.utcoffset() is None:
        raise ValueError("a time without a zone")
    return moment, None, rest[0] if rest else None


def _of(query: MonitorQuery) -> str:
    """Which list a cursor belongs to: its sort and filters; neither the page's size nor the fields matter."""
    filters = [
        query.sort,
        query.q,
        *(sorted(set(chosen)) if chosen else None for chosen in (query.state, query.label, query.type)),
    ]
    return hashlib.sha256(json.dumps(filters).encode()).hexdigest()[:16]


def _labels(texts: Sequence[str]) -> tuple[dict[str, str] | None, list[str] | None]:
    labels: dict[str, str] = {}
    keys: list[str] = []
    for text in texts:
        key, colon, value = text.partition(":")
        if not colon:
            keys.append(key)
        elif labels.setdefault(key, value) != value:
            raise _wrong("label", f"{key} cannot have two values at once")
    return labels or None, keys or None


def _other() -> ValidationFailed:
    return _wrong("cursor", "belongs to a list with another sort or other filters; begin again without it")


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("Some parameters are wrong.", details=[FieldError(field, message)])
