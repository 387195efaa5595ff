"""A target and a few options as people type them, made into what the API takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from common.exit_status import CommandError

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:?#@]+):[0-9]{1,5}")


def options_of(  # noqa: PLR0913 - each is an option of two commands
    target: str,
    *,
    kind: str | None,
    method: str | None,
    header: Sequence[str] | None,
    status: Sequence[str] | None,
    contains: Sequence[str] | None,
    slower_than: float | None,
) -> dict[str, Any]:
    """type, target, http and assertions of a monitor or probe. Raises CommandError."""
    body: dict[str, Any] = {"type": kind or type_of(target), "target": target}
    request: dict[str, Any] = {}
    if method:
        request["method"] = method.upper()
    if header:
        request["headers"] = dict(_header(text) for text in header)
    if request:
        body["http"] = request
    assertions: list[dict[str, Any]] = []
    if status:
        assertions.append(
            {"source": "status", "op": "in", "value": [part for text in status for part in text.split(",")]}
        )
    assertions += [{"source": "body", "op": "contains", "value": text} for text in contains or ()]
    if slower_than is not None:
        assertions.append({"source": "latency_ms", "op": "lt", "value": slower_than, "on_fail": "degraded"})
    if assertions:
        body["assertions"] = assertions
    return body


def heartbeat_of(target: str | None, name: str | None, **given: str | int | None) -> dict[str, Any]:
    """The same of a heartbeat, with its options by name; None is not given. Raises CommandError."""
    if target is not None:
        raise CommandError("a heartbeat has no target: it waits to be pinged")
    if name is None:
        raise CommandError("say what it is called: --name 'nightly backup'")
    settings = {field: value for field, value in given.items() if value is not None}
    return {"type": "heartbeat"} | ({"heartbeat": settings} if settings else {})


def type_of(target: str) -> str:
    """Http for a URL, tcp for host:port. Raises CommandError."""
    if re.match(r"https?://", target, re.IGNORECASE):
        return "http"
    if _HOST_PORT.fullmatch(target):
        return "tcp"
    raise CommandError(f"{target!r} is neither https://host/path nor host:port; say --type for anything else")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"{text!r} is no header: write 'Name: value'")
    return name.strip(), value.strip()
