"""GET /v1/monitors and /v1/labels: what is watched, filtered, sorted and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from flask import Response

from api import monitor_filters, pagination
from api.context import caller, services
from api.monitor_documents import monitor_document
from api.routing import Routes
from api.schemas_monitor_lists import LabelQuery, Labels, MonitorPart, MonitorQuery
from common.store import monitor_lists
from common.store.monitor_lists import MAX_KEYS, MAX_VALUES, LabelCount

routes = Routes("monitors")


@routes.get("/v1/monitors", permission="monitors:read", query=MonitorQuery, answer=MonitorPart, paged=True)
def list_monitors(query: MonitorQuery) -> Response:
    """Monitors, the newest first unless `sort` says otherwise; all of them, or those that pass every filter."""
    wanted, after = monitor_filters.of_query(query), monitor_filters.after(query)
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        rows = monitor_lists.list_page(
            connection, org_id=org_id, limit=query.limit + 1, wanted=wanted, order=query.sort, after=after
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else monitor_filters.cursor(query, last)
    return pagination.page([_part(row, query.fields) for row in shown], cursor)


@routes.get("/v1/labels", permission="monitors:read", query=LabelQuery, answer=Labels)
def list_labels(query: LabelQuery) -> dict[str, Any]:
    """The labels that monitors carry, with how many carry each: at most 200 keys of 100 values, the commonest first."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        counts = monitor_lists.labels(connection, org_id=org_id, key=query.key, prefix=query.prefix)
    data = [_label(key, list(group)) for key, group in groupby(counts, lambda count: count.key)]
    return {"data": data[:MAX_KEYS], "more_keys": len(data) > MAX_KEYS}


def _part(row: Mapping[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    document = monitor_document(row)
    if fields is None:
        return document
    return {name: value for name, value in document.items() if name == "id" or name in fields}


def _label(key: str, counts: Sequence[LabelCount]) -> dict[str, Any]:
    values = [{"value": count.value, "monitors": count.monitors} for count in counts[:MAX_VALUES]]
    return {"key": key, "values": values, "more": len(counts) > MAX_VALUES}
