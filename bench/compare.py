"""`python -m bench.compare`: the last kept result of each scenario against the one before, as ratios."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from bench.figures import FIGURES, Figure, Kept
from bench.kept import kept

#: A figure that is worse by more than this is marked.
TOLERANCE = 0.10


def main() -> int:
    """Show the comparison; exit status 1 when a figure is clearly worse."""
    console = Console()
    table = Table(title="The last kept result against the one before")
    for name in ("scenario", "figure", "before", "now", "ratio", ""):
        table.add_column(name, justify="right" if name in ("before", "now", "ratio") else "left")
    worse = 0
    for scenario, figures in FIGURES.items():
        documents = kept(scenario)
        if len(documents) < 2:
            continue
        for figure in figures:
            row, is_worse = compare(figure, documents[-2], documents[-1])
            worse += is_worse
            table.add_row(scenario, figure.name, *row, "[red]worse[/red]" if is_worse else "")
    if not table.row_count:
        console.print("Nothing to compare: a scenario needs two kept results (bench/results/<date>-<scenario>.json).")
        return 0
    console.print(table)
    console.print("Results of different machines, or of a busy one, do not compare.", style="dim")
    return 1 if worse else 0


def compare(figure: Figure, before: Kept, now: Kept) -> tuple[tuple[str, str, str], bool]:
    """The cells of one line, and whether the figure is clearly worse."""
    old, new = figure.read(before), figure.read(now)
    if not old or new is None:
        return ("-", "-", "-"), False
    ratio = new / old
    is_worse = ratio < 1 - TOLERANCE if figure.more_is_better else ratio > 1 + TOLERANCE
    return (f"{old:,.1f}", f"{new:,.1f}", f"{ratio:.2f}"), is_worse


if __name__ == "__main__":
    sys.exit(main())
