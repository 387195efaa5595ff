"""/v1/maintenance: times in which monitors may fail without anybody being told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from flask import Response
from uuid_utils import uuid7

from api import audit, pagination, parsing
from api.context import caller, services
from api.maintenance_documents import decided, document, merged, schedule_of
from api.routing import Routes
from api.schemas_maintenance import Maintenance, MaintenanceIn, MaintenanceQuery
from common.domain.errors import Conflict, FieldError, ValidationFailed
from common.domain.maintenance import Occurrence, Once, Schedule, check_schedule, occurrence, read
from common.store import maintenance, maintenance_cover, monitors, routing_versions
from common.store import maintenance_turns as turns
from common.store.engine import Connection
from common.store.maintenance import WindowConfig

routes = Routes("maintenance")

#: Windows of an organization that are on or still come.
MAX_WINDOWS = 1_000


@routes.post("/v1/maintenance", permission="maintenance:write", body=MaintenanceIn, answer=Maintenance, status=201)
def create_maintenance(body: MaintenanceIn) -> dict[str, Any]:
    """Plan maintenance: once, on days of every week, or by a cron expression.

    While a window is on, what begins to be wrong is not told; checks go on, incidents open and close. What is still
    wrong when it ends is announced then. The end of what was announced before is told all the same.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        if maintenance.count(connection, org_id=org_id) >= MAX_WINDOWS:
            raise Conflict(f"An organization has at most {MAX_WINDOWS:,} maintenance windows.", code="LIMIT_REACHED")
        now = monitors.now(connection)
        _check_monitors(connection, [str(id_) for id_ in body.monitor_ids])
        row = maintenance.add(
            connection, _planned(body, now), now, org_id=org_id, window_id=str(uuid7()), created_by=caller().actor
        )
        audit.changed(connection, "maintenance", row["id"], None, decided(row))
        _cover(connection, row["id"], now)
    return document(row)


@routes.get("/v1/maintenance", permission="maintenance:read", query=MaintenanceQuery, answer=Maintenance, paged=True)
def list_maintenance(query: MaintenanceQuery) -> Response:
    """Maintenance windows, the newest first, ended ones too."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = maintenance.list_page(
            connection, org_id=caller().org_id, limit=query.limit + 1, before=before, state=query.state
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page([document(row) for row in shown], cursor)


@routes.get("/v1/maintenance/<maintenance_id>", permission="maintenance:read", answer=Maintenance)
def get_maintenance(maintenance_id: str) -> dict[str, Any]:
    """One maintenance window."""
    with services().database.begin(caller().org_id) as connection:
        return document(maintenance.get(connection, org_id=caller().org_id, window_id=maintenance_id))


@routes.patch(
    "/v1/maintenance/<maintenance_id>",
    permission="maintenance:write", body=MaintenanceIn, merge=True, answer=Maintenance,
)  # fmt: skip
def change_maintenance(maintenance_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Change some fields by JSON Merge Patch. What is not covered any more and still wrong is announced now."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        row = maintenance.get(connection, org_id=org_id, window_id=maintenance_id, lock=True)
        now = monitors.now(connection)
        wanted = parsing.validate(MaintenanceIn, merged(row, body))
        _check_monitors(connection, [str(id_) for id_ in wanted.monitor_ids], known=row["monitor_ids"])
        window = _rewritten(row, wanted, now)
        if not (_is_on(_current(row), now) and _is_on(window.occurrence, now)):
            _cut(connection, maintenance_id, now)
        changed = maintenance.change(connection, window, now, org_id=org_id, window_id=maintenance_id)
        audit.changed(connection, "maintenance", maintenance_id, decided(row), decided(changed))
        _cover(connection, maintenance_id, now)
    return document(changed)


@routes.post(
    "/v1/maintenance/<maintenance_id>/end", permission="maintenance:write", answer=Maintenance, statuses=(409,)
)
def end_maintenance(maintenance_id: str) -> dict[str, Any]:
    """End the window that is on; what is still wrong is announced. One that repeats comes again as planned."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        row = maintenance.get(connection, org_id=org_id, window_id=maintenance_id, lock=True)
        if row["state"] != "active":
            raise Conflict(f"This maintenance is not on, it is {row['state']}.", code="MAINTENANCE_NOT_ACTIVE")
        now = monitors.now(connection)
        due = turns.Due(maintenance_id, org_id)
        turns.end_early(connection, due, now)
        turns.move_on(connection, due, now)
        turns.show(connection, now)
        after = maintenance.get(connection, org_id=org_id, window_id=maintenance_id)
        audit.noted(connection, "maintenance", maintenance_id, {"ended_at": now})
    return document(after)


@routes.delete("/v1/maintenance/<maintenance_id>", permission="maintenance:write")
def delete_maintenance(maintenance_id: str) -> None:
    """Remove it; if it is on, it ends now and what is still wrong is announced. Uptime keeps what it covered."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        row = maintenance.get(connection, org_id=org_id, window_id=maintenance_id, lock=True)
        now = monitors.now(connection)
        _cut(connection, maintenance_id, now)
        maintenance.delete(connection, maintenance_id)
        turns.show(connection, now)
        audit.changed(connection, "maintenance", maintenance_id, decided(row), None)


def _planned(body: MaintenanceIn, now: datetime) -> WindowConfig:
    """A new window as it is stored. Raises ValidationFailed for times that cannot be."""
    schedule = schedule_of(body, now)
    _check_schedule(schedule, body, now)
    return _config(body, schedule, occurrence(schedule, now))


def _check_schedule(schedule: Schedule, body: MaintenanceIn, now: datetime) -> None:
    wrong = check_schedule(schedule, now)
    if wrong and isinstance(schedule, Once) and body.ends_at is None:
        # By what the client gave the end.
        wrong = [replace(one, field="duration_seconds") if one.field == "ends_at" else one for one in wrong]
    if wrong:
        raise _wrong(wrong)


def _config(body: MaintenanceIn, schedule: Schedule, coming: Occurrence | None) -> WindowConfig:
    return WindowConfig(
        name=body.name,
        comment=body.comment,
        schedule=schedule,
        monitor_ids=[str(id_) for id_ in body.monitor_ids],
        matchers=[matcher.model_dump() for matcher in body.matchers],
        until_healthy=body.until_healthy,
        healthy_for_s=body.healthy_for_seconds,
        occurrence=coming,
    )


def _rewritten(row: Mapping[str, Any], wanted: MaintenanceIn, now: datetime) -> WindowConfig:
    """What a window becomes. Raises ValidationFailed or Conflict for what it cannot become any more."""
    before, schedule = read(row["schedule"]), schedule_of(wanted, now)
    ended, moved = row["state"] == "ended", schedule != before
    if moved and not ended:
        _check_schedule(schedule, wanted, now)
        if row["state"] == "active" and _moves_begin(before, schedule):
            raise _wrong([FieldError("starts_at", "cannot be changed: the window has begun")])
    # The occurrence stays as it is where its times do, also one that was ended early.
    coming = _current(row)
    if moved and not ended:
        coming = occurrence(schedule, now, not_before=_ended_early(before, schedule, coming, now))
    window = _config(wanted, schedule, coming)
    same = ("monitor_ids", "matchers", "until_healthy", "healthy_for_s")
    if ended and (moved or any(getattr(window, name) != row[name] for name in same)):
        raise Conflict("This maintenance has ended; plan a new one.", code="MAINTENANCE_ENDED")
    return window


def _ended_early(before: Schedule, after: Schedule, current: Occurrence | None, now: datetime) -> datetime | None:
    """When the occurrence was to end that would be on, had nobody ended it: other times do not bring it back."""
    planned = occurrence(before, now)
    if isinstance(after, Once) or planned is None or not _is_on(planned, now) or _is_on(current, now):
        return None
    return planned.ends_at


def _moves_begin(before: Schedule, after: Schedule) -> bool:
    return isinstance(before, Once) and isinstance(after, Once) and before.begins_at != after.begins_at


def _current(row: Mapping[str, Any]) -> Occurrence | None:
    return None if row["begins_at"] is None else Occurrence(row["begins_at"], row["ends_at"])


def _is_on(one: Occurrence | None, now: datetime) -> bool:
    return one is not None and one.begins_at <= now < one.ends_at


def _cover(connection: Connection, window_id: str, now: datetime) -> None:
    """Cover some monitors before the answer; of a large organization the notifier covers the rest in a moment."""
    window = maintenance_cover.hold(connection, window_id)
    if window is not None and window.begins_at <= now + turns.AHEAD and window.ends_at > now:
        maintenance_cover.cover(connection, window, now)
    turns.show(connection, now)


def _cut(connection: Connection, window_id: str, now: datetime) -> None:
    window = maintenance_cover.hold(connection, window_id)
    if window is not None:
        maintenance_cover.cut(connection, window, now)


def _check_monitors(connection: Connection, wanted: Sequence[str], known: Sequence[str] = ()) -> None:
    """Refuse monitors that this organization does not have, but for those that the window names already."""
    places = {id_: place for place, id_ in enumerate(wanted) if id_ not in known}
    missing = places.keys() - maintenance.present_monitors(connection, org_id=caller().org_id, ids=places)
    if missing:
        raise _wrong(
            [
                FieldError(f"monitor_ids.{place}", "no such monitor in this organization")
                for place in sorted(places[id_] for id_ in missing)
            ]
        )


def _wrong(details: list[FieldError]) -> ValidationFailed:
    return ValidationFailed("Some fields are wrong.", details=details)
