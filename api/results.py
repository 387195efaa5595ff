"""/v1/monitors/{id}/results: what the checks found."""

from __future__ import annotations

from flask import Response

from api import pagination
from api.context import caller, services
from api.monitor_documents import result_document
from api.routing import Routes
from api.schemas import ResultQuery
from api.schemas_monitors import Result
from common.domain.checks import Verdict
from common.store import monitors, results

routes = Routes("monitors")


@routes.get(
    "/v1/monitors/<monitor_id>/results", permission="monitors:read", query=ResultQuery, answer=Result, paged=True
)
def list_results(monitor_id: str, query: ResultQuery) -> Response:
    """A monitor's results from all locations, newest first."""
    before = pagination.before_number(query.cursor)
    verdicts = None if query.verdict is None else [Verdict[name.upper()] for name in query.verdict]
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        monitors.get(connection, org_id=org_id, monitor_id=monitor_id)
        rows = results.list_page(connection, results.Page(org_id, monitor_id, query.limit + 1, before, verdicts))
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["scheduled_at"], last["location"])
    return pagination.page([result_document(row, monitor_id) for row in shown], cursor)
