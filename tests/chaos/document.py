"""What was measured, kept in docs/reliability.json, and the tables of docs/reliability.md from it.

`python -m tests.chaos.document` writes the tables again. What stands between `<!-- chaos: <part> -->` and
`<!-- end -->` is generated, the rest is written by hand.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.checker import INVARIANTS, Report
from tests.chaos.faults.registry import FAULTS
from tests.chaos.guards import CORE, MUTANTS
from tests.chaos.reasons import LOSSES
from tests.chaos.recovery import PROMISES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_PART = re.compile(r"(<!-- chaos: (?P<part>[a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TOTALS = ("seconds", "kills", "outages", "incidents", "webhooks accepted", "lost", "false incidents", "duplicates")

#: So much of what somebody said is shown.
_SHOWN = 110

Row = dict[str, Any]
Kept = dict[str, dict[str, Row]]
"""{"faults": {row: what came of it}, "guards": {guard: {who was asked: what he noticed}}}"""


def kept() -> Kept:
    """All that is kept."""
    path = DOCUMENT.with_suffix(".json")
    found: Kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {"faults": found.get("faults", {}), "guards": found.get("guards", {})}


def row(report: Report) -> Row:
    """What is kept of a report."""
    return {
        "totals": {name: report.totals[name] for name in _TOTALS},
        "faults": report.faults,
        "checked": {name: finding.applicable for name, finding in report.findings.items()},
        "broken": {name: len(finding.violations) for name, finding in report.findings.items()},
        "violations": report.violations[:20],
        "recoveries": report.recoveries,
    }


def keep_fault(name: str, found: Row) -> None:
    """Keep what came of a fault, and write the tables."""
    everything = kept()
    everything["faults"][name] = found
    _write(everything)


def keep_guards(found: Mapping[str, Mapping[str, str]]) -> None:
    """Keep who noticed that a guard was gone: of those who were asked, the others' word stands."""
    everything = kept()
    for guard, said in found.items():
        everything["guards"][guard] = {**everything["guards"].get(guard, {}), **said}
    _write(everything)


def _write(everything: Kept) -> None:
    DOCUMENT.with_suffix(".json").write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(filled(text, everything), encoding="utf-8")


def filled(text: str, everything: Kept) -> str:
    """The document with every generated part as it is kept."""
    return _PART.sub(lambda part: f"{part[1]}\n{_TABLES[part['part']](everything)}\n{part[3]}", text)


def _lines(*lines: list[str]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def faults(everything: Kept) -> str:
    """Faults down, invariants across: ✓ held, · there was nothing to check, else how often it was broken."""
    found = everything["faults"]
    head = ["fault", "times", "in vain", *INVARIANTS, "outages judged by I2", *_TOTALS[1:]]
    rule = ["---", "---:", "---:", *[":-:"] * len(INVARIANTS), *["---:"] * len(_TOTALS)]
    order = list(FAULTS)
    rows = []
    for name in sorted(found, key=lambda name: (name in FAULTS, order.index(name) if name in FAULTS else 0)):
        one = found[name]
        times, vain = sum(one["faults"].values()), one.get("in_vain")
        marks = [_mark(one, invariant) for invariant in INVARIANTS]
        rows.append(
            [name, f"{times:,}", "" if vain is None else f"{vain:,}", *marks,
             f"{one['checked']['I2']:,}", *(f"{one['totals'][total]:,}" for total in _TOTALS[1:])]
        )  # fmt: skip
    return _lines(head, rule, *rows)


def _mark(found: Row, invariant: str) -> str:
    if invariant not in found["checked"]:
        return ""  # measured before there was such an invariant
    if found["broken"][invariant]:
        return f"**{found['broken'][invariant]}**"
    # No duplicate is what I6 hopes for: nothing to check means that it held.
    return "✓" if found["checked"][invariant] or invariant == "I6" else "·"


def recovery(everything: Kept) -> str:
    """How long it took until checks were made again, over all runs."""
    head = ["", "promised", "trials", "median", "longest", ""]
    rows = []
    for promise in PROMISES:
        seconds = recoveries(everything, promise.name)
        figures = ["", "", "not measured yet"]
        if seconds:
            met = "met" if max(seconds) <= promise.bound_s else "**not met**"
            figures = [f"{statistics.median(seconds):.1f} s", f"{max(seconds):.1f} s", met]
        rows.append([f"{promise.name} → every monitor is checked again", f"≤ {promise.bound_s:.0f} s",
                     f"{len(seconds)}", *figures])  # fmt: skip
    return _lines(head, ["---", "---:", "---:", "---:", "---:", "---"], *rows)


def recoveries(everything: Kept, promise: str) -> list[float]:
    """Seconds of all trials that say something about a promise."""
    return [s for found in everything["faults"].values() for s in found.get("recoveries", {}).get(promise, ())]


def guards(everything: Kept) -> str:
    """Who notices that a guard is gone."""
    head = ["guard", "by the tests", "by the simulation", "by chaos"]
    rows = []
    for mutant in MUTANTS:
        said = everything["guards"].get(mutant.guard, {})
        name = f"**{mutant.guard}**" if mutant.guard in CORE else mutant.guard
        if mutant.unseen:
            rows.append([name, _told(said, "tests", "tests"), f"no: {mutant.unseen}", ""])
            continue
        simulated = _told(said, "simulation", "asked") if mutant.simulation else ""
        rows.append([name, _told(said, "tests", "tests"), simulated, _told(said, "chaos", mutant.fault)])
    return _lines(head, ["---"] * 4, *rows)


def _told(said: Mapping[str, str], by: str, wanted: str) -> str:
    if not wanted:
        return ""
    if by not in said:
        return "not tried yet"
    text = said[by] or "**did not notice**"
    shown = " ".join(text.replace("|", "\\|").split())
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} …"


def excuses(_everything: Kept) -> str:
    """Which slots may be missing for whose trouble."""
    head = ["trouble of", "due from … before it begins", "to … after its end", "why"]
    rows = []
    for name, loss in LOSSES.items():
        most = "" if loss.most_s == float("inf") else f", at the most {loss.most_s:.1f} s after its beginning"
        rows.append([name, f"{loss.before_s:.1f} s", f"{loss.after_s:.1f} s{most}", loss.why])
    return _lines(head, ["---", "---:", "---", "---"], *rows)


_TABLES: dict[str, Callable[[Kept], str]] = {
    "faults": faults,
    "recovery": recovery,
    "guards": guards,
    "excuses": excuses,
}


def main() -> int:
    """Write the tables again."""
    _write(kept())
    return 0


if __name__ == "__main__":
    sys.exit(main())
