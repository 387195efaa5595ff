"""Secrets can be written, never read: no change of a monitor sends stored ones where they can be read on their way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import api_cast
from tests.api_cast import World
from tests.certificate import make_certificate

world = api_cast.world

#: Stands for a certificate.
AUTHORITY = "a private authority"
HIDDEN: dict[str, Any] = {"headers": {"Authorization": {"secret": "s"}}}
LOGIN: dict[str, Any] = {"password": {"secret": "s"}}
#: (type, its target, stored options with a secret, a patch of them, is it taken?)
GUARDED: list[tuple[str, str, dict[str, Any], dict[str, Any], bool]] = [
    ("http", "https://shop.example/", HIDDEN, {"verify_tls": False}, False),
    ("http", "https://shop.example/", HIDDEN, {"verify_tls": True, "follow_redirects": False}, True),
    ("http", "https://shop.example/", {**HIDDEN, "verify_tls": False}, {"verify_tls": True}, True),
    # Sent again, or removed, it may go any way that its owner says.
    ("http", "https://shop.example/", HIDDEN, {"verify_tls": False, **HIDDEN}, True),
    ("http", "https://shop.example/", HIDDEN, {"verify_tls": False, "headers": None}, True),
    # Whoever may choose the authority may be the one in between.
    ("http", "https://shop.example/", HIDDEN, {"ca_certificates": AUTHORITY}, False),
    ("http", "https://shop.example/", {**HIDDEN, "ca_certificates": AUTHORITY}, {"ca_certificates": None}, False),
    ("websocket", "wss://shop.example/", HIDDEN, {"verify_tls": False}, False),
    ("postgres", "db.example", LOGIN, {"tls": "disable"}, False),
    ("postgres", "db.example", LOGIN, {"tls": "require"}, True),
    ("postgres", "db.example", {**LOGIN, "tls": "require"}, {"tls": "prefer"}, False),
    ("postgres", "db.example", {**LOGIN, "tls": "require"}, {"tls": None}, False),
    ("postgres", "db.example", {**LOGIN, "tls": "require"}, {"verify_tls": False}, False),
    ("redis", "cache.example", LOGIN, {"tls": True}, True),
    ("redis", "cache.example", {**LOGIN, "tls": True}, {"tls": False}, False),
]


@pytest.mark.parametrize("case", GUARDED)
def test_stored_secrets_are_not_sent_less_guarded_than_before(
    world: World, case: tuple[Any, ...], tmp_path: Path
) -> None:
    type_, target, options, patch, taken = case
    certificate = make_certificate(tmp_path)[0].read_text()
    options, patch = (
        {name: certificate if value == AUTHORITY else value for name, value in some.items()}
        for some in (options, patch)
    )
    made = world.alice.make_monitor(type=type_, target=target, key="k", **{type_: options})
    answer = world.alice.patch(f"/v1/monitors/{made['id']}", json={type_: patch})
    assert answer.status_code == (200 if taken else 400), answer.text
    if not taken:
        secret = "password" if "password" in options else "headers.Authorization"
        assert [detail["field"] for detail in answer.get_json()["details"]] == [f"{type_}.{secret}"]
        # A plan is no way around it.
        kept = {"password": {"secret": None}} if "password" in options else {"headers": {"Authorization": None}}
        wanted = {name: value for name, value in {**options, **kept, **patch}.items() if value is not None}
        monitor = {"name": "Shop", "type": type_, "target": target, "key": "k", type_: wanted}
        assert world.alice.post("/v1/monitors/plan", json={"monitors": [monitor]}).status_code == 400
