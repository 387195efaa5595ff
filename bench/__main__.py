"""`python -m bench`: choose a scenario, run it, show and keep the numbers."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import report
from bench.alerts import SIZES as ALERT_SIZES
from bench.alerts import alerts
from bench.api import api
from bench.assertions import STEPS as ASSERTION_STEPS
from bench.assertions import assertions, show_assertions
from bench.detect import detect
from bench.exposition import exposition, show_exposition
from bench.growth import SIZES, growth, slopes
from bench.heartbeats import RATES as PING_RATES
from bench.heartbeats import as_json as pings_as_json
from bench.heartbeats import heartbeats
from bench.heartbeats import show as show_heartbeats
from bench.load import load, show_load
from bench.machine import machine
from bench.peers import PEER_STEPS, STEPS, side_by_side
from bench.plan import BenchError, Plan
from bench.progress import Progress
from bench.rolling import rolling, show_rolling
from bench.scenarios import MAX_LAG_P99_MS, MIN_COVERAGE, held, throughput
from bench.streams import show as show_streams
from bench.streams import streams
from common.domain.errors import TocsinError

_PLAIN_WIDTH = 120

Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a scenario is run, and what it takes where the command line does not say. Times are seconds."""

    run: Callable[[Plan, Sequence[int], Console, Progress], Content]
    monitors: tuple[int, ...]
    interval_s: int
    seconds: int
    minutes: float
    failure_threshold: int = 2
    flaky: int = 0


def _throughput(plan: Plan, steps: Sequence[int], console: Console, progress: Progress) -> Content:
    measured = throughput(plan, steps, progress)
    report.show_steps(console, measured)
    report.show_maximum(console, measured)
    rule = {"min_coverage": MIN_COVERAGE, "max_lag_p99_ms": MAX_LAG_P99_MS}
    return {"held_means": rule, "steps": [{**step.as_json(), "held": held(step)} for step in measured]}


def _peers(plan: Plan, steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = side_by_side(plan, progress, peer_steps=PEER_STEPS, steps=steps)
    report.show_peers(console, found)
    return found.as_json()


def _detect(plan: Plan, _steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = detect(plan, progress)
    report.show_steps(console, [found.load])
    report.show_detection(console, found)
    return {"detection": found.as_json()}


def _growth(plan: Plan, steps: Sequence[int], console: Console, progress: Progress) -> Content:
    sizes = growth(plan, progress, steps)
    report.show_growth(console, sizes)
    return {"sizes": [size.as_json() for size in sizes], "powers": slopes(sizes)}


def _api(plan: Plan, _steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = api(plan, progress)
    report.show_api(console, found)
    return {"api": found.as_json()}


def _load(plan: Plan, _steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = load(plan, progress)
    show_load(console, found)
    return {"load": found.as_json()}


def _alerts(plan: Plan, sizes: Sequence[int], console: Console, progress: Progress) -> Content:
    found = alerts(plan, sizes, progress)
    report.show_alerts(console, found)
    return {"sizes": [size.as_json() for size in found]}


def _streams(plan: Plan, _steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = streams(plan, progress)
    show_streams(console, found)
    return {"streams": found.as_json()}


def _heartbeats(plan: Plan, rates: Sequence[int], console: Console, progress: Progress) -> Content:
    found = heartbeats(plan, rates, progress)
    show_heartbeats(console, found)
    return {"rates": pings_as_json(found)}


def _assertions(plan: Plan, steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = assertions(plan, steps, progress)
    show_assertions(console, found)
    return {"assertions": found.as_json()}


def _rolling(plan: Plan, _steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = rolling(plan, progress)
    show_rolling(console, found)
    return {"rolling": found.as_json()}


def _exposition(plan: Plan, _steps: Sequence[int], console: Console, progress: Progress) -> Content:
    found = exposition(plan, progress)
    show_exposition(console, found)
    return {"exposition": found.as_json()}


SCENARIOS = {
    "throughput": Scenario(_throughput, (3_000, 5_000, 6_500, 8_000), 1, 20, 3),
    "peers": Scenario(_peers, STEPS, 1, 20, 10),
    "steady": Scenario(_detect, (100_000,), 60, 300, 9, failure_threshold=1, flaky=100),
    "detect": Scenario(_detect, (1_000,), 1, 20, 1, failure_threshold=1, flaky=50),
    "growth": Scenario(_growth, SIZES, 60, 30, 9),
    "api": Scenario(_api, (100_000,), 60, 60, 3),
    "load": Scenario(_load, (100_000,), 60, 60, 5),
    "alerts": Scenario(_alerts, ALERT_SIZES, 60, 10, 6),
    "rolling": Scenario(_rolling, (2_000,), 2, 60, 2, flaky=1),
    "heartbeats": Scenario(_heartbeats, PING_RATES, 60, 20, 2),
    "exposition": Scenario(_exposition, (10_000,), 60, 10, 1),
    "streams": Scenario(_streams, (10_000,), 60, 15, 2),
    "assertions": Scenario(_assertions, ASSERTION_STEPS, 10, 30, 9),
}

#: What `make bench` runs: everything that docs/performance.md shows.
ALL = (
    "peers", "assertions", "heartbeats", "exposition", "rolling", "steady", "detect", "api", "load", "streams",
    "growth", "alerts",
)  # fmt: skip


def main() -> int:
    """Run what the command line asks for; the exit status."""
    arguments = _parser().parse_args()
    # SIGTERM ends the run in the same orderly way as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    names = ALL if arguments.scenario == "all" else (arguments.scenario,)
    console.print(f"{', '.join(names)}: about {sum(SCENARIOS[name].minutes for name in names):.0f} minutes")
    try:
        for name in names:
            _run(name, arguments, console)
    except (BenchError, TocsinError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: stopped\n")
        return 130
    return 0


def _run(name: str, arguments: argparse.Namespace, console: Console) -> None:
    scenario, facts = SCENARIOS[name], machine()
    steps = arguments.monitors or scenario.monitors
    with Progress(console) as progress:
        content = scenario.run(_plan(name, scenario, steps, arguments), steps, console, progress)
    path = report.save(arguments.json, name, facts, {"workers": arguments.workers, **content})
    console.print(f"[dim]written to {path}[/dim]", highlight=False)


def _plan(name: str, scenario: Scenario, steps: Sequence[int], arguments: argparse.Namespace) -> Plan:
    interval_s = arguments.interval or scenario.interval_s
    return Plan(
        monitors=steps[0],
        interval_s=interval_s,
        seconds=arguments.seconds or scenario.seconds,
        # Everything is checked once before: configurations are cached and nothing is pending any more.
        warmup_s=max(interval_s + 4, 15 if name == "peers" else 0),
        workers=arguments.workers,
        target=arguments.target,
        failure_threshold=scenario.failure_threshold,
        flaky=scenario.flaky,
        notifier=scenario.flaky > 0,
        results=arguments.results or 0,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scenario", choices=("all", *SCENARIOS), default="all")
    parser.add_argument(
        "--monitors", type=_numbers, help="how many; for throughput the steps, as in 3000,5000; for alerts the rules"
    )
    parser.add_argument("--results", type=_positive, help="for load: how many results are stored (100 per monitor)")
    parser.add_argument("--interval", type=_positive, help="seconds between two checks of a monitor")
    parser.add_argument("--seconds", type=_positive, help="how long is measured")
    parser.add_argument("--workers", type=_positive, default=2, help="worker processes (2)")
    parser.add_argument("--target", choices=("auto", "nginx", "asyncio"), default="auto", help="what is watched")
    parser.add_argument("--json", type=Path, help="where the numbers go (bench/results/<time>-<scenario>.json)")
    return parser


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, or several like 3000,5000")
    return [int(part) for part in parts]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
