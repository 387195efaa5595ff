"""Keyset pages: newest first, a cursor that says after which row to go on, `Link: rel="next"`."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import Response, request

from api.replies import reply
from common.domain.errors import FieldError, ValidationFailed

MAX_LIMIT = 500
DEFAULT_LIMIT = 50
MAX_CURSOR_CHARS = 300


def page(items: Sequence[Any], cursor: str | None) -> Response:
    """A page of a list; `cursor` leads to the next one, None at the end."""
    response = reply({"data": items, "next_cursor": cursor}, 200)
    if cursor is not None:
        arguments = [(k, v) for k, v in request.args.items(multi=True) if k != "cursor"]
        response.headers["Link"] = f'<{request.path}?{urlencode([*arguments, ("cursor", cursor)])}>; rel="next"'
    return response


def cut(rows: list[Any], limit: int) -> tuple[list[Any], Any | None]:
    """The rows of this page out of limit + 1 read ones, and the last of them when more follow."""
    return (rows[:limit], rows[limit - 1]) if len(rows) > limit else (rows, None)


def encode(moment: datetime, tail: str | int) -> str:
    """A cursor: the last row's time and tie-breaker."""
    return base64.urlsafe_b64encode(json.dumps([moment.isoformat(), tail]).encode()).decode().rstrip("=")


def encode_number(number: int) -> str:
    """A cursor in a list that is numbered."""
    return base64.urlsafe_b64encode(json.dumps(number).encode()).decode().rstrip("=")


def encode_parts(parts: Sequence[Any]) -> str:
    """A cursor of a list that knows more than one order."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_parts(cursor: str) -> list[Any]:
    """What `encode_parts` put into a cursor. Raises ValidationFailed."""
    try:
        parts = _decode(cursor)
    except (ValueError, TypeError):
        raise _bad_cursor() from None
    if not isinstance(parts, list):
        raise _bad_cursor()
    return parts


def before_id(cursor: str | None) -> tuple[datetime, str] | None:
    """The (time, id) in a cursor, None without one. Raises ValidationFailed."""
    if cursor is None:
        return None
    try:
        moment, tail = _decode(cursor)
        return _moment(moment), str(UUID(tail))
    except (ValueError, TypeError, AttributeError):
        raise _bad_cursor() from None


def before_number(cursor: str | None) -> tuple[datetime, int] | None:
    """The (time, small number) in a cursor, None without one. Raises ValidationFailed."""
    if cursor is None:
        return None
    try:
        moment, tail = _decode(cursor)
        return _moment(moment), _number(tail, 32_767)
    except (ValueError, TypeError):
        raise _bad_cursor() from None


def after_number(cursor: str | None) -> int:
    """The number in a cursor, 0 without one. Raises ValidationFailed."""
    if cursor is None:
        return 0
    try:
        return _number(_decode(cursor), 2**31 - 1)
    except (ValueError, TypeError):
        raise _bad_cursor() from None


def _decode(cursor: str) -> Any:
    try:
        return json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, RecursionError) as error:
        raise ValueError("not a cursor") from error


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError("a time without a zone")
    return moment


def _number(value: Any, largest: int) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError("not a number in range")
    return value


def _bad_cursor() -> ValidationFailed:
    return ValidationFailed(
        "The cursor is not one of ours.", details=[FieldError("cursor", "must be next_cursor of an earlier page")]
    )
