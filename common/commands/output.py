"""What commands write: tables and pictures for people, JSON for programs.

With --json standard output holds one JSON document and nothing else. Without a terminal there are no colours and lines
are as long as they need to be, so that they can be searched; NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.exit_status import CommandError, ExitStatus, clean

#: For lines that nobody looks at on a screen.
_ENDLESS = 400

STYLES = {
    "up": "green",
    "degraded": "yellow",
    "down": "bold red",
    "unknown": "magenta",
    "pending": "cyan",
    "paused": "dim",
    "maintenance": "blue",
    "open": "bold red",
    "acknowledged": "yellow",
    "resolved": "green",
    "critical": "bold red",
    "error": "red",
    "warning": "yellow",
    "info": "cyan",
    "sent": "green",
    "dead": "bold red",
    "suppressed": "dim",
}
_MARKS = {
    "up": "●",
    "degraded": "▲",
    "down": "✖",
    "unknown": "?",
    "pending": "○",
    "paused": "‖",
    "maintenance": "◆",
    "open": "✖",
    "acknowledged": "▲",
    "resolved": "●",
    "sent": "●",
    "dead": "✖",
    "suppressed": "-",
}


@cache
def console() -> Console:
    """Standard output."""
    out = Console(highlight=False, emoji=False, markup=False)
    return out if out.is_terminal else Console(highlight=False, emoji=False, markup=False, width=_ENDLESS)


@cache
def aside() -> Console:
    """Standard error: what is said beside the answer."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)


def note(text: str, style: str = "dim") -> None:
    """One line beside the answer."""
    aside().print(Text(clean(text), style))


def emit(document: Any) -> None:
    """A document for programs."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def marked(word: str) -> Text:
    """A state or status with its mark and colour."""
    return Text(f"{_MARKS.get(word, '·')} {clean(word)}", STYLES.get(word, ""))


def plain(value: object, style: str = "") -> Text:
    """What others wrote, as one line that cannot change the screen."""
    return Text(clean(str(value)), style)


def lines(text: str, style: str = "") -> Text:
    """The same, keeping its lines."""
    return Text("\n".join(clean(line) for line in text.splitlines()), style)


class Listing(Table):
    """A table without frame, a line per row. Only `wide` columns give way where there is too little room."""

    def __init__(self, *columns: str, right: Sequence[str] = (), wide: Sequence[str] = ()) -> None:
        super().__init__(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        self._wide = [index for index, name in enumerate(columns) if name in wide]
        for name in columns:
            self.add_column(name.upper(), justify="right" if name in right else "left", no_wrap=name not in wide)

    def line(self, *cells: Text | str) -> None:
        """A row; what does not fit is cut."""
        row = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
        for index in self._wide:
            # Rich narrows columns that may wrap; these cells are cut instead.
            row[index].no_wrap, row[index].overflow = True, "ellipsis"
        self.add_row(*row)


def pairs(rows: Sequence[tuple[str, Text]]) -> Table:
    """Names and values below each other."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value)
    return made


def confirm(question: str, *, yes: bool) -> None:
    """Go on only after a yes. Raises CommandError where nobody can be asked, Exit after a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("nothing was done: there is no terminal to ask at; say --yes")
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        note("nothing was done")
        raise typer.Exit(ExitStatus.NOT_WELL)
