"""POST /v1/monitors/plan and /apply, GET /v1/monitors/export: monitors kept as a text under version control."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import monitor_desired, monitor_exports
from api.context import caller, services
from api.monitor_filters import exact_labels
from api.routing import Routes
from api.schemas_bulk import MAX_DESIRED_BYTES, ApplyIn, Export, Plan, PlanIn
from api.schemas_monitor_lists import ExportQuery
from common import log

routes = Routes("monitors")


@routes.post(
    "/v1/monitors/plan",
    permission="monitors:write",
    body=PlanIn,
    answer=Plan,
    audited=False,  # it changes nothing
    max_bytes=MAX_DESIRED_BYTES,
)
def plan_monitors(body: PlanIn) -> dict[str, Any]:
    """What an apply of these monitors would do; nothing is done.

    Monitors are known by their keys; one without a key is never touched. What is left out has its default. A secret
    as `{"secret": null}` stays what it is. `drift` lists what was changed in another way since the last apply.
    """
    checked = monitor_desired.check(body)
    with services().database.begin(caller().org_id) as connection:
        return monitor_desired.document(monitor_desired.compare(connection, body, checked))


@routes.post(
    "/v1/monitors/apply",
    permission="monitors:write",
    body=ApplyIn,
    answer=Plan,
    statuses=(412,),
    idempotent=True,
    max_bytes=MAX_DESIRED_BYTES,
)
def apply_monitors(body: ApplyIn) -> dict[str, Any]:
    """Make these monitors so, all of it or nothing, if it is still what the plan with this fingerprint said.

    412 PLAN_STALE when something else would be done by now: plan again.
    """
    checked = monitor_desired.check(body)
    with services().database.begin(caller().org_id) as connection:
        found = monitor_desired.compare(connection, body, checked, lock=True)
        if found.fingerprint != body.fingerprint:
            raise monitor_desired.stale()
        monitor_desired.apply(connection, found)
    document = monitor_desired.document(found)
    services().database.after_commit(lambda: log.get_logger().info("monitors_applied", **document["summary"]))
    return document


@routes.get("/v1/monitors/export", permission="monitors:read", query=ExportQuery, answer=Export)
def export_monitors(query: ExportQuery) -> Response:
    """Monitors as a plan takes them, by key: what differs from the defaults, secrets as `{"secret": null}`.

    The same state gives the same bytes, and a plan of it finds nothing to do. Those without a key are only listed.
    """
    return monitor_exports.export(exact_labels(query.label))
