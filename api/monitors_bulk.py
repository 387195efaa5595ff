"""POST /v1/monitors/bulk, /pause and /resume: many monitors in one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uuid_utils import uuid7

from api import audit, monitor_batches, monitor_changes, monitor_writes
from api.context import caller, services
from api.monitor_batches import Checked
from api.monitor_documents import audited_document, monitor_document
from api.routing import Routes
from api.schemas_bulk import MAX_BULK, MAX_BULK_BYTES, BulkAnswer, BulkIn, MonitorSwitchAnswer, MonitorSwitchIn
from common import log
from common.domain.errors import RequestError
from common.store import monitor_lists, monitor_sets
from common.store.engine import Connection
from common.store.monitor_lists import MonitorFilter

routes = Routes("monitors")

Row = dict[str, Any]


@routes.post(
    "/v1/monitors/bulk",
    permission="monitors:write",
    body=BulkIn,
    answer=BulkAnswer,
    statuses=(409,),
    idempotent=True,
    max_bytes=MAX_BULK_BYTES,
)
def create_monitors(body: BulkIn) -> dict[str, Any]:
    """Watch up to 1,000 new things at once; their first checks are due at once.

    With `mode` all, the default, everything is taken or, where anything is wrong, nothing: 400 names each fault by its
    path (`monitors.3.target`), 409 each key that is taken. With each, what is right is taken, and `results` says of
    every item what became of it.
    """
    checked = monitor_batches.check(body.monitors)
    if body.mode == "all":
        checked.raise_faults()
    with services().database.begin(caller().org_id) as connection:
        made = _create(connection, checked)
        if body.mode == "all":
            checked.raise_faults()
    services().database.after_commit(
        lambda: log.get_logger().info("monitors_created", count=len(made), refused=len(checked.faults))
    )
    results = [_result(index, made.get(index), checked.faults.get(index)) for index in range(len(body.monitors))]
    return {"created": len(made), "failed": len(checked.faults), "results": results}


@routes.post("/v1/monitors/pause", permission="monitors:write", body=MonitorSwitchIn, answer=MonitorSwitchAnswer)
def pause_monitors(body: MonitorSwitchIn) -> dict[str, Any]:
    """Check these monitors no more until resumed; their open incidents are resolved.

    Up to 1,000 by id in one transaction, or all that carry the labels, 1,000 at a time: if that breaks off, send it
    again, it goes on with the rest.
    """
    return _switch(body, enabled=False)


@routes.post("/v1/monitors/resume", permission="monitors:write", body=MonitorSwitchIn, answer=MonitorSwitchAnswer)
def resume_monitors(body: MonitorSwitchIn) -> dict[str, Any]:
    """Check these monitors again, beginning now; chosen as for pause."""
    return _switch(body, enabled=True)


def _create(connection: Connection, checked: Checked) -> dict[int, Row]:
    """Store what is right; the new rows by index. A key that is taken is refused."""
    settings = monitor_batches.resolve(connection, checked, {}, {})
    ids = {index: str(uuid7()) for index in settings}
    if not ids:
        return {}
    made = monitor_writes.add(connection, {ids[index]: one for index, one in settings.items()})
    for index, one in settings.items():
        if ids[index] not in made:
            checked.refuse(index, monitor_changes.key_taken(one.key))
    rows = monitor_sets.with_states(connection, org_id=caller().org_id, ids=sorted(made))
    audit.all_changed(connection, "monitor", [(id_, None, audited_document(row)) for id_, row in rows.items()])
    return {index: rows[id_] for index, id_ in ids.items() if id_ in rows}


def _result(index: int, row: Row | None, fault: RequestError | None) -> dict[str, Any]:
    error = None
    if fault is not None:
        details = [asdict(detail) for detail in fault.details]
        error = {"code": fault.code, "message": fault.message, "details": details}
    return {
        "index": index,
        "status": 201 if fault is None else fault.status,
        "monitor": None if row is None else monitor_document(row),
        "error": error,
    }


@dataclass(frozen=True, slots=True)
class _Count:
    """How many of some monitors were changed, of how many that are there."""

    changed: int
    found: frozenset[str]


def _switch(body: MonitorSwitchIn, *, enabled: bool) -> dict[str, Any]:
    if body.ids is not None:
        ids = sorted({str(id_) for id_ in body.ids})
        count = _switch_some(ids, enabled=enabled)
        missing = [id_ for id_ in ids if id_ not in count.found]
        return {"changed": count.changed, "unchanged": len(count.found) - count.changed, "not_found": missing}
    changed = found = 0
    wanted, after = MonitorFilter(labels=body.labels), None
    org_id = caller().org_id
    while True:
        with services().database.begin(org_id) as connection:
            places = monitor_lists.next_ids(connection, org_id=org_id, limit=MAX_BULK, wanted=wanted, after=after)
        if not places:
            return {"changed": changed, "unchanged": found - changed, "not_found": []}
        count = _switch_some(sorted(place.id for place in places), enabled=enabled)
        changed, found, after = changed + count.changed, found + len(count.found), places[-1]


def _switch_some(ids: Sequence[str], *, enabled: bool) -> _Count:
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        rows = monitor_sets.of_ids(connection, org_id=org_id, ids=ids, lock=True)
        before = {row["id"]: row for row in rows if row["enabled"] != enabled}
        monitor_writes.rewrite(connection, [monitor_changes.switched(row, enabled=enabled) for row in before.values()])
        after = monitor_sets.of_ids(connection, org_id=org_id, ids=sorted(before)) if before else []
        changes = [(row["id"], audited_document(before[row["id"]]), audited_document(row)) for row in after]
        audit.all_changed(connection, "monitor", changes)
    if before:
        log.get_logger().info("monitors_resumed" if enabled else "monitors_paused", count=len(before))
    return _Count(len(before), frozenset(row["id"] for row in rows))
