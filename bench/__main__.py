"""`python -m bench`: choose a scenario, run it, show and keep the numbers."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench import report
from bench.detect import detect
from bench.machine import machine
from bench.plan import BenchError, Plan
from bench.progress import Progress
from bench.scenarios import MAX_LAG_P99_MS, MIN_COVERAGE, held, steady, throughput
from common.domain.errors import TocsinError

STEPS = (3000, 5000, 6500, 8000)
OUTAGES = 50
_PLAIN_WIDTH = 120

#: (monitors, interval, seconds) where the command line does not say.
_DEFAULTS = {"throughput": (0, 1, 20), "steady": (100_000, 60, 60), "detect": (1000, 1, 20)}


def main() -> int:
    """Run what the command line asks for; the exit status."""
    arguments = _parser().parse_args()
    # SIGTERM ends the run in the same orderly way as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    facts = machine()
    try:
        with Progress(console) as progress:
            content = _run(arguments, console, progress)
    except (BenchError, TocsinError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: stopped\n")
        return 130
    path = report.save(arguments.json, arguments.scenario, facts, content)
    console.print(f"[dim]written to {path}[/dim]", highlight=False)
    return 0


def _run(arguments: argparse.Namespace, console: Console, progress: Progress) -> dict[str, object]:
    plan = _plan(arguments)
    if arguments.scenario == "detect":
        found = detect(plan, progress)
        report.show_steps(console, [found.load])
        report.show_detection(console, found)
        return {"detection": found.as_json()}
    if arguments.scenario == "steady":
        measured = [steady(plan, progress)]
        report.show_steps(console, measured)
    else:
        measured = throughput(plan, arguments.monitors or STEPS, progress)
        report.show_steps(console, measured)
        report.show_maximum(console, measured)
    rule = {"min_coverage": MIN_COVERAGE, "max_lag_p99_ms": MAX_LAG_P99_MS}
    steps = [{**step.as_json(), "held": held(step)} for step in measured]
    return {"workers": plan.workers, "held_means": rule, "steps": steps}


def _plan(arguments: argparse.Namespace) -> Plan:
    monitors, interval_s, seconds = _DEFAULTS[arguments.scenario]
    interval_s = arguments.interval or interval_s
    detecting = arguments.scenario == "detect"
    return Plan(
        monitors=(arguments.monitors or [monitors])[0],
        interval_s=interval_s,
        seconds=arguments.seconds or seconds,
        # Everything is checked once before: configurations are cached and nothing is pending any more.
        warmup_s=interval_s + 4,
        workers=arguments.workers,
        target=arguments.target,
        failure_threshold=1 if detecting else 2,
        flaky=OUTAGES if detecting else 0,
        notifier=detecting,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scenario", choices=tuple(_DEFAULTS), default="throughput")
    parser.add_argument("--monitors", type=_numbers, help="how many; for throughput the steps, as in 3000,5000")
    parser.add_argument("--interval", type=int, help="seconds between two checks of a monitor")
    parser.add_argument("--seconds", type=int, help="how long is measured")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--target", choices=("auto", "nginx", "asyncio"), default="auto", help="what is watched")
    parser.add_argument("--json", type=Path, help="where the numbers go (bench/results/<date>-<scenario>.json)")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
