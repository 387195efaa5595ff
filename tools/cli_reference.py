"""Write the lists of commands and exit statuses in docs/cli.md from the commands: `python -m tools.cli_reference`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from common import cli
from common.exit_status import MEANINGS

PATH = Path(__file__).parent.parent / "docs" / "cli.md"


def updated(text: str) -> str:
    """The document with both lists as they are."""
    for name, lines in (("commands", _commands()), ("exit statuses", _statuses())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        inner = "\n".join([begin, *lines, end])
        text, found = re.subn(f"{begin}.*?{end}", lambda _, inner=inner: inner, text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"{PATH.name} needs one {begin} … {end}")
    return text


def _commands() -> Iterator[str]:
    panel = ""
    for name, place in cli.COMMANDS.items():
        if place.panel != panel:
            panel = place.panel
            yield from ("", f"### {panel}", "", "| command | | options |", "|---|---|---|")
        command = cli.load(name)
        if isinstance(command, TyperGroup):
            for inner, one in command.commands.items():
                yield _row(f"{name} {inner}", one)
        else:
            yield _row(name, command)
    yield ""


def _row(name: str, command: Any) -> str:
    arguments = [_argument(param) for param in command.params if not isinstance(param, TyperOption)]
    options = [_option(param) for param in command.params if isinstance(param, TyperOption)]
    first = command.help.split("\n\n")[0].replace("\n", " ")
    call = " ".join(["tocsin", name, *arguments])
    return f"| `{call}` | {first} | {' '.join(options)} |".replace("|  |", "| |")


def _argument(param: Any) -> str:
    shown = param.metavar or param.name.upper()
    shown = shown if param.required else f"[{shown}]"
    return f"{shown}…" if param.nargs == -1 else shown


def _option(param: Any) -> str:
    value = f" {param.metavar}" if param.metavar and not param.is_flag else ""
    return f"`{param.opts[0]}{value}`"


def _statuses() -> Iterator[str]:
    yield from ("", "| status | |", "|---|---|")
    for status, meaning in MEANINGS.items():
        yield f"| {status.value} | {meaning} |"
    yield ""


if __name__ == "__main__":
    PATH.write_text(updated(PATH.read_text(encoding="utf-8")), encoding="utf-8")
