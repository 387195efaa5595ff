"""PagerDuty's Events API v2, so that what sends there can send here: `routing_key` is an API key of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal
from uuid import uuid4

from flask import Response
from pydantic import BaseModel

from api import auth, intake, limits, parsing
from api.alert_documents import MAX_NAME_CHARS, MAX_SUMMARY_CHARS, within_limits
from api.replies import reply
from api.routing import Routes
from common.domain.alerts import MAX_KEY_CHARS, RESERVED_KEYS, Alert, AlertStatus, shortened
from common.domain.errors import Forbidden, Unauthorized, ValidationFailed
from common.domain.incident import Severity

routes = Routes("compatibility")

_ACTIONS = ("trigger", "acknowledge", "resolve")
#: Of the payload, what becomes labels: routes can match on it.
_LABELS = ("component", "group", "class")


class EventTaken(BaseModel):
    """The event was taken in, or what is wrong with it: as PagerDuty says it."""

    status: Literal["success", "invalid event"]
    message: str
    dedup_key: str = ""
    errors: list[str] = []


@routes.post("/v2/enqueue", status=202, answer=EventTaken, statuses=(413,), own_errors=(400,), limit=limits.ALERTS)
def pagerduty_enqueue() -> Response:
    """Trigger, acknowledge or resolve by PagerDuty's Events API v2. Errors have PagerDuty's form."""
    try:
        event = parsing.read_json()
    except ValidationFailed as error:
        return _invalid([f"{detail.field}: {detail.message}" for detail in error.details])
    if not isinstance(event, dict):
        return _invalid(["the body must be a JSON object"])
    errors = list(_problems(event))
    if errors:
        return _invalid(errors)
    try:
        auth.require_key("alerts:write", event["routing_key"])
    except (Unauthorized, Forbidden):
        return _invalid(["'routing_key' is invalid"])
    key = event.get("dedup_key") or uuid4().hex
    if event["event_action"] == "acknowledge":
        intake.acknowledge(key)
    else:
        intake.take_in([_alert(event, key)], "pagerduty")
    return reply({"status": "success", "message": "Event processed", "dedup_key": key}, 202)


def _problems(event: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(event.get("routing_key"), str) or not event["routing_key"]:
        yield "'routing_key' is missing or blank"
    action, key = event.get("event_action"), event.get("dedup_key")
    if action not in _ACTIONS:
        yield f"'event_action' is invalid (must be one of the following: {_listed(_ACTIONS)})"
    if key is not None and (not isinstance(key, str) or len(key) > MAX_KEY_CHARS):
        yield f"'dedup_key' is invalid (must be a string of at most {MAX_KEY_CHARS} characters)"
    elif key is not None and key.startswith(RESERVED_KEYS):
        yield f"'dedup_key' is invalid (must not begin with {_listed(RESERVED_KEYS)})"
    elif not key and action in ("acknowledge", "resolve"):
        yield f"'dedup_key' is missing or blank (must be there for event_action '{action}')"
    if action == "trigger":
        yield from _payload_problems(event.get("payload"))


def _payload_problems(payload: Any) -> Iterator[str]:
    if not isinstance(payload, dict):
        yield "'payload' is missing or blank"
        return
    for field in ("summary", "source"):
        if not isinstance(payload.get(field), str) or not payload[field].strip():
            yield f"'payload.{field}' is missing or blank"
    if payload.get("severity") not in list(Severity):
        yield f"'payload.severity' is invalid (must be one of the following: {_listed(list(Severity))})"


def _alert(event: Mapping[str, Any], key: str) -> Alert:
    if event["event_action"] == "resolve":
        return Alert("", "", Severity.INFO, AlertStatus.RESOLVED, key)
    payload = event["payload"]
    summary = " ".join(payload["summary"].split())
    labels = {field: payload[field] for field in _LABELS if isinstance(payload.get(field), str) and payload[field]}
    known = {name: event.get(name) for name in ("client", "client_url", "links", "images")}
    details = {"timestamp": payload.get("timestamp"), "custom_details": payload.get("custom_details")}
    return Alert(
        # It has no name of its own: the class says what kind of problem it is.
        name=shortened(" ".join(labels.get("class", "").split()) or summary, MAX_NAME_CHARS),
        source=shortened(" ".join(payload["source"].split()), MAX_NAME_CHARS),
        severity=Severity(payload["severity"]),
        status=AlertStatus.FIRING,
        dedup_key=key,
        summary=summary[:MAX_SUMMARY_CHARS],
        labels=within_limits(labels),
        # No start: by PagerDuty's rules only what is open makes a repeat.
        facts={name: value for name, value in {**known, **details}.items() if value},
    )


def _listed(values: Any) -> str:
    quoted = [f"'{value}'" for value in values]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _invalid(errors: list[str]) -> Response:
    return reply({"status": "invalid event", "message": "Event object is invalid", "errors": errors}, 400)
