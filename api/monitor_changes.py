"""What a write does to one monitor: its settings resolved and checked, then written as one of a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from uuid_utils import uuid7

from api import monitor_writes
from api.context import caller, services
from api.monitor_documents import kept_secrets, stored_settings, to_settings
from api.monitor_writes import Rewriting, open_secrets
from api.schemas_monitors import MonitorIn
from api.schemas_options import OptionsIn
from api.targets import origin_of
from common import log
from common.domain.errors import Conflict, FieldError, ValidationFailed
from common.store import locations, monitor_sets, monitors
from common.store.engine import Connection
from common.store.monitors import MonitorSettings

#: Options that say whom secrets are sent to, or who vouches for them.
_LEADING = ("proxy", "ca_certificates", "server_name")
#: Options that guard secrets on their way, each value better than those before it; False and True are others' words.
_GUARDING: Mapping[str, tuple[bool | str, ...]] = {
    "verify_tls": (False, True),
    "tls": (False, "disable", "prefer", "require", True),
    "security": ("none", "starttls", "tls"),
}


def create(connection: Connection, body: MonitorIn) -> str:
    """Store a new monitor with its pending state; its id. Raises Conflict when the key is taken."""
    settings = _resolve(connection, body, {}, None)
    _refuse_taken(connection, settings.key)
    monitor_id = str(uuid7())
    if not monitor_writes.add(connection, {monitor_id: settings}):
        raise key_taken(settings.key)
    return monitor_id


def change(connection: Connection, row: Mapping[str, Any], body: MonitorIn) -> None:
    """Give a locked monitor the settings of this body."""
    refuse_leak(row, body)
    secrets = open_secrets(row)
    wanted = _resolve(connection, body, secrets, row)
    if row["key"] is not None and wanted.key != row["key"]:
        raise ValidationFailed(
            "A monitor's key never changes.", details=[FieldError("key", "cannot be changed once it is set")]
        )
    if wanted.key != row["key"]:
        _refuse_taken(connection, wanted.key)
    monitor_writes.rewrite(connection, [Rewriting(row, stored_settings(row, secrets), wanted)])


def enable(connection: Connection, row: Mapping[str, Any], *, enabled: bool) -> None:
    """Pause or resume a locked monitor; one that is so already stays as it is."""
    monitor_writes.rewrite(connection, [switched(row, enabled=enabled)])


def switched(row: Mapping[str, Any], *, enabled: bool) -> Rewriting:
    """A locked monitor as it is, but paused or resumed."""
    # The secrets stay sealed: they do not change.
    settings = stored_settings(row, {})
    return Rewriting(row, settings, replace(settings, enabled=enabled))


def delete(connection: Connection, row: Mapping[str, Any]) -> None:
    """Delete a locked monitor and resolve its incident."""
    monitor_writes.delete(connection, [row])


def tell(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
    """One log line, once it is committed, that leads from the request's id (bound) to the monitor's, and back."""
    if before is not None and before["config_version"] == after["config_version"]:
        return  # nothing changed
    _tell(_event(before, after), after["id"], after["config_version"])


def tell_deleted(row: Mapping[str, Any]) -> None:
    """The same for a monitor that is gone."""
    _tell("monitor_deleted", row["id"], row["config_version"] + 1)


def _tell(event: str, monitor_id: str, config_version: int) -> None:
    services().database.after_commit(
        lambda: log.get_logger().info(event, monitor_id=monitor_id, config_version=config_version)
    )


def _event(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> str:
    if before is None:
        return "monitor_created"
    if before["enabled"] == after["enabled"]:
        return "monitor_changed"
    return "monitor_resumed" if after["enabled"] else "monitor_paused"


def _resolve(
    connection: Connection, body: MonitorIn, secrets: Mapping[str, str], row: Mapping[str, Any] | None
) -> MonitorSettings:
    """The settings that a body means, its names looked up; `row` is what is there already. Raises ValidationFailed."""
    names = body.locations or [services().settings.location]
    known = locations.ids_by_name(connection)
    problems = location_problems(names, known)
    # The parent that it has may be gone by now: that is no reason to refuse everything else.
    if body.parent_id is not None and (row is None or row["parent_id"] != body.parent_id):
        problems.extend(_parent_problems(connection, body.parent_id, row["id"] if row else None))
    if problems:
        raise ValidationFailed("Some fields are wrong.", details=problems)
    return to_settings(body, tuple(known[name] for name in names), secrets)


def location_problems(names: Sequence[str], known: Mapping[str, int]) -> list[FieldError]:
    """What is wrong with the locations that a monitor names."""
    return [
        FieldError(f"locations.{index}", f"unknown; there are: {', '.join(sorted(known))}")
        for index, name in enumerate(names)
        if name not in known
    ]


def _parent_problems(connection: Connection, parent_id: str, monitor_id: str | None) -> list[FieldError]:
    if monitor_id is not None:  # a new one stands above nothing
        monitor_sets.lock_parents(connection, org_id=caller().org_id)
    above = monitor_sets.ancestry(connection, org_id=caller().org_id, ids=[parent_id])
    if parent_id not in above:
        return [FieldError("parent_id", "no such monitor in this organization")]
    if monitor_id in above:
        return [FieldError("parent_id", "a monitor cannot stand above itself")]
    return []


def refuse_leak(row: Mapping[str, Any], body: MonitorIn) -> None:
    """Secrets can be written, never read: pointing a monitor at another host must not send them there.

    Nor may they be read on their way from now on, or by whom another authority vouches for.
    """
    kept = kept_secrets(body)
    if not kept:
        return
    if row["type"] != body.type or origin_of(body.type, body.target) != origin_of(row["type"], row["target"]):
        _refuse_kept(kept, "Stored secrets do not follow a monitor to another origin.", "with the new target")
    exposing = _exposing(row["options"] or {}, body.options)
    if exposing:
        _refuse_kept(kept, f"Stored secrets are not exposed by another {exposing}.", f"with the new {exposing}")


def _refuse_kept(kept: Sequence[str], message: str, when: str) -> NoReturn:
    details = [FieldError(path, f"send it again, or remove it, {when}") for path in kept]
    raise ValidationFailed(message, details=details)


def _exposing(before: Mapping[str, Any], wanted: OptionsIn) -> str | None:
    """The option that would send stored secrets another way, or less guarded, than `before` does; None without."""
    fields = type(wanted).model_fields
    for name in (*_LEADING, *_GUARDING):
        if name not in fields:
            continue
        # What is not stored has its default.
        was, now = before.get(name, fields[name].default), getattr(wanted, name)
        ranks = _GUARDING.get(name)
        if (was != now) if ranks is None else (ranks.index(now) < ranks.index(was)):
            return name
    return None


def _refuse_taken(connection: Connection, key: str | None) -> None:
    if key is not None and monitors.id_by_key(connection, org_id=caller().org_id, key=key) is not None:
        raise key_taken(key)


def key_taken(key: str | None, field: str = "key") -> Conflict:
    """Another monitor of the organization has this key."""
    return Conflict(f"Another monitor has the key {key}.", code="KEY_TAKEN", details=[FieldError(field, "is taken")])
