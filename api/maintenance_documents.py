"""Maintenance windows between their rows and what clients send and see."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any

from api import parsing
from api.schemas_maintenance import MaintenanceIn
from common.domain.maintenance import Cron, Once, Schedule, Weekly, days_of

#: What people decide; the rest follows from it.
DECIDED = (
    "name", "type", "starts_at", "ends_at", "duration_seconds", "days", "time", "cron", "time_zone", "monitor_ids",
    "matchers", "until_healthy", "healthy_for_seconds", "comment",
)  # fmt: skip

_WHEN = ("starts_at", "ends_at", "duration_seconds", "days", "time", "cron", "time_zone")


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A window as clients read it."""
    kept = row["schedule"]
    moments = {
        name: datetime.fromisoformat(kept[name]) if kept.get(name) else None for name in ("starts_at", "ends_at")
    }
    return {
        "id": row["id"],
        "name": row["name"],
        "type": kept["type"],
        **moments,
        "duration_seconds": kept.get("duration_s"),
        "days": kept.get("days"),
        "time": kept.get("time"),
        "cron": kept.get("cron"),
        "time_zone": kept.get("time_zone"),
        "monitor_ids": row["monitor_ids"],
        "matchers": row["matchers"],
        "until_healthy": row["until_healthy"],
        "healthy_for_seconds": row["healthy_for_s"],
        "comment": row["comment"],
        "state": row["state"],
        "occurrence": _occurrence(row),
        "created_by": row["created_by"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def decided(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit log keeps of it."""
    shown = document(row)
    return {name: shown[name] for name in DECIDED}


def merged(row: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A stored window, as it would be sent, with a merge patch.

    A new type leaves behind when the old one was; a duration takes the place of the end.
    """
    base = {name: value for name, value in decided(row).items() if value is not None}
    for name in ("starts_at", "ends_at"):
        if name in base:
            base[name] = base[name].isoformat()
    if patch.get("type", base["type"]) != base["type"]:
        base = {name: value for name, value in base.items() if name not in _WHEN}
    elif base["type"] == "once" and patch.get("duration_seconds") is not None:
        base.pop("ends_at")
    result: dict[str, Any] = parsing.merge(base, patch)
    return result


def schedule_of(body: MaintenanceIn, now: datetime) -> Schedule:
    """When a checked body's windows are, before they are checked themselves."""
    duration = timedelta(seconds=body.duration_seconds or 0)
    if body.type == "once":
        begins_at = now if body.starts_at is None else body.starts_at
        # A beginning that is refused anyway is not added to: the sum may have no name.
        far = begins_at > now + timedelta(days=10_000)
        return Once(begins_at, body.ends_at or (begins_at if far else begins_at + duration))
    zone = body.time_zone or "UTC"
    if body.type == "weekly":
        return Weekly(days_of(body.days or ()), time.fromisoformat(body.time or "00:00"), duration, zone)
    return Cron(body.cron or "", duration, zone)


def _occurrence(row: Mapping[str, Any]) -> dict[str, datetime] | None:
    if row["begins_at"] is None or row["state"] == "ended":
        return None
    return {"starts_at": row["begins_at"], "ends_at": row["ends_at"]}
