"""The `tocsin` command at a terminal: what it asks, what it does not echo, colours and widths."""

from __future__ import annotations

import codecs
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import api_cast
from tests.api_cast import PASSWORD, World
from tests.served import ROOT, serving

world = api_cast.world

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serving(world.client.application) as url:
        yield url


class Terminal:
    """`tocsin` with a terminal of this width; what it wrote, escapes included."""

    def __init__(self, home: Path, words: tuple[str, ...], width: int = 80, **environment: str) -> None:
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, width))
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "xterm-256color", **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "common.cli", *words],
            cwd=ROOT, env={**env, "TOCSIN_DATA_DIR": str(home / "nothing")},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def until(self, text: str) -> None:
        """Read until it says this."""
        ends = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < ends, f"{text!r} is not in {self.shown!r}"
            self._read()

    def type(self, text: str) -> None:
        os.write(self._ours, f"{text}\n".encode())

    def end(self) -> int:
        """Read the rest; the exit status."""
        while self._read():
            pass
        os.close(self._ours)
        return self.process.wait(60)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 60)[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # the other side is closed
            return False
        self.shown += self._decoder.decode(data)  # a read may end inside a character
        return bool(data)


def test_a_login_asks_and_does_not_show_the_password(url: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, ("login",))
    terminal.until("URL [http://127.0.0.1:8000]: ")
    terminal.type(url)
    terminal.until("e-mail: ")
    terminal.type("alice@example.com")
    terminal.until("password: ")
    terminal.type(PASSWORD)
    assert terminal.end() == 0, terminal.shown
    assert "owner" in terminal.shown
    assert PASSWORD not in terminal.shown


def test_what_is_removed_is_asked_for_first(url: str, tmp_path: Path, world: World) -> None:
    world.alice.make_monitor(name="Shop", key="shop")
    key = world.alice.post("/v1/api-keys", json={"name": "cli"}).get_json()["key"]
    for answer, status, left in (("", 1, 1), ("n", 1, 1), ("yes", 0, 0)):
        terminal = Terminal(tmp_path, ("monitors", "rm", "shop"), TOCSIN_URL=url, TOCSIN_API_KEY=key)
        terminal.until("remove Shop? [y/N] ")
        terminal.type(answer)
        assert terminal.end() == status, terminal.shown
        assert len(world.alice.get("/v1/monitors").get_json()["data"]) == left


def test_ctrl_c_at_a_question_does_nothing_and_ends_with_130(url: str, tmp_path: Path, world: World) -> None:
    world.alice.make_monitor(name="Shop", key="shop")
    key = world.alice.post("/v1/api-keys", json={"name": "cli"}).get_json()["key"]
    terminal = Terminal(tmp_path, ("monitors", "rm", "shop"), TOCSIN_URL=url, TOCSIN_API_KEY=key)
    terminal.until("[y/N] ")
    terminal.process.send_signal(2)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert len(world.alice.get("/v1/monitors").get_json()["data"]) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_lines_are_as_wide_as_the_terminal_at_most(url: str, tmp_path: Path, world: World, width: int) -> None:
    for number in range(3):
        monitor = world.alice.make_monitor(name=f"Shop {number} {'x' * 150}", target=f"http://192.0.2.7/{'p' * 150}")
    incident = world.alice.post("/v1/incidents", json={"title": "carts lose items " * 20, "description": "y" * 300})
    incident_id = incident.get_json()["id"]
    key = world.alice.post("/v1/api-keys", json={"name": "cli"}).get_json()["key"]
    for words in (("monitors", "ls"), ("monitors", "show", monitor["id"]), ("incidents", "ls"),
                  ("incidents", "show", incident_id), ("--help",)):  # fmt: skip
        terminal = Terminal(tmp_path, words, width, TOCSIN_URL=url, TOCSIN_API_KEY=key)
        assert terminal.end() == 0, terminal.shown
        lines = _ESCAPES.sub("", terminal.shown).splitlines()
        assert max(map(len, lines)) <= width, (words, lines)
        if words[-1] == "ls":
            assert "…" in terminal.shown  # only what is long is cut: states and ids are whole
            assert any(line.rstrip().endswith((monitor["id"][-8:], incident_id[-8:])) for line in lines)


def test_colours_are_for_terminals_that_want_them(url: str, tmp_path: Path, world: World) -> None:
    world.open_incident(world.alice.make_monitor())
    key = world.alice.post("/v1/api-keys", json={"name": "cli"}).get_json()["key"]
    coloured = Terminal(tmp_path, ("incidents", "ls"), TOCSIN_URL=url, TOCSIN_API_KEY=key)
    assert coloured.end() == 0
    assert re.search(r"\x1b\[(1;)?31m", coloured.shown)
    plain = Terminal(tmp_path, ("incidents", "ls"), TOCSIN_URL=url, TOCSIN_API_KEY=key, NO_COLOR="1")
    assert plain.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain.shown)
    assert "✖ open" in plain.shown
