"""/v1/monitors: what is watched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response

from api import audit, heartbeats_secrets, monitor_changes, parsing
from api.context import caller, request_id, services
from api.monitor_documents import audited_document, keep_secrets, monitor_document, patch_base
from api.monitor_writes import open_secrets
from api.reach import refuse_denied
from api.replies import reply
from api.routing import Routes
from api.schemas_monitors import KEY_PATTERN, CheckNow, Monitor, MonitorIn
from common import log
from common.broker import enqueue_checks
from common.clock import to_ms
from common.domain.checks import Check, Kind, Lane
from common.domain.errors import Conflict, FieldError, ValidationFailed
from common.domain.traces import check_id
from common.store import monitors
from common.store.engine import Connection

routes = Routes("monitors")


@routes.post("/v1/monitors", permission="monitors:write", body=MonitorIn, answer=Monitor, status=201)
def create_monitor(body: MonitorIn) -> Response:
    """Watch something new; its first check is due at once."""
    refuse_denied("target", body.host)
    with services().database.begin(caller().org_id) as connection:
        row = _created(connection, monitor_changes.create(connection, body))
    return _new(row)


@routes.get("/v1/monitors/<monitor_id>", permission="monitors:read", answer=Monitor)
def get_monitor(monitor_id: str) -> dict[str, Any]:
    """One monitor with its state."""
    with services().database.begin(caller().org_id) as connection:
        return _document(connection, monitor_id)


@routes.patch(
    "/v1/monitors/<monitor_id>",
    permission="monitors:write",
    body=MonitorIn,
    merge=True,
    answer=Monitor,
    statuses=(409,),
)
def change_monitor(monitor_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Change some fields by JSON Merge Patch: null resets a field to its default.

    A secret header that is sent back as null, or not at all, stays; `"headers": null` removes them all.
    """
    with services().database.begin(caller().org_id) as connection:
        row = monitors.get(connection, org_id=caller().org_id, monitor_id=monitor_id, lock=True)
        merged = parsing.merge(patch_base(row, body), body)
        whole = parsing.validate(MonitorIn, keep_secrets(merged, body, open_secrets(row)))
        refuse_denied("target", whole.host)
        monitor_changes.change(connection, row, whole)
        after = _changed(connection, row)
    monitor_changes.tell(row, after)
    return monitor_document(after)


@routes.delete("/v1/monitors/<monitor_id>", permission="monitors:write")
def delete_monitor(monitor_id: str) -> None:
    """Stop watching; an open incident is resolved. Results and incidents stay readable until retention ends."""
    with services().database.begin(caller().org_id) as connection:
        row = monitors.get(connection, org_id=caller().org_id, monitor_id=monitor_id, lock=True)
        monitor_changes.delete(connection, row)
        audit.changed(connection, "monitor", monitor_id, audited_document(row), None)
    monitor_changes.tell_deleted(row)


@routes.put(
    "/v1/monitors/by-key/<key>", permission="monitors:write", body=MonitorIn, answer=Monitor, statuses=(201, 409)
)
def put_monitor(key: str, body: MonitorIn) -> Response:
    """Make the monitor with this key exactly so: 201 when it is new, 200 otherwise; what is absent gets its default."""
    body = _with_key(key, body)
    refuse_denied("target", body.host)
    with services().database.begin(caller().org_id) as connection:
        monitor_id = monitors.id_by_key(connection, org_id=caller().org_id, key=key)
        row = None
        if monitor_id is None:
            after = _created(connection, monitor_changes.create(connection, body))
        else:
            row = monitors.get(connection, org_id=caller().org_id, monitor_id=monitor_id, lock=True)
            monitor_changes.change(connection, row, body)
            after = _changed(connection, row)
    if row is None:
        return _new(after)
    monitor_changes.tell(row, after)
    return reply(monitor_document(after), 200)


@routes.post("/v1/monitors/<monitor_id>/pause", permission="monitors:write", answer=Monitor)
def pause_monitor(monitor_id: str) -> dict[str, Any]:
    """Check no more until resumed; an open incident is resolved. Pausing twice changes nothing."""
    return _enable(monitor_id, enabled=False)


@routes.post("/v1/monitors/<monitor_id>/resume", permission="monitors:write", answer=Monitor)
def resume_monitor(monitor_id: str) -> dict[str, Any]:
    """Check again, beginning now. Resuming twice changes nothing."""
    return _enable(monitor_id, enabled=True)


@routes.post(
    "/v1/monitors/<monitor_id>/check",
    permission="monitors:check",
    answer=CheckNow,
    status=202,
    statuses=(409,),
    audited=False,  # it changes nothing
)
def check_monitor(monitor_id: str) -> dict[str, Any]:
    """Check now, from all its locations, outside of the schedule: the result is stored and shown, but never votes.

    `check_id` is the trace_id of the first location's result.
    """
    with services().database.begin(caller().org_id) as connection:
        row = monitors.get(connection, org_id=caller().org_id, monitor_id=monitor_id)
        scheduled_at = monitors.now(connection)
    if not row["enabled"]:
        raise Conflict("The monitor is paused; resume it to have it checked.", code="MONITOR_PAUSED")
    if row["type"] == heartbeats_secrets.TYPE:
        raise Conflict("A heartbeat waits to be pinged; there is nothing to check.", code="MONITOR_NOT_CHECKED")
    check = Check(row["monitor_no"], row["config_version"], to_ms(scheduled_at), Kind.MANUAL)
    for location in row["locations"]:
        enqueue_checks(
            services().broker, Lane.URGENT, location, [check], batch_id=request_id(), sent_ms=check.scheduled_at_ms
        )
    first = check_id(row["id"], row["location_ids"][0], check.scheduled_at_ms)
    log.get_logger().info(
        "check_requested",
        monitor_id=row["id"],
        config_version=check.config_version,
        batch_id=request_id(),
        correlation_id=first,
    )
    return {"check_id": first, "scheduled_at": scheduled_at}


def _enable(monitor_id: str, *, enabled: bool) -> dict[str, Any]:
    with services().database.begin(caller().org_id) as connection:
        row = monitors.get(connection, org_id=caller().org_id, monitor_id=monitor_id, lock=True)
        monitor_changes.enable(connection, row, enabled=enabled)
        after = _changed(connection, row)
    monitor_changes.tell(row, after)
    return monitor_document(after)


def _document(connection: Connection, monitor_id: str) -> dict[str, Any]:
    return monitor_document(monitors.get(connection, org_id=caller().org_id, monitor_id=monitor_id))


def _changed(connection: Connection, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The monitor's row as it is now; what changed is written down."""
    after = monitors.get(connection, org_id=caller().org_id, monitor_id=before["id"])
    audit.changed(connection, "monitor", before["id"], audited_document(before), audited_document(after))
    return after


def _created(connection: Connection, monitor_id: str) -> Mapping[str, Any]:
    """The new monitor's row, written down."""
    row = monitors.get(connection, org_id=caller().org_id, monitor_id=monitor_id)
    audit.changed(connection, "monitor", monitor_id, None, audited_document(row))
    return row


def _new(row: Mapping[str, Any]) -> Response:
    monitor_changes.tell(None, row)
    response = reply(monitor_document(row), 201)
    response.headers["Location"] = f"/v1/monitors/{row['id']}"
    return response


def _with_key(key: str, body: MonitorIn) -> MonitorIn:
    if not re.fullmatch(KEY_PATTERN, key):
        raise ValidationFailed("The key is wrong.", details=[FieldError("key", f"must match {KEY_PATTERN}")])
    if body.key not in (None, key):
        raise ValidationFailed("The key is wrong.", details=[FieldError("key", "must be the one in the path")])
    return body.model_copy(update={"key": key})
