"""`python -m tests.simulation --seed N --verbose` replays a schedule; `--seeds A B` runs many and sums up."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.database import Guard
from tests.simulation.run import run, simulated
from tests.simulation.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one schedule")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FROM", "TO"), help="many schedules, TO excluded")
    parser.add_argument("--without", action="append", default=[], choices=list(Guard), help="remove a guard")
    parser.add_argument("--scenario", default="mixed", choices=list(SCENARIOS), help="the kind of schedule")
    parser.add_argument("--first", action="store_true", help="end with the first schedule that fails")
    parser.add_argument("--verbose", action="store_true", help="print the trace")
    arguments = parser.parse_args()
    without = frozenset(Guard(name) for name in arguments.without)
    seeds = range(*arguments.seeds) if arguments.seeds else [arguments.seed or 0]
    started = time.process_time()
    totals: Counter[str] = Counter()
    run_of, failed = len(seeds), 0
    with simulated():
        for count, seed in enumerate(seeds, 1):
            outcome = run(seed, without=without, scenario=arguments.scenario, verbose=arguments.verbose)
            if arguments.verbose:
                print("\n".join(outcome.trace))
            totals.update({f"fault: {name}": count for name, count in outcome.faults.items()})
            totals.update(schedules=1, events=outcome.events, incidents=outcome.incidents, results=outcome.results,
                          webhooks=outcome.receipts, virtual_seconds=int(outcome.virtual_s))  # fmt: skip
            if outcome.violation is not None:
                failed += 1
                print(f"seed {seed}: {outcome.violation}")
                if arguments.first:
                    run_of = count
                    break
    seconds = time.process_time() - started
    for name, count in sorted(totals.items()):
        print(f"{count:12,}  {name}")
    print(f"{failed} violated; {seconds:.1f} s, {seconds / run_of * 1000:.2f} ms a schedule")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
