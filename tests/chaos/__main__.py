"""`python -m tests.chaos`: choose seed, profile and faults, run, print the verdict; exit status 1 on a violation."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from common.domain.errors import TocsinError
from tests.chaos import verdict
from tests.chaos.faults.registry import FAULTS
from tests.chaos.plan import ChaosError, Plan, full, quick
from tests.chaos.progress import Progress
from tests.chaos.run import Outcome, Runner

_PROFILES = {"quick": quick, "full": full}
_PLAIN_WIDTH = 120
_TRIALS = 5
#: A week.
_MOST_MINUTES = 10_080


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.fault is None and arguments.trials is not None:
        parser.error("--trials says how often one fault is tried: name it with --fault")
    if arguments.fault is not None and arguments.minutes is not None:
        parser.error("--minutes is for all of them: with --fault the trials say how long it takes")
    # SIGTERM ends the run in the same orderly way as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    plan = _plan(arguments)
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    kept = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-", dir=arguments.keep))
    console.print(f"seed {plan.seed}, profile {plan.profile}, history in {kept}", highlight=False)
    try:
        outcome = _run(plan, kept, console)
    except (ChaosError, TocsinError) as error:
        sys.stderr.write(f"chaos: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("chaos: stopped\n")
        return 130
    verdict.show(console, plan, outcome)
    return 0 if verdict.holds(outcome) else 1


def _run(plan: Plan, kept: Path, console: Console) -> Outcome:
    with Progress(console) as progress:
        return Runner(plan, kept, progress.show).run()


def _plan(arguments: argparse.Namespace) -> Plan:
    seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    trials = arguments.trials or (_TRIALS if arguments.fault else 0)
    return _PROFILES[arguments.profile](seed, fault=arguments.fault, trials=trials, minutes=arguments.minutes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--fault", choices=tuple(FAULTS), metavar="NAME", help=f"only this one: {', '.join(FAULTS)}")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="decides monitors, outages and faults (random, and printed)"
    )
    parser.add_argument("--trials", type=_at_least_one, metavar="N", help=f"how often, with --fault ({_TRIALS})")
    parser.add_argument("--minutes", type=_some_minutes, metavar="N", help="how long, all in all, without --fault (10)")
    parser.add_argument("--profile", choices=tuple(_PROFILES), default="full", help="how big (full)")
    parser.add_argument("--keep", type=Path, help="where the history goes (the system's temporary directory)")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of times, like 5")
    return int(text)


def _some_minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < _MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes, like 10")
    return minutes


if __name__ == "__main__":
    sys.exit(main())
