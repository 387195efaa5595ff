"""Answers as JSON: times as RFC 3339 in UTC, the same form that the database writes into documents."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from flask import Response


def reply(value: Any, status: int) -> Response:
    """A JSON answer; 204 has no body."""
    if status == 204:
        return Response(status=204)
    return Response(as_json(value), status, content_type="application/json")


def as_json(value: Any) -> str:
    """The value as JSON, on one line."""
    return json.dumps(value, default=_default, ensure_ascii=False, separators=(",", ":"))


def _default(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
