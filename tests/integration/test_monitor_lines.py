"""Every change of a monitor is one log line, after its commit; what changes nothing has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import audit
from tests import api_cast
from tests.api_cast import World

world = api_cast.world

Lines = list[tuple[str, str, int]]


def told(ask: Callable[[], Any]) -> Lines:
    """(event, monitor_id, config_version) of the lines about a monitor that this wrote."""
    with capture_logs() as lines:
        ask()
    about = [line for line in lines if line["event"].startswith(("monitor_", "check_"))]
    return [(line["event"], line["monitor_id"], line["config_version"]) for line in about]


def test_every_change_has_a_line_with_the_version_it_led_to(world: World) -> None:
    alice, made = world.alice, {}
    (created,) = told(lambda: made.update(alice.make_monitor(key="shop")))
    id_ = made["id"]
    path = f"/v1/monitors/{id_}"
    body = {"type": "http", "name": "other", "target": made["target"]}
    assert created == ("monitor_created", id_, 1)
    assert told(lambda: alice.patch(path, json={"name": "new"})) == [("monitor_changed", id_, 2)]
    assert told(lambda: alice.put("/v1/monitors/by-key/shop", json=body)) == [("monitor_changed", id_, 3)]
    assert told(lambda: alice.post(f"{path}/check")) == [("check_requested", id_, 3)]
    assert told(lambda: alice.post(f"{path}/pause")) == [("monitor_paused", id_, 4)]
    assert told(lambda: alice.patch(path, json={"enabled": True})) == [("monitor_resumed", id_, 5)]
    assert told(lambda: alice.delete(path)) == [("monitor_deleted", id_, 6)]
    ((event, again, version),) = told(lambda: alice.put("/v1/monitors/by-key/shop", json=body))
    assert (event, version) == ("monitor_created", 1) and again != id_


def test_what_changes_nothing_has_no_line(world: World) -> None:
    made = world.alice.make_monitor(name="shop")
    path = f"/v1/monitors/{made['id']}"
    assert told(lambda: world.alice.patch(path, json={"name": "shop"})) == []
    assert told(lambda: world.alice.post(f"{path}/resume")) == []
    assert told(lambda: world.alice.patch(path, json={"name": ""})) == []
    assert told(lambda: world.charlie.delete(path)) == []


def test_what_was_rolled_back_has_no_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world.alice.make_monitor()

    def broken(*_: Any) -> None:
        raise RuntimeError("after the change, before its commit")

    monkeypatch.setattr(audit, "changed", broken)
    assert told(lambda: world.alice.patch(f"/v1/monitors/{made['id']}", json={"name": "new"})) == []
    assert world.alice.get(f"/v1/monitors/{made['id']}").get_json()["name"] == made["name"]


def test_a_requests_line_names_what_its_path_named_and_no_secret(world: World) -> None:
    made = world.alice.make_monitor()
    with capture_logs() as lines:
        world.alice.get(f"/v1/monitors/{made['id']}")
        world.alice.get(f"/v1/monitors/{'x' * 3_000}")
        world.nobody.get("/ack/grant-of-somebody")
    named = [line.get("monitor_id") for line in lines if line["event"] == "request"]
    assert named == [made["id"], "x" * 36, None]
    assert "grant-of-somebody" not in str(lines)
