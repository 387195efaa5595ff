"""/v1/summary: how many monitors are how, by group."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response

from api.context import caller, services
from api.replies import as_json
from api.routing import Routes
from api.schemas_pages import Summary, SummaryQuery
from common.domain.errors import FieldError, ValidationFailed
from common.store import summaries
from common.store.engine import Database
from common.store.summaries import Counts, Grouping

routes = Routes("pages")

#: The groups that are shown one by one.
MAX_GROUPS = 500


@routes.get("/v1/summary", permission="monitors:read", query=SummaryQuery, answer=Summary)
def get_summary(query: SummaryQuery) -> Response:
    """How many monitors are up, degraded, down …, by group, the worst groups first.

    With group_by=location a monitor counts in each of its locations, in `total` once. Incidents without a monitor are
    in `total` alone, unless `label` filters.
    """
    org_id, grouping = caller().org_id, _grouping(query)
    labels = tuple(sorted((grouping.labels or {}).items())) if grouping.labels is not None else None
    key = (org_id, grouping.what, grouping.label_name, labels)
    database = services().database
    answer = services().summaries.get(key, lambda: _count(database, org_id, grouping))
    response = Response(answer, 200, content_type="application/json")
    response.headers["Cache-Control"] = "private, max-age=1"
    return response


def _count(database: Database, org_id: str, grouping: Grouping) -> bytes:
    with database.begin(org_id) as connection:
        summary = summaries.count(connection, org_id=org_id, grouping=grouping)
    shown, others = summary.groups[:MAX_GROUPS], summary.groups[MAX_GROUPS:]
    return as_json(
        {
            "groups": [{"group": name, **_document(counts)} for name, counts in shown],
            "other": _document(sum((counts for _, counts in others), Counts())) if others else None,
            "total": _document(summary.total),
            "at": summary.at,
        }
    ).encode()


def _document(counts: Counts) -> dict[str, Any]:
    return asdict(counts)


def _grouping(query: SummaryQuery) -> Grouping:
    what, _, label_name = query.group_by.partition(":")
    if query.label is None:
        return Grouping(what, label_name or None)
    labels: dict[str, str] = {}
    for text in query.label:
        name, _, value = text.partition(":")
        if labels.setdefault(name, value) != value:
            message = f"{name} cannot have two values at once"
            raise ValidationFailed("Some parameters are wrong.", details=[FieldError("label", message)])
    return Grouping(what, label_name or None, labels)
