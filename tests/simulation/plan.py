"""What one schedule is made of, drawn from its seed: the system's size, the truth about the targets, the faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from common.domain.checks import Verdict
from common.domain.health import Policy
from common.domain.monitors import MonitorConfig
from scheduler.lease import LeaseTimes
from tests.simulation.bus import Weather

ORG = "org"
LOCATIONS = {1: "local", 2: "far"}

#: Kinds of trouble; each schedule draws a few of them, so that rare mixtures are seen as well as pure ones.
KINDS = ("points", "kill", "freeze", "stop", "database", "clock", "queue", "redis", "network", "sink")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which a target answers in one way."""

    start: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault: `what` happens at `at` to `target` (an index of its role), for `seconds`."""

    at: float
    what: str
    target: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Plan:
    """A whole schedule. Moments are virtual seconds; from `heal_at` on nothing goes wrong any more."""

    seed: int
    monitors: list[MonitorConfig]
    truth: dict[int, list[Span]]
    schedulers: int
    workers: list[int]
    notifiers: int
    channels: int
    times: LeaseTimes
    heal_at: float
    kinds: frozenset[str]
    mean_points: float
    slow_share: float
    weather: Weather
    grouped: bool = False
    faults: list[Fault] = field(default_factory=list)

    def describe(self) -> list[str]:
        """For the head of a trace."""
        lines = [
            (
                f"schedulers {self.schedulers}, workers at locations {self.workers}, notifiers {self.notifiers},"
                f" channels {self.channels}{' (the first in groups)' if self.grouped else ''}; faults until"
                f" {self.heal_at:.1f}: {', '.join(sorted(self.kinds)) or 'none'}"
            ),
        ]
        for monitor in self.monitors:
            spans = ", ".join(f"{span.start:.1f} {span.verdict.label}" for span in self.truth[monitor.monitor_no])
            lines.append(
                f"monitor {monitor.monitor_no}: every {monitor.interval_s} s at {monitor.locations}, timeout"
                f" {monitor.timeout_s} s, {monitor.policy}; truth: {spans}"
            )
        return lines


def draw(seed: int, *, crowded: bool = False) -> Plan:
    """The plan of a seed. A crowded one has two of everything, and calls that last long rather than deaths."""
    rng = Random(f"plan {seed}")
    kinds = frozenset(kind for kind in KINDS if rng.random() < 0.4) if rng.random() > 0.05 else frozenset()
    crowded = rng.random() < 0.15 or crowded
    if crowded:
        kinds |= {"points", "queue", "sink"}
    heal_at = rng.uniform(24 if crowded else 12, 32) if kinds else 0.0
    far = rng.random() < (0.6 if crowded else 0.35)
    monitors = [_monitor(rng, number, far=far) for number in range(1, rng.choice((1, 1, 1, 2, 2, 3)) + 1)]
    per_location = 2 if crowded else rng.choice((1, 1, 2))
    plan = Plan(
        seed=seed,
        monitors=monitors,
        truth={m.monitor_no: _truth(rng, m, heal_at) for m in monitors},
        schedulers=rng.choice((1, 1, 2, 2, 2, 3)),
        workers=[location for location in ((1, 2) if far else (1,)) for _ in range(per_location)],
        notifiers=2 if crowded else rng.choice((1, 2)),
        channels=rng.choice((1, 2)),
        times=LeaseTimes() if rng.random() < 0.04 else rng.choice((LeaseTimes(6.5, 4.5, 2), LeaseTimes(9, 7, 3))),
        heal_at=heal_at,
        kinds=kinds,
        mean_points=(15 if crowded else rng.choice((40, 80, 160))) if "points" in kinds else 0,
        slow_share=0.7 if crowded else 0.25,
        weather=_weather(rng) if "queue" in kinds else Weather(),
        grouped=Random(f"grouped {seed}").random() < 0.5,
    )
    plan.faults = sorted(_faults(rng, plan), key=lambda fault: fault.at)
    return plan


def _monitor(rng: Random, number: int, *, far: bool) -> MonitorConfig:
    interval_s = rng.choice((5, 10, 10, 15))
    policy = Policy(
        failure_threshold=rng.choice((1, 2, 2, 3) if interval_s < 15 else (1, 2)),
        recovery_threshold=rng.choice((1, 1, 2)),
        retry_interval_s=rng.choice((1, 3, 5)),
        quorum=rng.choice((None, None, 1)) if far else None,
    )
    return MonitorConfig(
        monitor_no=number, monitor_id=f"m{number}-{rng.randrange(10_000)}", org_id=ORG, config_version=1, type="http",
        name=f"Shop {number}", target=f"http://target-{number}/", interval_s=interval_s,
        timeout_s=rng.choice((1.0, 2.0, 4.0)), policy=policy, locations=(1, 2) if far and rng.random() < 0.7 else (1,),
    )  # fmt: skip


def _truth(rng: Random, monitor: MonitorConfig, heal_at: float) -> list[Span]:
    """Up at first; then outages, some too short to be seen, the last of which may still last at the end."""
    spans = [Span(-1e9, Verdict.UP)]
    at = rng.uniform(4, 20)
    for _ in range(rng.choice((0, 1, 1, 2, 2))):
        spans.append(Span(at, Verdict.DEGRADED if rng.random() < 0.15 else Verdict.DOWN))
        if rng.random() < 0.15:
            at += rng.uniform(2, 15)
            spans.append(Span(at, rng.choice((Verdict.DOWN, Verdict.DEGRADED))))
        at += rng.uniform(2, (monitor.policy.failure_threshold + 2) * monitor.interval_s)
        spans.append(Span(at, Verdict.UP))
        at += rng.uniform(5, 20)
    if spans[-1].verdict is Verdict.UP and rng.random() < 0.35:
        spans.append(Span(at, Verdict.DOWN))
    return [span for span in spans if span.start < heal_at + 10]


def _weather(rng: Random) -> Weather:
    return Weather(
        loss=rng.choice((0.0, 0.1, 0.3)),
        duplicate=rng.choice((0.0, 0.1, 0.3)),
        corrupt=rng.choice((0.0, 0.02)),
        delay=rng.choice((0.0, 0.2, 0.6)),
        longest_delay_s=rng.choice((2.0, 8.0, 25.0)),
    )


def _faults(rng: Random, plan: Plan) -> list[Fault]:
    counts = {"scheduler": plan.schedulers, "worker": len(plan.workers), "notifier": plan.notifiers}
    faults = []

    def add(what: str, target: int = 0, seconds: float = 0.0) -> None:
        faults.append(Fault(rng.uniform(2, plan.heal_at * 0.95), what, target, seconds))

    def some_process() -> tuple[str, int]:
        role = rng.choice(("scheduler", "worker", "notifier"))
        return role, rng.randrange(counts[role])

    for kind in sorted(plan.kinds):
        for _ in range(rng.choice((1, 1, 2, 3))):
            role, index = some_process()
            if kind == "kill":
                add(f"kill {role}", index)
            elif kind == "freeze":
                what = "suspend" if rng.random() < 0.3 else "freeze"
                add(f"{what} {role}", index, rng.choice((0.3, 2.0, 7.0, 18.0, 35.0)))
            elif kind == "stop":
                add("stop scheduler", rng.randrange(plan.schedulers))
            elif kind == "database":
                add(rng.choice(("database crash", "database away")), 0, rng.choice((0.5, 3.0, 10.0)))
            elif kind == "clock":
                add("database clock", 0, rng.uniform(-2, 2))
            elif kind == "redis":
                add(rng.choice(("queue flushed", "queue away")), 0, rng.choice((1.0, 5.0, 15.0)))
            elif kind == "network":
                add("network lost", rng.randrange(len(plan.workers)), rng.choice((2.0, 10.0, 25.0)))
            elif kind == "sink":
                what = rng.choice(("500", "429", "400", "410", "hang", "swallow", "refuse"))
                add(f"sink {what}", rng.randrange(plan.channels), rng.choice((5.0, 15.0, 30.0)))
    return faults
