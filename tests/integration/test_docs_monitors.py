"""docs/monitors.md: each request in it, in its order, is answered as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import api_cast
from tests.api_cast import World

world = api_cast.world

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitors.md"
_BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^(GET|POST) (\S+)\n(.*?)^(\d{3}) (.*?)(?=^(?:GET|POST) |\Z)", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[str, str, Any, int, Any]]:
    """(method, path, body, status, answer) of each."""
    for block in _BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        for method, path, body, status, answer in _EXAMPLE.findall(block):
            yield method, path, json.loads(body) if body else None, int(status), json.loads(answer)


def differs(said: Any, shown: Any, path: str = "") -> list[str]:
    """Where an answer is not what is said; what is left out of an object may be anything."""
    if said == "…":
        return []
    if isinstance(said, dict) and isinstance(shown, dict):
        return [part for name in said for part in differs(said[name], shown.get(name), f"{path}.{name}")]
    if isinstance(said, list) and isinstance(shown, list) and len(said) == len(shown):
        return [
            part
            for n, (one, other) in enumerate(zip(said, shown, strict=True))
            for part in differs(one, other, f"{path}.{n}")
        ]
    return [] if said == shown else [f"{path}: {said!r} is {shown!r}"]


def test_every_example_is_answered_as_it_says(world: World) -> None:
    fingerprint, sent = "", set()
    for method, path, body, status, answer in examples():
        if body and body.get("fingerprint") == "…":
            body["fingerprint"] = fingerprint
        response = world.alice.call(method, path, **({} if body is None else {"json": body}))
        assert response.status_code == status, (path, response.text)
        assert differs(answer, response.get_json()) == [], path
        fingerprint = response.get_json().get("fingerprint", fingerprint)
        sent.add(path.partition("?")[0])
    assert sent == {"/v1/labels"} | {f"/v1/monitors{rest}" for rest in (
        "", "/bulk", "/pause", "/resume", "/plan", "/apply", "/export")}  # fmt: skip
