"""What is told of a dead message, and what a replayed one keeps; without a server."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest

from common.dead_letters import as_new, error_class


def plain() -> None:
    raise ValueError("secret")


def of_many_lines() -> None:
    raise RuntimeError("first\nsecret: second\n\nthird")


def without_words() -> None:
    raise KeyError


def chained() -> None:
    try:
        plain()
    except ValueError as error:
        raise LookupError("secret") from error


def of_a_library() -> None:
    json.loads("{")


class Inner:
    class Fault(Exception):
        pass


def nested() -> None:
    raise Inner.Fault("secret")


#: (what fails, what is told of it)
FAILURES: list[tuple[Callable[[], None], str]] = [
    (plain, "ValueError"),
    (of_many_lines, "RuntimeError"),
    (without_words, "KeyError"),
    (chained, "LookupError"),
    (of_a_library, "json.decoder.JSONDecodeError"),
    (nested, f"{__name__}.Inner.Fault"),
]


@pytest.mark.parametrize(("fail", "told"), FAILURES)
def test_of_an_error_its_class_is_told_and_never_its_words(fail: Callable[[], None], told: str) -> None:
    try:
        fail()
    except Exception:
        text = traceback.format_exc(limit=30)
    assert error_class(text) == told


@pytest.mark.parametrize("text", ["", "secret", "secret: x", "Traceback (most recent call last):\nsecret: x"])
def test_what_is_no_traceback_tells_nothing(text: str) -> None:
    assert error_class(text) is None


def test_a_replayed_message_has_all_its_retries_and_is_otherwise_the_same() -> None:
    options: dict[str, Any] = {
        "retries": 3, "traceback": "…", "requeue_timestamp": 5, "eta": 7, "redis_message_id": "old", "max_retries": 9,
    }  # fmt: skip
    message = dramatiq.Message("notify.DQ", "deliver", ({"v": 1},), {"a": 1}, options)
    body = as_new(message.encode(), "notify", "new")
    assert body is not None
    assert dramatiq.Message.decode(body) == dramatiq.Message(
        "notify", "deliver", ({"v": 1},), {"a": 1}, {"redis_message_id": "new", "max_retries": 9},
        message.message_id, message.message_timestamp,
    )  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"{}", b"5", b'{"args": 5}', b"null"])
def test_what_cannot_be_read_cannot_be_replayed(body: bytes) -> None:
    assert as_new(body, "notify", "new") is None
