"""Monitors and results between their rows and what clients see."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from api.schemas_monitors import MonitorIn
from api.schemas_options import KEPT, OptionsIn, Secret
from common.clock import to_ms
from common.domain.checks import CheckState, Reason, Verdict
from common.domain.errors import FieldError, ValidationFailed
from common.domain.health import Health
from common.domain.traces import check_id
from common.store.monitors import MonitorSettings

_FAILING = frozenset({CheckState.DEGRADED, CheckState.DOWN})


def monitor_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A monitor as clients read it."""
    return {
        "id": row["id"],
        **settings_document(row),
        "state": state_document(row),
        "config_version": row["config_version"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def settings_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """The part that clients may send back."""
    timeout_s = row["timeout_s"]
    return {
        "key": row["key"],
        "name": row["name"],
        "type": row["type"],
        "target": row["target"],
        "interval_seconds": row["interval_s"],
        "timeout_seconds": int(timeout_s) if timeout_s == int(timeout_s) else timeout_s,
        "failure_threshold": row["failure_threshold"],
        "recovery_threshold": row["recovery_threshold"],
        "retry_interval_seconds": row["retry_interval_s"],
        "severity": row["severity"],
        "labels": row["labels"],
        "locations": row["locations"],
        "quorum": row["quorum"],
        "enabled": row["enabled"],
        "parent_id": row["parent_id"],
        # Options stand under their type's name; a type without options has none to show.
        **({row["type"]: row["options"]} if row["options"] else {}),
        "assertions": row["assertions"],
    }


def audited_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit log keeps of a monitor: not its state; the version also tells of a new secret."""
    return {**settings_document(row), "config_version": row["config_version"]}


def patch_base(row: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """What a merge patch is applied to: the monitor as sent, without the options of a type that it leaves."""
    base = settings_document(row)
    if patch.get("type", row["type"]) != row["type"]:
        base.pop(row["type"], None)
    return base


def keep_secrets(merged: dict[str, Any], patch: dict[str, Any], stored: Mapping[str, str]) -> dict[str, Any]:
    """Put back the secrets that a patch holds as null or as {"secret": null}.

    In a merge patch null removes; but a client that sends back what it has read holds null for every secret, and must
    not lose them by that. To remove one, send `{"secret": ""}`, of headers `"headers": null`, or a PUT without it.
    """
    for path in stored:
        *steps, name = path.split(".", 2)
        given: Any = patch
        place = merged
        for step in steps:
            given = given.get(step)
            if not isinstance(given, dict):
                break
            place = place.setdefault(step, {})
        else:
            if name in given and given[name] in (None, KEPT):
                place[name] = None
    return merged


def to_settings(body: MonitorIn, location_ids: tuple[int, ...], stored_secrets: Mapping[str, str]) -> MonitorSettings:
    """A checked monitor as it is stored; `stored_secrets` fill what was sent as null."""
    options, secrets = _options(body, stored_secrets)
    return MonitorSettings(
        key=body.key,
        name=body.name,
        type=body.type,
        target=body.target,
        interval_s=body.interval_seconds,
        timeout_s=body.timeout,
        failure_threshold=body.failures,
        recovery_threshold=body.recovery_threshold,
        retry_interval_s=body.retry_interval_seconds,
        severity=body.severity,
        labels=body.labels,
        location_ids=location_ids,
        quorum=body.quorum,
        enabled=body.enabled,
        parent_id=body.parent_id,
        options=options,
        secrets=secrets,
        assertions=[{"value": None, **item.model_dump(exclude_unset=True)} for item in body.assertions],
    )


def stored_settings(row: Mapping[str, Any], secrets: Mapping[str, str]) -> MonitorSettings:
    """A stored monitor's settings; `secrets` are its opened ones."""
    names = MonitorSettings.__slots__
    plain = {name: row[name] for name in names if name not in ("location_ids", "secrets")}
    return MonitorSettings(**plain, location_ids=tuple(row["location_ids"]), secrets=secrets)


#: Of http these are always there; of everything else, what is not the default.
_ALWAYS = {"http": ("method", "headers", "body", "follow_redirects", "verify_tls")}


def _options(body: MonitorIn, stored: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Options with null for every secret, and the secrets by path."""
    sent = body.options
    apart = {"headers", *sent.SECRETS}
    options = {name: getattr(sent, name) for name in _ALWAYS.get(body.type, ()) if name not in apart}
    options |= sent.model_dump(exclude=apart, exclude_defaults=True)
    secrets: dict[str, str] = {}
    headers = _headers(body.type, getattr(sent, "headers", {}), stored, secrets)
    if headers or "headers" in _ALWAYS.get(body.type, ()):
        options["headers"] = headers
    for name in sent.SECRETS:
        path = f"{body.type}.{name}"
        text = _single_secret(sent, name, stored.get(path, ""))
        if text:
            options[name], secrets[path] = None, text
    return options, secrets


def _headers(
    type_: str, sent: Mapping[str, Any], stored: Mapping[str, str], secrets: dict[str, str]
) -> dict[str, str | None]:
    """Headers with null for the secret ones, which join the secrets."""
    headers: dict[str, str | None] = {}
    for name, value in sent.items():
        path = f"{type_}.headers.{name}"
        headers[name] = value if isinstance(value, str) else None
        if isinstance(value, Secret):
            secrets[path] = value.secret
        elif value is None:
            secrets[path] = _stored_secret(stored, path)
    return headers


def kept_secrets(body: MonitorIn) -> list[str]:
    """The paths of secrets that a body does not send but means to keep."""
    sent = body.options
    headers = [f"headers.{name}" for name, value in getattr(sent, "headers", {}).items() if value is None]
    singles = [name for name in sent.SECRETS if name in sent.model_fields_set and getattr(sent, name) is None]
    return [f"{body.type}.{name}" for name in (*headers, *singles)]


def _single_secret(sent: OptionsIn, name: str, stored: str) -> str:
    """What is sent wins; null keeps what is stored; absent is the default: none."""
    value = getattr(sent, name)
    if isinstance(value, Secret):
        return value.secret
    return stored if name in sent.model_fields_set else ""


def _stored_secret(stored: Mapping[str, str], path: str) -> str:
    try:
        return stored[path]
    except KeyError:
        raise ValidationFailed(
            "A secret that was never sent cannot be kept.",
            details=[FieldError(path, 'null keeps a stored secret, and none is stored; send {"secret": "…"}')],
        ) from None


def state_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A monitor's health as people see it."""
    status = status_of(row)
    latency_ms = row["latency_ms"]
    return {
        "status": status,
        "since": row["since"],
        "last_check_at": row["last_slot"],
        "latency_ms": None if latency_ms is None else _reached(latency_ms),
        "reason": Reason(row["reason"]).label if _failing(row, status) and row["reason"] else None,
    }


def _failing(row: Mapping[str, Any], status: CheckState) -> bool:
    """Maintenance hides the state in `status` alone."""
    return (CheckState(Health(row["health"]).label) if status is CheckState.MAINTENANCE else status) in _FAILING


def status_of(row: Mapping[str, Any]) -> CheckState:
    """How a monitor is, in one word."""
    if not row["enabled"]:
        return CheckState.PAUSED
    if row["maintenance"]:
        return CheckState.MAINTENANCE
    if row["last_slot"] is not None and (row["last_verdict"] == Verdict.UNKNOWN or row.get("stale")):
        return CheckState.UNKNOWN
    return CheckState(Health(row["health"]).label)


def result_document(row: Mapping[str, Any], monitor_id: str) -> dict[str, Any]:
    """A result as clients read it; phases that were not reached are null."""
    phases = {name: _reached(row[name]) for name in ("dns_ms", "connect_ms", "tls_ms", "ttfb_ms", "total_ms")}
    reason = Reason(row["reason"])
    scheduled_at: datetime = row["scheduled_at"].astimezone(UTC)
    return {
        "scheduled_at": scheduled_at,
        "location": row["location_name"],
        "verdict": Verdict(row["verdict"]).label,
        "reason": None if reason is Reason.NONE else reason.label,
        "message": row["message"] or None,
        "latency_ms": phases["total_ms"],
        "phases": phases,
        "status_code": row["code"] or None,
        "failed_assertion": row["failed_assertion"],
        "trace_id": check_id(monitor_id, row["location"], to_ms(scheduled_at)),
    }


def _reached(value: float) -> float | None:
    # Microseconds: what lies beyond is noise.
    return round(value, 3) if value >= 0 else None
