"""Where a check spent its time: a bar per phase, each beginning where the one before ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from rich.table import Table
from rich.text import Text

from common.client_types import Phases
from common.commands.words import milliseconds

#: Name, field, colour.
_ROWS = (
    ("name lookup", "dns_ms", "cyan"),
    ("connect", "connect_ms", "blue"),
    ("TLS", "tls_ms", "magenta"),
    ("first byte", "ttfb_ms", "green"),
)
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDTH = 44


def durations(phases: Phases) -> list[tuple[str, float, str]]:
    """(name, milliseconds, colour) of every phase that was reached; what the others leave is the rest of the answer."""
    values = cast("Mapping[str, float | None]", phases)
    found = [(name, value, style) for name, field, style in _ROWS if (value := values.get(field)) is not None]
    total = values.get("total_ms")
    rest = 0.0 if total is None else total - sum(value for _, value, _ in found)
    if rest >= 0.05:
        found.append(("the rest", rest, "yellow"))
    return found


def known(phases: Phases) -> bool:
    """Whether there is more to show than a total."""
    return len(durations(phases)) > 1


def picture(phases: Phases, width: int = _WIDTH) -> Table:
    """The bars."""
    found = durations(phases)
    whole = sum(value for _, value, _ in found) or 1.0
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    begun = 0.0
    for name, value, style in found:
        made.add_row(name, Text(bar(begun / whole, value / whole, width), style), milliseconds(value))
        begun += value
    total = phases["total_ms"]
    made.add_row("total", "", Text(milliseconds(total if total is not None else begun or None), "bold"))
    return made


def bar(begin: float, share: float, width: int) -> str:
    """A bar from `begin` on, `share` long, both of 1; at least a sliver wide."""
    start = min(int(begin * width), width - 1)
    eighths = max(1, min(round(share * width * 8), (width - start) * 8))
    whole, part = divmod(eighths, 8)
    return (" " * start + "█" * whole + (_EIGHTHS[part] if part else "")).ljust(width)
