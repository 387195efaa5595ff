"""What came of a run, for people: a line per invariant, what there was, what could not be done here."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from tests.chaos.checker import INVARIANTS
from tests.chaos.plan import Plan
from tests.chaos.run import Outcome

#: So many violations and explanations are shown; the history has all.
_SHOWN = 20
_EXPLAINED = 5


def holds(outcome: Outcome) -> bool:
    """Whether no invariant was broken, and a fault that was asked for took hold."""
    return not outcome.report.violations and not in_vain(outcome)


def in_vain(outcome: Outcome) -> str:
    """Why the one fault that was asked for proves nothing, "" when it took hold (or cannot be had here)."""
    inflicted = outcome.inflicted
    if inflicted.done or inflicted.impossible or not inflicted.in_vain:
        return ""
    return f"nothing was inflicted: {', '.join(inflicted.why.values())}"


def text(outcome: Outcome) -> str:
    """The violations, a line each."""
    return "\n".join(outcome.report.violations)


def show(console: Console, plan: Plan, outcome: Outcome) -> None:
    """Print it all."""
    console.print(_invariants(plan, outcome))
    console.print(_counts(outcome))
    for line in _notes(outcome):
        console.print(line, style="dim", highlight=False, markup=False)
    violations = outcome.report.violations
    for violation in violations[:_SHOWN]:
        console.print(violation, style="bold red", highlight=False, markup=False)
    if len(violations) > _SHOWN:
        console.print(f"… and {len(violations) - _SHOWN} more", style="bold red")
    if said := in_vain(outcome):
        console.print(said, style="bold red", highlight=False, markup=False)
    verdict = "[bold green]all hold[/bold green]" if holds(outcome) else "[bold red]VIOLATED[/bold red]"
    console.print(f"{verdict} · seed {plan.seed} · {outcome.seconds:.0f} s · {outcome.history}", highlight=False)


def _invariants(plan: Plan, outcome: Outcome) -> Table:
    table = Table(title=f"Invariants, {plan.fault or plan.profile} (seed {plan.seed})")
    table.add_column("")
    table.add_column("invariant")
    for name in ("checked", "explained", "violations"):
        table.add_column(name, justify="right")
    for name, (meaning, _) in INVARIANTS.items():
        found = outcome.report.findings[name]
        broken = f"[bold red]{len(found.violations)}[/bold red]" if found.violations else "[green]0[/green]"
        table.add_row(name, meaning, f"{found.applicable:,}", f"{len(found.explained):,}", broken)
    return table


def _counts(outcome: Outcome) -> Table:
    table = Table(title="What there was")
    table.add_column("")
    table.add_column("", justify="right")
    for name, count in outcome.report.totals.items():
        table.add_row(name, f"{count:,}")
    table.add_row("API writes without an answer", f"{outcome.writes[1]:,}")
    for name, count in sorted(outcome.inflicted.done.items()):
        table.add_row(f"fault {name}", f"{count:,}")
    return table


def _notes(outcome: Outcome) -> Iterator[str]:
    for name, why in outcome.inflicted.impossible.items():
        yield f"skipped {name}: {why}"
    for name, count in sorted(outcome.inflicted.in_vain.items()):
        yield f"{name}: {count} times in vain, the last time {outcome.inflicted.why[name]}"
    for name, found in outcome.report.findings.items():
        for line in found.explained[:_EXPLAINED]:
            yield f"{name}: {line}"
        if len(found.explained) > _EXPLAINED:
            yield f"{name}: … and {len(found.explained) - _EXPLAINED} more"
