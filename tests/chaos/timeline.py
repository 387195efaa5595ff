"""When each endpoint fails, decided by the seed: steady ones, real outages, and blips shorter than the threshold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.plan import Plan

#: How an endpoint fails: by its status, by a reset, by an answer that never comes.
MODES = ("status", "reset", "hang")

#: Who behaves how: weights of the characters.
_CHARACTERS = {"steady": 35, "outages": 40, "blips": 15, "ends_down": 10}


@dataclass(frozen=True, slots=True)
class Script:
    """A monitor of the run before the API knows it. Spans are seconds; `gap_s` lies between two failures."""

    path: str
    seed: str
    character: str
    interval_s: int
    failure_threshold: int
    recovery_threshold: int
    gap_s: tuple[float, float]
    failing_s: tuple[float, float]

    def changes(self) -> Iterator[tuple[float, str]]:
        """(seconds until it comes, "up" or the mode of failing), without end."""
        if self.character == "steady":
            return
        chance = random.Random(self.seed)
        yield chance.uniform(0, self.gap_s[1]), chance.choice(MODES)
        while True:
            yield chance.uniform(*self.failing_s), "up"
            yield chance.uniform(*self.gap_s), chance.choice(MODES)

    def as_json(self) -> dict[str, Any]:
        """For the process that plays it."""
        return asdict(self)


def host_of(path: str) -> str:
    """The name under which an endpoint can be found."""
    return f"{path.removeprefix('/')}.watched.test"


def scripts(plan: Plan) -> list[Script]:
    """The monitors of a run."""
    chance = random.Random(f"scripts {plan.seed}")
    names, weights = list(_CHARACTERS), list(_CHARACTERS.values())
    return [_script(plan, number, chance, chance.choices(names, weights)[0]) for number in range(plan.monitors)]


def _script(plan: Plan, number: int, chance: random.Random, character: str) -> Script:
    interval_s = chance.choice((1, 1, 2))
    # One failure is enough only where the timeout leaves room for a busy machine.
    failure_threshold = chance.choice((2, 3) if character == "blips" or interval_s == 1 else (1, 2, 3))
    # The first failure is confirmed a second later, so threshold - 1 seconds are seen at the least.
    blip_s = (0.2, (failure_threshold - 1) * 0.7)
    return Script(
        path=f"/m{number}",
        seed=f"{plan.seed} {number}",
        character=character,
        interval_s=interval_s,
        failure_threshold=failure_threshold,
        recovery_threshold=chance.choice((1, 2)),
        gap_s=(4.0, 15.0) if character == "blips" else (plan.outage_s[0], plan.outage_s[1]),
        failing_s=blip_s if character == "blips" else plan.outage_s,
    )
