"""What is going on: one live line on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console

from bench.progress import Progress as Bar

_PLAIN_EVERY_S = 15.0


class Progress:
    """Use it with `with`; `show` may be called as often as one likes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(console)
        self._began = time.monotonic()
        self._said_at = 0.0
        self._said = ""

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def show(self, line: str, done: float | None) -> None:
        """Say what happens; `done` from 0 to 1, None when nobody knows."""
        if self._console.is_terminal:
            self._bar.show(line, done)
            return
        now = time.monotonic()
        new_step = done is None and line != self._said
        if new_step or now - self._said_at >= _PLAIN_EVERY_S:
            self._said, self._said_at = line, now
            share = "" if done is None else f" {done:4.0%}"
            self._console.print(f"{now - self._began:6.1f} s{share}  {line}", highlight=False)
