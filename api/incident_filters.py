"""Which incidents a query string or a body asks for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from api.context import caller
from api.schemas_incidents import IncidentFilterIn, IncidentQuery
from common.domain.errors import FieldError, ValidationFailed
from common.domain.incident import Status
from common.store.incidents_read import IncidentFilter, search_terms


def of_query(query: IncidentQuery) -> IncidentFilter:
    """What a list shows. Raises ValidationFailed."""
    labels = None if query.label is None else _labels(query.label)
    return IncidentFilter(status=query.status, labels=labels, **_common(query))


def of_body(wanted: IncidentFilterIn) -> IncidentFilter:
    """The open ones among what a body describes. Raises ValidationFailed."""
    return IncidentFilter(status=[Status.OPEN.value], labels=wanted.labels or None, **_common(wanted, "filter."))


def _common(wanted: IncidentQuery | IncidentFilterIn, prefix: str = "") -> dict[str, Any]:
    words, beginning = (None, None) if wanted.q is None else _search(wanted.q, prefix + "q")
    return {
        "severity": wanted.severity,
        "priority": wanted.priority,
        "source": wanted.source,
        "monitor_id": None if wanted.monitor_id is None else str(wanted.monitor_id),
        "assignee": _assignee(wanted.assignee, prefix + "assignee"),
        "unassigned": wanted.assignee == "none",
        "opened_after": wanted.opened_after,
        "opened_before": wanted.opened_before,
        "words": words,
        "prefix": beginning,
    }


def _labels(texts: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition(":")
        if labels.setdefault(name, value) != value:
            raise _wrong("label", f"{name} cannot have two values at once")
    return labels


def _search(text: str, field: str) -> tuple[str, str]:
    terms = search_terms(text)
    if terms is None:
        raise _wrong(field, "must hold a letter or a digit")
    return terms


def _assignee(text: str | None, field: str) -> str | None:
    if text is None or text == "none":
        return None
    if text != "me":
        return str(UUID(text))
    if caller().user_id is None:
        raise _wrong(field, "an API key is nobody: name a user")
    return caller().user_id


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("Some parameters are wrong.", details=[FieldError(field, message)])
