"""What Prometheus and Alertmanager send, as they send it: Alertmanager's webhook (version 4) and its own alerts API.

The key stands in the path, or is sent as Bearer or by Basic authentication, as their configurations allow. Both inputs
give an alert the same dedup_key: Prometheus' fingerprint of its labels, which Alertmanager names in its webhook.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api import auth, intake, limits, parsing
from api.alert_documents import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_SUMMARY_CHARS, utc, within_limits
from api.routing import Facts, Routes
from common import log
from common.clock import utc_now
from common.domain.alerts import (
    MAX_KEY_CHARS,
    RESERVED_KEYS,
    Alert,
    AlertStatus,
    Lifetime,
    label_fingerprint,
    severity_of,
    shortened,
)
from common.domain.errors import FieldError, ValidationFailed

routes = Routes("compatibility")

_PERMISSION = "alerts:write"
#: No time: an alert that fires has no end yet.
_NEVER_YEAR = 1
#: Half an address leads nowhere: a longer one is left out.
_MAX_URL_CHARS = 8_192


class AlertsTaken(BaseModel):
    """What became of the alerts, as counts."""

    status: Literal["success"]
    opened: int = 0
    deduplicated: int = 0
    resolved: int = 0
    unmatched: Annotated[int, Field(description="Of a platform key's alerts: no organization wants them.")] = 0


_FACTS: Facts = {
    "answer": AlertsTaken,
    "token": "key",
    "limit": limits.ALERTS,
    "max_bytes": parsing.MAX_ARRAY_BYTES,
    "statuses": (400, 401, 403, 413),
}


@routes.post("/integrations/alertmanager", **_FACTS)
def alertmanager_webhook() -> dict[str, Any]:
    """Alertmanager's webhook; the key as Bearer or by Basic authentication (either half)."""
    return _webhook("")


@routes.post("/integrations/alertmanager/<key>", **_FACTS)
def alertmanager_webhook_by_key(key: str) -> dict[str, Any]:
    """Alertmanager's webhook with an API key in its path."""
    return _webhook(key)


@routes.post("/api/v2/alerts", **_FACTS)
def alertmanager_alerts() -> dict[str, Any]:
    """What Prometheus sends to an Alertmanager; the key as Bearer or by Basic authentication (either half).

    What is not sent again before its endsAt, or without one for five minutes, is resolved.
    """
    return _alerts("")


@routes.post("/integrations/alertmanager/<key>/api/v2/alerts", **_FACTS)
def alertmanager_alerts_by_key(key: str) -> dict[str, Any]:
    """The same with an API key in the path, for Prometheus' `path_prefix`."""
    return _alerts(key)


def _webhook(key: str) -> dict[str, Any]:
    auth.require_key(_PERMISSION, key)
    body = parsing.read_json()
    items = body.get("alerts") if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise _wrong("alerts", "must be an array: this takes Alertmanager's webhook, version 4")
    if body.get("truncatedAlerts"):
        # Alertmanager's max_alerts cut them off: nobody here will ever see them.
        log.get_logger().warning("alerts_truncated_by_sender", count=body["truncatedAlerts"])
    return _take([_of_webhook(item, f"alerts.{n}") for n, item in enumerate(items)], "alertmanager")


def _alerts(key: str) -> dict[str, Any]:
    auth.require_key(_PERMISSION, key)
    items = parsing.read_json()
    if not isinstance(items, list):
        raise _wrong("body", "must be an array of alerts")
    now = utc_now()
    return _take([_of_api(item, str(n), now) for n, item in enumerate(items)], "prometheus")


def _take(alerts: list[Alert], what: str) -> dict[str, Any]:
    tally = intake.take_in(alerts, what)
    return {"status": "success", **{outcome.value: count for outcome, count in tally.items()}}


def _of_webhook(item: Any, where: str) -> Alert:
    status = item.get("status") if isinstance(item, dict) else None
    if status not in list(AlertStatus):
        raise _wrong(f"{where}.status", "must be firing or resolved")
    return _alert(item, where, "alertmanager", AlertStatus(status))


def _of_api(item: Any, where: str, now: datetime) -> Alert:
    if not isinstance(item, dict):
        raise _wrong(where, "must be an object")
    ends_at = _moment(item, "endsAt", where)
    over = ends_at is not None and ends_at <= now
    alert = _alert(item, where, "prometheus", AlertStatus.RESOLVED if over else AlertStatus.FIRING)
    # Who sends here repeats what fires; nothing else would tell that it has died.
    return replace(alert, lifetime=Lifetime(ends_at))


def _alert(item: Mapping[str, Any], where: str, source: str, status: AlertStatus) -> Alert:
    labels = _texts(item, "labels", where)
    said = _texts(item, "annotations", where)
    facts = {"url": item.get("generatorURL"), "runbook_url": said.get("runbook_url")}
    return Alert(
        name=shortened(_line(labels.get("alertname", "")), MAX_NAME_CHARS) or "alert",
        source=source,
        severity=severity_of(labels.get("severity", "")),
        status=status,
        dedup_key=_key(item.get("fingerprint"), labels),
        summary=_line(said.get("summary") or said.get("title") or said.get("message") or "")[:MAX_SUMMARY_CHARS],
        description=said.get("description", "")[:MAX_DESCRIPTION_CHARS],
        labels=within_limits(labels),
        starts_at=_moment(item, "startsAt", where),
        facts={name: url for name, url in facts.items() if isinstance(url, str) and 0 < len(url) <= _MAX_URL_CHARS},
    )


def _key(fingerprint: Any, labels: Mapping[str, str]) -> str:
    """The sender's own fingerprint, or else that of all labels as they came. Reserved keys are nobody's to claim."""
    theirs = isinstance(fingerprint, str) and 0 < len(fingerprint) <= MAX_KEY_CHARS
    if not theirs or fingerprint.startswith(RESERVED_KEYS):
        return label_fingerprint(labels)
    return str(fingerprint)


def _texts(item: Mapping[str, Any], field: str, where: str) -> dict[str, str]:
    found = item.get(field) or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _wrong(f"{where}.{field}", "must be an object of texts")
    return found


def _moment(item: Mapping[str, Any], field: str, where: str) -> datetime | None:
    """A time, None where there is none or Go's zero stands for none."""
    text = item.get(field)
    if not text:
        return None
    try:
        read = datetime.fromisoformat(text)
        moment = utc(read) if read.tzinfo else None
    except (ValueError, TypeError):
        moment = None
    if moment is None:
        raise _wrong(f"{where}.{field}", "must be a time as RFC 3339 writes it")
    return None if moment.year <= _NEVER_YEAR else moment


def _line(text: str) -> str:
    return " ".join(text.split())


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("This is not what Alertmanager sends.", details=[FieldError(field, message)])
