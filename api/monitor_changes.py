"""What a write does to a monitor: new settings, its votes, its incident, the scheduler's hint: one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from uuid_utils import uuid7

from api.context import caller, request_id, services
from api.monitor_documents import stored_settings, to_settings
from api.schemas_monitors import MonitorIn
from common import log
from common.domain.errors import Conflict, FieldError, ValidationFailed
from common.store import incidents, locations, monitors, votes
from common.store.engine import Connection
from common.store.incidents import Deed
from common.store.monitors import MonitorSettings, Rewrite
from common.vault import SecretUnreadable

#: Settings that decide what a check finds: after a change, what was counted before says nothing any more.
_PROBED = ("type", "target", "options", "secrets", "assertions")

_HEADERS = "http.headers."


def open_secrets(row: Mapping[str, Any]) -> dict[str, str]:
    """A stored monitor's secrets in plain text, by path; none where their key is gone: they have to be sent again."""
    if row["secrets"] is None:
        return {}
    try:
        secrets: dict[str, str] = services().vault.open(_owner(row["id"]), row["secrets"])
    except SecretUnreadable as error:
        log.get_logger().error("monitor_secrets_unreadable", monitor_id=row["id"], error=error.message)
        return {}
    return secrets


def create(connection: Connection, body: MonitorIn) -> str:
    """Store a new monitor with its pending state; its id. Raises Conflict when the key is taken."""
    org_id = caller().org_id
    settings = _resolve(connection, body, {}, monitor_id=None)
    monitor_id = str(uuid7())
    _refuse_taken(connection, settings.key)
    number = monitors.add(
        connection, org_id=org_id, monitor_id=monitor_id, settings=settings, sealed=_seal(monitor_id, settings)
    )
    if number is None:
        raise _key_taken(settings.key)
    votes.create(connection, monitor_no=number, org_id=org_id, locations=settings.location_ids)
    monitors.notify(connection)
    return monitor_id


def change(connection: Connection, row: Mapping[str, Any], body: MonitorIn) -> None:
    """Give a locked monitor the settings of this body."""
    _refuse_leak(row, body)
    secrets = open_secrets(row)
    wanted = _resolve(connection, body, secrets, monitor_id=row["id"])
    if row["key"] is not None and wanted.key != row["key"]:
        raise ValidationFailed(
            "A monitor's key never changes.", details=[FieldError("key", "cannot be changed once it is set")]
        )
    if wanted.key != row["key"]:
        _refuse_taken(connection, wanted.key)
    _rewrite(connection, row, stored_settings(row, secrets), wanted)


def enable(connection: Connection, row: Mapping[str, Any], *, enabled: bool) -> None:
    """Pause or resume a locked monitor; one that is so already stays as it is."""
    # The secrets stay sealed: they do not change.
    settings = stored_settings(row, {})
    _rewrite(connection, row, settings, replace(settings, enabled=enabled))


def delete(connection: Connection, row: Mapping[str, Any]) -> None:
    """Delete a locked monitor and resolve its incident."""
    monitors.delete(connection, org_id=caller().org_id, monitor_id=row["id"])
    _close(connection, row, "deleted", "The monitor was deleted.")
    monitors.notify(connection)


def tell(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
    """One log line, after the commit, that leads from the request's id (bound) to the monitor's, and back."""
    if before is not None and before["config_version"] == after["config_version"]:
        return  # nothing changed
    event = _event(before, after)
    log.get_logger().info(event, monitor_id=after["id"], config_version=after["config_version"])


def tell_deleted(row: Mapping[str, Any]) -> None:
    """The same for a monitor that is gone."""
    log.get_logger().info("monitor_deleted", monitor_id=row["id"], config_version=row["config_version"] + 1)


def _event(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> str:
    if before is None:
        return "monitor_created"
    if before["enabled"] == after["enabled"]:
        return "monitor_changed"
    return "monitor_resumed" if after["enabled"] else "monitor_paused"


def _rewrite(connection: Connection, row: Mapping[str, Any], before: MonitorSettings, wanted: MonitorSettings) -> None:
    if wanted == before:
        return
    # Who resumes or changes the interval wants to see a check now, not in a while.
    check_now = wanted.interval_s != before.interval_s or (wanted.enabled and not before.enabled)
    sealed = row["secrets"] if wanted.secrets == before.secrets else _seal(row["id"], wanted)
    rewrite = Rewrite(row["id"], wanted, sealed, check_now)
    monitors.change(connection, org_id=caller().org_id, rewrite=rewrite)
    number, version = row["monitor_no"], row["config_version"] + 1
    votes.lock(connection, [number])
    if wanted.location_ids != before.location_ids:
        votes.set_locations(connection, monitor_no=number, locations=wanted.location_ids, config_floor=version)
    if before.enabled and not wanted.enabled:
        _close(connection, row, "paused", "The monitor was paused.")
    elif any(getattr(wanted, name) != getattr(before, name) for name in _PROBED):
        votes.reset(connection, monitor_no=number, config_floor=version)
    monitors.notify(connection)


def _close(connection: Connection, row: Mapping[str, Any], reason: str, message: str) -> None:
    incidents.close_for_monitor(
        connection,
        monitor_no=row["monitor_no"],
        cause={"reason": reason, "message": message},
        config_floor=row["config_version"] + 1,
        deed=Deed(caller().actor, monitors.now(connection), request_id()),
    )


def _resolve(
    connection: Connection, body: MonitorIn, secrets: Mapping[str, str], *, monitor_id: str | None
) -> MonitorSettings:
    """The settings that a body means, its names looked up. Raises ValidationFailed."""
    names = body.locations or [services().settings.location]
    known = locations.ids_by_name(connection)
    problems = [
        FieldError(f"locations.{index}", f"unknown; there are: {', '.join(sorted(known))}")
        for index, name in enumerate(names)
        if name not in known
    ]
    if body.parent_id is not None:
        problems.extend(_parent_problems(connection, body.parent_id, monitor_id))
    if problems:
        raise ValidationFailed("Some fields are wrong.", details=problems)
    return to_settings(body, tuple(known[name] for name in names), secrets)


def _parent_problems(connection: Connection, parent_id: str, monitor_id: str | None) -> list[FieldError]:
    above = monitors.ancestors(connection, org_id=caller().org_id, monitor_id=parent_id)
    if not above:
        return [FieldError("parent_id", "no such monitor in this organization")]
    if monitor_id in above:
        return [FieldError("parent_id", "a monitor cannot stand above itself")]
    return []


def _refuse_leak(row: Mapping[str, Any], body: MonitorIn) -> None:
    """Secrets can be written, never read: pointing a monitor at another host must not send them there."""
    kept = [name for name, value in body.http.headers.items() if value is None] if body.http else []
    if kept and _origin(body.target) != _origin(row["target"]):
        raise ValidationFailed(
            "Stored secrets do not follow a monitor to another origin.",
            details=[FieldError(_HEADERS + name, "send it again, or remove it, with the new target") for name in kept],
        )


def _origin(target: str) -> tuple[str, str]:
    parts = urlsplit(target)
    return parts.scheme.lower(), parts.netloc.lower()


def _seal(monitor_id: str, settings: MonitorSettings) -> str | None:
    return services().vault.seal(_owner(monitor_id), dict(settings.secrets)) if settings.secrets else None


def _owner(monitor_id: str) -> str:
    return f"monitor:{caller().org_id}:{monitor_id}"


def _refuse_taken(connection: Connection, key: str | None) -> None:
    if key is not None and monitors.id_by_key(connection, org_id=caller().org_id, key=key) is not None:
        raise _key_taken(key)


def _key_taken(key: str | None) -> Conflict:
    return Conflict(f"Another monitor has the key {key}.", code="KEY_TAKEN", details=[FieldError("key", "is taken")])
