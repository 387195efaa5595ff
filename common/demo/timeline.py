"""What the demo says: in colours and with a table on a terminal, in plain lines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Act:
    """What happens to the endpoint, and what has to follow."""

    name: str
    headline: str
    mark: str
    style: str
    http_status: int
    check: str
    checks: int
    incident_status: str
    webhook_type: str


@dataclass(slots=True)
class Times:
    """When each step of an act happened, in seconds of the monotonic clock."""

    began: float
    checks: list[float] = field(default_factory=list)
    incident: float = 0.0
    webhook: float = 0.0

    def figures(self) -> list[str]:
        """After how long each step came; the last is our own part: from the deciding check to the webhook."""
        deciding = self.checks[-1]
        moments = (self.checks[0], deciding, self.incident, self.webhook)
        return [*(milliseconds(at - self.began) for at in moments), milliseconds(self.webhook - deciding)]


_FIGURES = ("detected", "confirmed", "incident", "webhook", "check → webhook")


class Timeline:
    """One line per event; `failures` counts what went wrong."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failures = 0

    def title(self) -> None:
        """What this is."""
        self._line(("  Tocsin", "bold cyan"), ("  one outage, from failure to webhook", "bold"))
        self._line()

    def fact(self, name: str, what: str, note: str = "") -> None:
        """Something that is ready."""
        self._line(("  ✓ ", "green"), f"{name:<10}", (what, "cyan"), (f"  {note}", "dim"))

    def turn(self, act: Act) -> None:
        """Something that we do to the endpoint."""
        self._line()
        headline = f"  {act.mark} {act.headline}"
        self._line((headline, f"bold {act.style}"), (f"  it answers {act.http_status} from now on", "dim"))

    def event(self, after_s: float, name: str, note: str) -> None:
        """Something that followed."""
        self._line((f"{'+' + milliseconds(after_s):>14}", "yellow"), ("  ✓ ", "green"), f"{name:<19}", (note, "dim"))

    def figures(self, acts: list[tuple[Act, Times]]) -> None:
        """All figures in one place."""
        if self._console.is_terminal:
            self._console.print(Padding(_table(acts), (0, 0, 0, 2)))
        else:
            self._line()
            for act, times in acts:
                told = ", ".join(f"{name} {figure}" for name, figure in zip(_FIGURES, times.figures(), strict=True))
                self._line(f"{act.name}: {told}")

    def failed(self, what: str) -> None:
        """Why the demo is no success."""
        self.failures += 1
        self._line(("  ✗ ", "bold red"), (what, "red"))

    def succeeded(self) -> None:
        """The end."""
        what, how = "one incident, two webhooks", ", each exactly once, in order, signed"
        self._line(("  ✓ ", "bold green"), (what, "bold"), how)
        self._line(("    the demo's organization is removed again", "dim"))

    def _line(self, *parts: str | tuple[str, str]) -> None:
        text = Text.assemble(*parts)
        text.rstrip()
        self._console.print(text, soft_wrap=True)


def milliseconds(seconds: float) -> str:
    """A duration as people read it."""
    return f"{seconds * 1000:,.0f} ms"


def _table(acts: list[tuple[Act, Times]]) -> Table:
    table = Table(box=box.SIMPLE, border_style="dim", header_style="bold")
    table.add_column("")
    for name in _FIGURES:
        table.add_column(name, justify="right")
    for act, times in acts:
        *figures, last = times.figures()
        table.add_row(Text(act.name, f"bold {act.style}"), *figures, Text(last, "bold cyan"))
    return table
