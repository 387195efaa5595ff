"""Logs hold no secret, whatever went wrong while somebody had one in hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from common import log

SECRET = "hunter2-in-a-local-variable"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def _break(password: str) -> None:
    assert password
    raise RuntimeError("it broke")


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_shows_no_local_variable(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("api", style=style)
    try:
        _break(SECRET)
    except RuntimeError:
        log.get_logger().exception("request_failed")
    said = capsys.readouterr().out
    assert "it broke" in said
    assert "_break" in said
    assert SECRET not in said


def test_what_a_key_calls_a_secret_is_hidden_at_any_depth(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("api", style="json")
    log.get_logger().info("made", password=SECRET, outer={"api_key": SECRET, "name": "shop"})
    said = capsys.readouterr().out
    assert SECRET not in said
    assert "shop" in said
