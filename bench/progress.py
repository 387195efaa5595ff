"""What is going on, on a terminal; nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress


class Progress:
    """One line that changes, gone at the end."""

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw no more."""
        self._bar.stop()

    def show(self, line: str, done: float | None) -> None:
        """Say what happens; `done` from 0 to 1, None when nobody knows."""
        self._bar.update(self._task, description=line, total=None if done is None else 1.0, completed=done or 0.0)

    def note(self, line: str) -> None:
        """A line that stays, also where there is no terminal."""
        self._bar.console.print(line)
