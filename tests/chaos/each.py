"""`python -m tests.chaos.each`: every fault by itself, a few times, and the table of docs/reliability.md from it.

Each fault gets a world of its own. What came of it is kept in docs/reliability.json; the mix of all faults
(`make chaos`) is added to it by `--history`, which judges a kept history again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.chaos.checker import INVARIANTS, Report, check
from tests.chaos.events import read_history
from tests.chaos.faults.registry import FAULTS
from tests.chaos.plan import quick
from tests.chaos.progress import Progress
from tests.chaos.run import Runner

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
KEPT = DOCUMENT.with_suffix(".json")
_SEED, _TRIALS = 4711, 4
_PART = re.compile(r"(<!-- chaos: table -->\n).*?(<!-- end -->)", re.DOTALL)
_TOTALS = ("seconds", "kills", "outages", "incidents", "webhooks accepted", "lost", "false incidents", "duplicates")

Row = dict[str, Any]


def main() -> int:
    """Run what the command line asks for; exit status 1 when anything was violated."""
    arguments = _parser().parse_args()
    console = Console()
    kept: dict[str, Row] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    if arguments.history:
        kept[arguments.name] = row(check(read_history(arguments.history)))
    else:
        for name in arguments.faults or FAULTS:
            kept[name] = _run(name, arguments.trials, arguments.seed, console)
            _write(kept)
    _write(kept)
    return 1 if any(found["violations"] for found in kept.values()) else 0


def row(report: Report) -> Row:
    """What is kept of a report."""
    return {
        "totals": {name: report.totals[name] for name in _TOTALS},
        "faults": report.faults,
        "checked": {name: finding.applicable for name, finding in report.findings.items()},
        "broken": {name: len(finding.violations) for name, finding in report.findings.items()},
        "violations": report.violations[:20],
    }


def table(kept: dict[str, Row]) -> str:
    """Faults down, invariants across: ✓ held, · there was nothing to check, else how often it was broken."""
    head = ["fault", "times", *INVARIANTS, "outages judged by I2", *_TOTALS[1:]]
    lines = [head, ["---", "---:", *[":-:"] * len(INVARIANTS), *["---:"] * len(_TOTALS)]]
    for name in sorted(kept, key=lambda name: (name in FAULTS, list(FAULTS).index(name) if name in FAULTS else 0)):
        found = kept[name]
        marks = [_mark(found, invariant) for invariant in INVARIANTS]
        times = sum(found["faults"].values())
        judged = f"{found['checked']['I2']:,}"
        lines.append([name, f"{times:,}", *marks, judged, *(f"{found['totals'][total]:,}" for total in _TOTALS[1:])])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mark(found: Row, invariant: str) -> str:
    if invariant not in found["checked"]:
        return ""  # measured before there was such an invariant
    if found["broken"][invariant]:
        return f"**{found['broken'][invariant]}**"
    # No duplicate is what I6 hopes for: nothing to check means that it held.
    return "✓" if found["checked"][invariant] or invariant == "I6" else "·"


def _run(name: str, trials: int, seed: int, console: Console) -> Row:
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{name}-"))
    with Progress(console) as progress:
        outcome = Runner(quick(seed, fault=name, trials=trials), folder, progress.show).run()
    found = row(outcome.report)
    # Some faults leave no mark of their own in the history, or cannot be inflicted here.
    found["faults"] = {name: outcome.inflicted.done[name]}
    found["impossible"] = outcome.inflicted.impossible
    said = "violated" if found["violations"] else "held"
    console.print(f"{name}: {said}, {outcome.inflicted.done[name]} times, history {outcome.history}", highlight=False)
    return found


def _write(kept: dict[str, Row]) -> None:
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(_PART.sub(lambda part: f"{part[1]}\n{table(kept)}\n{part[2]}", text), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.each", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="only these")
    parser.add_argument("--trials", type=int, default=_TRIALS, help=f"how often each ({_TRIALS})")
    parser.add_argument("--seed", type=int, default=_SEED, help=f"decides monitors and moments ({_SEED})")
    parser.add_argument("--history", type=Path, help="judge this history instead of running anything")
    parser.add_argument("--name", default="all of them, mixed", help="the row of that history")
    return parser


if __name__ == "__main__":
    sys.exit(main())
