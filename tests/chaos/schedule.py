"""Which fault when, decided by the seed: one lane of all kinds, and beside it one of deaths."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
import redis

from tests.chaos.faults.registry import FAULTS
from tests.chaos.faults.site import Impossible, InVain, Site
from tests.chaos.plan import Plan
from tests.chaos.world import World

#: What the lane of deaths chooses from, for as long as the mix lasts.
DEATHS = ("kill", "failpoint")
#: Deaths that are rare enough to have to be asked for.
_RARE = (
    "kill-leader", "failpoint-silences", "failpoint-reminders", "failpoint-cooldowns", "failpoint-acknowledgements",
    "failpoint-api", "failpoint-pings", "failpoint-heartbeats", "failpoint-maintenance",
)  # fmt: skip

#: The minute that is part of `make test`, in this order: what a dead notifier had claimed is free again after its lease
#: only, so those come first.
QUICK = (
    "failpoint-send",
    "failpoint-commit",
    "failpoint-silences",
    "failpoint-cooldowns",
    "kill-notifier",
    "net-lost-replies",
    "failpoint-ack",
    "kill-worker",
    "redis-flush",
    "kill-scheduler",
    "postgres-backend",
    "kill-api",
    "failpoint-api",
)

#: Alone, these are followed by so much calm (seconds) that it can be measured how long they are felt: see recovery.py.
CALM_AFTER_S = {
    "kill-worker": 21.0,
    "kill-leader": 8.0,
    "freeze-leader": 3.0,
    **dict.fromkeys(
        ("redis-kill", "redis-flush", "redis-pause", "redis-clients", "redis-full", "redis-disk", "redis-promote"), 16.0
    ),
    **dict.fromkeys(("postgres-stop", "postgres-backend", "postgres-terminate", "postgres-lock", "disk-full"), 12.0),
    "postgres-connections": 12.0,
}

_GAP_S = (0.5, 2.0)
_ATTEMPTS = 4
#: Of the minute in `make test`, in which each has to take hold, however slow the machine is.
_ATTEMPTS_QUICK = 15


@dataclass(slots=True)
class Inflicted:
    """What took hold, what could not be done here, and how often something was tried and did not take hold."""

    done: Counter[str] = field(default_factory=Counter)
    impossible: dict[str, str] = field(default_factory=dict)
    in_vain: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)


class Schedule:
    """Two threads that inflict faults; `over` is set when the time or the trials are."""

    def __init__(self, plan: Plan, world: World, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._world = world
        self._say = say
        self._failure: BaseException | None = None
        self._began = 0.0
        self.over = threading.Event()
        self.inflicted = Inflicted()
        lanes = [("faults", self._names(), self._gap_s())]
        if plan.fault is None and plan.profile == "full":
            lanes.append(("deaths", self._deaths(), plan.kill_every_s))
        self._threads = [
            threading.Thread(target=self._run, args=lane, name=f"chaos-{lane[0]}", daemon=True) for lane in lanes
        ]

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return not self._threads[0].is_alive()

    def stop(self) -> None:
        """End what lasts; raises what went wrong in the harness itself."""
        self.over.set()
        for thread in self._threads:
            thread.join(60)
        if self._failure is not None:
            raise self._failure

    def _gap_s(self) -> tuple[float, float]:
        if self._plan.fault is None:
            return _GAP_S
        if self._plan.fault in CALM_AFTER_S:
            return (CALM_AFTER_S[self._plan.fault], CALM_AFTER_S[self._plan.fault] + 2.0)
        if self._plan.profile == "quick" or self._plan.fault.startswith(DEATHS):
            return self._plan.kill_every_s
        return (self._plan.calm_s, self._plan.calm_s)

    def _await_storm(self) -> None:
        """Return at once in a storm, in a calm when it is over."""
        cycle_s = self._plan.storm_s + self._plan.calm_s
        if self._plan.fault is None and self._plan.calm_s:
            passed = (time.monotonic() - self._began) % cycle_s
            if passed > self._plan.storm_s:
                self.over.wait(cycle_s - passed)

    def _names(self) -> Iterator[str]:
        chance = random.Random(f"faults {self._plan.seed}")
        if self._plan.fault is not None:
            yield from [self._plan.fault] * self._plan.trials
            return
        if self._plan.profile == "quick":
            yield from QUICK
            return
        names = [name for name in FAULTS if not name.startswith(DEATHS) or name in _RARE]
        end = time.monotonic() + self._plan.fault_s
        while True:
            for name in chance.sample(names, len(names)):
                if time.monotonic() > end:
                    return
                yield name

    def _deaths(self) -> Iterator[str]:
        chance = random.Random(f"deaths {self._plan.seed}")
        while True:
            yield chance.choice(DEATHS)

    def _run(self, lane: str, names: Iterator[str], gap_s: tuple[float, float]) -> None:
        site = Site(self._world, random.Random(f"{lane} {self._plan.seed}"), self.over)
        try:
            for name in names:
                self._await_storm()
                if self.over.is_set():
                    return
                self._inflict(name, site)
                site.sleep(site.chance.uniform(*gap_s))
        except BaseException as error:
            self._failure = error
            self.over.set()

    def _inflict(self, name: str, site: Site) -> None:
        """Until it takes hold, or so many times in vain: a failpoint needs somebody who comes by."""
        inflicted = self.inflicted
        self._say(name)
        is_quick = self._plan.profile == "quick" and self._plan.fault is None
        for _ in range(_ATTEMPTS_QUICK if is_quick else _ATTEMPTS):
            if name in inflicted.impossible or self.over.is_set():
                return
            try:
                FAULTS[name](site)
            except Impossible as error:
                inflicted.impossible[name] = str(error)
            except (InVain, psycopg.Error, redis.RedisError) as error:
                # It never took hold, or another fault has its object just now.
                inflicted.in_vain[name] += 1
                inflicted.why[name] = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            else:
                inflicted.done[name] += 1
                return
