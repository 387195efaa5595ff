"""docs/cli.md is held against the commands."""

from __future__ import annotations

import re
import shlex

import pytest

from common import cli
from tools import cli_reference

TEXT = cli_reference.PATH.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ (tocsin .*)$", TEXT, re.MULTILINE)


def test_the_lists_are_as_the_commands_are() -> None:
    assert cli_reference.updated(TEXT) == TEXT, "run: python -m tools.cli_reference"


def test_there_is_an_example_of_every_command_that_talks_to_an_api() -> None:
    rows = re.findall(r"^\| `(tocsin [a-z -]+)", TEXT.partition("### Run Tocsin")[0], re.MULTILINE)
    assert len(rows) > 15
    assert [row for row in rows if not any(example.startswith(row.rstrip()) for example in EXAMPLES)] == []


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_example_is_a_command_line_that_there_is(line: str) -> None:
    words = shlex.split(line)[1:]
    words = words[: next((at for at, word in enumerate(words) if word in ("|", "||")), len(words))]
    command, name = cli.load(words[0]), words.pop(0)
    if hasattr(command, "commands"):
        command, name = command.commands[words[0]], words.pop(0)
    assert command.make_context(name, words)  # raises for what it does not know


def test_every_link_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = link.partition("#")
        assert (cli_reference.PATH.parent / path).exists() if path else anchor in anchors, link
