"""`tocsin monitors add --type heartbeat`, and files with heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import api_cast
from tests.api_cast import World
from tests.served import Shell, serving

world = api_cast.world


@pytest.fixture
def tocsin(world: World, tmp_path: Path) -> Iterator[Shell]:
    key = world.alice.post("/v1/api-keys", json={"name": "cli", "role": "owner"}).get_json()["key"]
    with serving(world.client.application) as url:
        yield Shell(tmp_path, {"TOCSIN_URL": url, "TOCSIN_API_KEY": key})
    world.services.pings.close()


def test_a_heartbeat_is_added_and_its_address_shown(tocsin: Shell, world: World) -> None:
    done = tocsin("monitors", "add", "--type", "heartbeat", "--name", "Backup", "--interval", "300")
    assert done.returncode == 0, done.stderr
    said = done.stdout
    address = said[said.index("/ping/") :].split()[0]
    assert world.nobody.get(address).text == "OK"
    made = tocsin.json(
        "monitors", "add", "--type", "heartbeat", "--name", "Nightly", "--key", "nightly", "--cron", "0 3 * * *",
        "--timezone", "Europe/Berlin", "--grace", "1800",
    )  # fmt: skip
    assert made["heartbeat"] == {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "grace_seconds": 1800}
    counted = tocsin.json(
        "monitors", "add", "--type", "heartbeat", "--name", "Five", "--key", "five", "--period", "86400",
        "--at-least", "5", "--tolerate-failures",
    )  # fmt: skip
    assert counted["heartbeat"] == {"period_seconds": 86_400, "at_least": 5, "tolerate_failures": True}
    exported = tocsin("export").stdout
    assert "type: heartbeat" in exported
    assert "at_least: 5" in exported
    assert "target" not in exported
    assert tocsin("plan", "-f", "-", "--exit-code", feed=exported).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--type", "heartbeat"), "--name"),
        (("http://192.0.2.7/", "--type", "heartbeat", "--name", "x"), "no target"),
        ((), "say what to watch"),
        (("--type", "heartbeat", "--name", "x", "--cron", "daily"), "five fields"),
        (("--type", "heartbeat", "--name", "x", "--at-least", "3"), "needs period_seconds"),
    ],
)
def test_what_is_missing_is_one_line(tocsin: Shell, arguments: tuple[str, ...], said: str) -> None:
    _, line = tocsin.fails("monitors", "add", *arguments)
    assert said in line
