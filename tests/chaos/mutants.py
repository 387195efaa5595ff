"""The check of the checks: remove one guard at a time from a copy of the product and see that the suite notices.

`python -m tests.chaos.mutants` (`make chaos-mutants`). First an untouched copy has to pass all that will be asked.
Then, for each mutant, the tests that should tell run in a copy without the guard, then the simulation's schedules, and
with `--chaos` the chaos run that should notice as well. What noticed is written into docs/reliability.md. A test or a
checker that should notice and does not, or a guard whose text has moved, is a failure.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos import document
from tests.chaos.guards import CORE, MUTANTS, Mutant, Simulated

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "*.pyc", "__pycache__", ".*_cache", ".hypothesis", "docs", "results"
)
_TESTS_WITHIN_S, _CHAOS_WITHIN_S = 300, 600
_SEED = 20
#: The first schedule that shows it is far before these, and they take seconds.
_SCHEDULES = 1_000

#: Where pytest names the test that failed, and a chaos run or a simulation the invariant.
FOUND = re.compile(
    r"^(?:(?:FAILED|ERROR) tests/(?:unit|integration|simulation)/(?P<test>.+?)(?: - .*)?"
    r"|(?:seed \d+: )?(?P<invariant>[AHIL]\d+: .*))$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one mutant: who noticed, "" for nobody, None for what was not asked."""

    mutant: Mutant
    tests: str
    simulation: str | None
    chaos: str | None
    seconds: float

    @property
    def asked(self) -> dict[str, str]:
        """What each of those that were asked said."""
        said = {"tests": self.tests, "simulation": self.simulation, "chaos": self.chaos}
        return {by: found for by, found in said.items() if found is not None}

    @property
    def survived(self) -> bool:
        """Whether anybody that should notice did not."""
        return not all(self.asked.values())


def main() -> int:
    """Try all mutants; exit status 1 when one survives, 2 when the untouched copy fails already."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("--chaos", action="store_true", help="run the telling chaos as well (a minute or two each)")
    parser.add_argument("--only", default="", help="guards whose name contains this")
    parser.add_argument("--core", action="store_true", help="the six guards that all else stands on")
    arguments = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console.width = 120
    mutants = [mutant for mutant in MUTANTS
               if arguments.only in mutant.guard and (mutant.guard in CORE or not arguments.core)]  # fmt: skip
    console.print("with all guards …", style="dim")
    if broken := untouched(mutants, chaos=arguments.chaos):
        console.print(f"nothing is proved: with all guards in place {broken}", style="bold red", highlight=False)
        return 2
    verdicts = []
    for mutant in mutants:
        console.print(f"without: {mutant.guard} …", style="dim")
        verdicts.append(attempt(mutant, chaos=arguments.chaos))
        document.keep_guards({mutant.guard: verdicts[-1].asked})
    console.print(_table(verdicts))
    return 1 if any(verdict.survived for verdict in verdicts) else 0


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Each guard removed in turn")
    table.add_column("guard")
    table.add_column("noticed by", overflow="fold")
    table.add_column("seconds", justify="right")
    for verdict in verdicts:
        told = [f"{by}: {said or '[bold red]did not notice[/bold red]'}" for by, said in verdict.asked.items()]
        table.add_row(verdict.mutant.guard, "\n".join(told), f"{verdict.seconds:.0f}")
    return table


def untouched(mutants: Sequence[Mutant], *, chaos: bool) -> str:
    """Which of all that will be asked fails in a copy with every guard in place, "" for none."""
    runs = {path: _pytest(path) for mutant in mutants for path in mutant.tests}
    scenarios = {mutant.simulation.scenario for mutant in mutants if mutant.simulation}
    runs.update({f"the simulation, {scenario}": _simulation(Simulated(scenario)) for scenario in sorted(scenarios)})
    if chaos:
        runs.update({f"chaos {mutant.fault}": _chaos(mutant) for mutant in mutants if mutant.fault})
    with _copy() as tree:
        return next((f"{name} fails: {said}" for name, run in runs.items() if (said := _complaint(run, tree))), "")


def attempt(mutant: Mutant, *, chaos: bool) -> Verdict:
    """Try one mutant."""
    began = time.monotonic()
    simulation, simulated = mutant.simulation, None
    with _copy() as tree:
        if simulation and simulation.without:
            simulated = _complaint(_simulation(simulation), tree)  # the model's guard, not the code's
        remove_guard(tree, mutant)
        if simulation and not simulation.without:
            simulated = _complaint(_simulation(simulation), tree)
        by_tests = next((said for path in mutant.tests if (said := _complaint(_pytest(path), tree))), "")
        by_chaos = None
        if chaos and mutant.fault:
            said = _complaint(_chaos(mutant), tree)
            by_chaos = f"{mutant.fault}: {said}" if said else ""
    return Verdict(mutant, by_tests, simulated, by_chaos, time.monotonic() - began)


@contextmanager
def _copy() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tocsin-mutant-"))
    try:
        yield shutil.copytree(ROOT, folder / "tree", ignore=_LEFT_OUT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_guard(tree: Path, mutant: Mutant) -> None:
    """Apply a mutant to a tree; raises ValueError when a part of its guard is not found exactly once."""
    for cut in mutant.cuts:
        path = tree / cut.file
        text = path.read_text(encoding="utf-8")
        if text.count(cut.old) != 1:
            raise ValueError(f"{cut.file} holds the guard {mutant.guard!r} {text.count(cut.old)} times, not once")
        path.write_text(text.replace(cut.old, cut.new), encoding="utf-8")


def _pytest(path: str) -> list[str]:
    return ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", path]


def _simulation(simulated: Simulated) -> list[str]:
    options = [option for guard in simulated.without for option in ("--without", guard)]
    return ["-m", "tests.simulation", "--scenario", simulated.scenario, "--seeds", "0", str(_SCHEDULES), "--first",
            *options]  # fmt: skip


def _chaos(mutant: Mutant) -> list[str]:
    return ["-m", "tests.chaos", "--profile", "quick", "--fault", mutant.fault, "--trials", str(mutant.trials),
            "--seed", str(_SEED)]  # fmt: skip


def _complaint(arguments: Sequence[str], tree: Path) -> str:
    """What a run finds wrong, in a line; "" when all is well.

    Only status 1 together with the name of a test or an invariant says that something was found. Any other failure
    proves nothing and raises, one without an end too.
    """
    within_s = _CHAOS_WITHIN_S if "tests.chaos" in arguments else _TESTS_WITHIN_S
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.communicate(timeout=30)
            raise RuntimeError(f"{' '.join(arguments)} did not end in {within_s} s") from None
    if process.returncode == 0:
        return ""
    found = FOUND.search(said)
    if process.returncode != 1 or found is None:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {said[-800:]}")
    return found["test"] or found["invariant"]


if __name__ == "__main__":
    sys.exit(main())
