"""`python -m tests.chaos.each`: every fault by itself, a few times, and the tables of docs/reliability.md from it.

Each fault gets a world of its own. What came of it is kept in docs/reliability.json; the mix of all faults
(`make chaos`) is added to it by `--history`, which judges a kept history again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos import verdict
from tests.chaos.checker import check
from tests.chaos.document import Row, keep_fault, kept, row
from tests.chaos.events import read_history
from tests.chaos.faults.registry import FAULTS
from tests.chaos.plan import quick
from tests.chaos.progress import Progress
from tests.chaos.run import Outcome, Runner

_SEED, _TRIALS = 4711, 4


def main() -> int:
    """Run what the command line asks for; exit status 1 when anything was violated, or a fault never took hold."""
    arguments = _parser().parse_args()
    console = Console()
    proved_nothing = []
    if arguments.history:
        keep_fault(arguments.name, row(check(read_history(arguments.history))))
    else:
        for name in arguments.faults or FAULTS:
            outcome = _run(name, arguments.trials, arguments.seed, console)
            keep_fault(arguments.name if arguments.again else name, _row(name, outcome))
            if verdict.in_vain(outcome):
                proved_nothing.append(name)
    if proved_nothing:
        console.print(f"never took hold: {', '.join(proved_nothing)}", style="bold red")
    return 1 if proved_nothing or any(found["violations"] for found in kept()["faults"].values()) else 0


def _run(name: str, trials: int, seed: int, console: Console) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{name}-"))
    with Progress(console) as progress:
        outcome = Runner(quick(seed, fault=name, trials=trials), folder, progress.show).run()
    said = "violated" if outcome.report.violations else "held"
    done, vain = outcome.inflicted.done[name], outcome.inflicted.in_vain[name]
    console.print(f"{name}: {said}, {done} times ({vain} in vain), history {outcome.history}", highlight=False)
    return outcome


def _row(name: str, outcome: Outcome) -> Row:
    # Some faults leave no mark of their own in the history, or cannot be inflicted here.
    return row(outcome.report) | {
        "faults": {name: outcome.inflicted.done[name]},
        "in_vain": outcome.inflicted.in_vain[name],
        "impossible": outcome.inflicted.impossible,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.each", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="only these")
    parser.add_argument("--trials", type=int, default=_TRIALS, help=f"how often each ({_TRIALS})")
    parser.add_argument("--seed", type=int, default=_SEED, help=f"decides monitors and moments ({_SEED})")
    parser.add_argument("--history", type=Path, help="judge this history instead of running anything")
    parser.add_argument("--again", action="store_true", help="keep it under --name, beside the row of the fault itself")
    parser.add_argument("--name", default="all of them, mixed", help="the row of that history")
    return parser


if __name__ == "__main__":
    sys.exit(main())
