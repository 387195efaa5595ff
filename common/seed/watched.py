"""What is watched, and how it went: monitors of one organization with a past of results, outages and incidents. Pure.

The same plan gives the same monitors, ids and fates; times count back from the moment of seeding. Stored are not all
results of the past days but as many as were asked for, at equal distances, the newest of them the last slot's; of an
outage all that there were, so that its incident, the monitor's uptime and its results tell of the same time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import gcd
from typing import Any
from uuid import UUID

from common.domain.slots import latest_slot, phase_ms
from common.seed.universe import KINDS, REGIONS, SEVERITIES, TEAMS, chance_of

#: An outage takes two results, between one before and one after; the newest four of a monitor have none of the past.
_PER_OUTAGE = 4
#: The least of a monitor: room for one outage, and for what goes on right now.
LEAST_RESULTS = 8

#: What people write down about an outage: words that many incidents share, for searching.
SYMPTOMS = (
    "Customers see errors at checkout",
    "Requests time out behind the gateway",
    "The database refuses connections",
    "Certificate chain was not accepted",
    "Latency rose after the deployment",
    "Workers ran out of memory",
    "The cache lost its primary",
    "Messages pile up in the queue",
    "Disk is full on the replica",
)
FINDINGS = (
    "Rolled back",
    "Restarted by the scheduler",
    "Provider confirmed a broken link",
    "Failed over to the other region",
    "Index was rebuilt",
    "Scaled out by two nodes",
    "Configuration was wrong",
)

ENVIRONMENTS = ("production", "production", "production", "staging", "development")
SERVICES = ("billing", "catalogue", "checkout", "identity", "inventory", "invoices", "search", "shipping")

#: Where nobody listens: the discard service's port.
NOWHERE = "http://127.0.0.1:9"

#: What a monitor expects that is degraded for as long as it's answered without this header.
_DEGRADING = {"source": "header", "op": "eq", "name": "X-Complete", "value": "yes", "on_fail": "degraded"}

#: Of all monitors: so many of a thousand are this way (the rest is up).
_DOWN_PER_MILLE, _DEGRADED_PER_MILLE, _PAUSED_PER_MILLE = 10, 5, 10


class Fate(IntEnum):
    """How a monitor is right now."""

    UP = 0
    DEGRADED = 1
    DOWN = 2
    PAUSED = 3


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """How much to make. `days` is how far the results reach back."""

    seed: int
    monitors: int
    results: int
    incidents: int
    days: int = 7
    interval_s: int = 60

    @property
    def most_incidents(self) -> int:
        """As many outages as have room in the past."""
        return self.monitors * max(0, (self.results // max(1, self.monitors) - LEAST_RESULTS) // _PER_OUTAGE + 1)

    @property
    def step_ms(self) -> int:
        """Between two results, outside of outages: a whole number of intervals, since only slots have results."""
        each = self.results // self.monitors
        return max(1, self.days * 86_400 // (self.interval_s * each)) * self.interval_s * 1000

    def problem(self) -> str | None:
        """What is wrong with it."""
        least, most = LEAST_RESULTS * self.monitors, 100_000_000
        slots = self.monitors * (self.days * 86_400 // max(1, self.interval_s))
        rules = (
            (1 <= self.monitors <= 1_000_000, "1 to 1,000,000 monitors can be made"),
            (least <= self.results <= most, f"{LEAST_RESULTS} results a monitor to {most:,} in all can be made"),
            (1 <= self.days <= 365, "the results can reach back 1 to 365 days"),
            (1 <= self.interval_s <= 86_400, "an interval has 1 to 86,400 seconds"),
            (self.results <= slots, f"in so many days there are only {slots:,} slots: raise --days"),
            (
                0 <= self.incidents <= self.most_incidents,
                f"for so many results, make 0 to {self.most_incidents:,} incidents",
            ),
        )
        return next((message for holds, message in rules if not holds), None)


@dataclass(frozen=True, slots=True)
class Watched:
    """A monitor to make. Its newest result is that of `last_ms`; `outages` lie in its past."""

    number: int
    id: UUID
    key: str
    name: str
    target: str
    severity: str
    labels: dict[str, str]
    assertions: list[dict[str, Any]]
    fate: Fate
    results: int
    outages: int
    last_ms: int


def watched(plan: WatchPlan, target: Callable[[int], str], now_ms: int) -> Iterator[Watched]:
    """All monitors; `target` is what one of them watches, unless it is down."""
    chance = chance_of(f"watched {plan.seed}")
    more_results = plan.results % plan.monitors
    rounds, more_outages = divmod(plan.incidents, plan.monitors)
    stride = _coprime(plan.monitors)
    for number in range(plan.monitors):
        id_, fate = UUID(int=chance.getrandbits(128), version=4), _fate(chance)
        interval_ms = plan.interval_s * 1000
        yield Watched(
            number=number,
            id=id_,
            key=f"seed-{plan.seed}-{number:06d}",
            name=f"{chance.choice(SERVICES)} {chance.choice(KINDS)} {number:06d}",
            target=f"{NOWHERE}/{number}" if fate is Fate.DOWN else target(number),
            severity=chance.choice(SEVERITIES[:3]),
            labels={
                "team": chance.choice(TEAMS),
                "env": chance.choice(ENVIRONMENTS),
                "region": chance.choice(REGIONS),
                "host": f"host-{chance.randrange(max(1, plan.monitors // 4)):05d}",
            },
            assertions=[_DEGRADING] if fate is Fate.DEGRADED else [],
            fate=fate,
            results=plan.results // plan.monitors + (number < more_results),
            # Scattered over all of them, and not only the first.
            outages=rounds + (number * stride % plan.monitors < more_outages),
            last_ms=latest_slot(now_ms, interval_ms, phase_ms(str(id_), interval_ms)),
        )


def _fate(chance: random.Random) -> Fate:
    drawn = chance.randrange(1000)
    for fate, share in (
        (Fate.DOWN, _DOWN_PER_MILLE),
        (Fate.DEGRADED, _DEGRADED_PER_MILLE),
        (Fate.PAUSED, _PAUSED_PER_MILLE),
    ):
        if drawn < share:
            return fate
        drawn -= share
    return Fate.UP


def _coprime(count: int) -> int:
    """A step that comes by all of so many places."""
    return next(step for step in range(7919, 7919 + count + 2) if gcd(step, count) == 1)
