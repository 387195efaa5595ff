"""What a chaos run is asked for: its seed, its size and how long each phase lasts."""

from __future__ import annotations

from dataclasses import dataclass


class ChaosError(Exception):
    """The run cannot go on; the message is for people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times are seconds; `longest_s` is what one fault may last, `outage_s` the range of real outages."""

    seed: int
    profile: str
    monitors: int
    warm_s: float
    fault_s: float
    heal_s: float
    least_quiet_s: float
    quiesce_s: float
    longest_s: float
    outage_s: tuple[float, float]
    #: Seconds from one kill to the next, of those that go on beside all other faults.
    kill_every_s: tuple[float, float]
    #: Problems that alerts tell of; seconds for which one fires and rests, and which the first few of them last.
    problems: int
    fires_s: tuple[float, float]
    rests_s: tuple[float, float]
    lasting_s: tuple[float, float]
    #: How long a silence lasts; two that overlap, then as long nothing.
    silence_s: float
    #: Faults come in storms with calm in between, long enough for an outage to be told in time (0: no calm).
    storm_s: float = 0.0
    calm_s: float = 0.0
    #: Only this fault, so many times; None: all of them, for `fault_s`.
    fault: str | None = None
    trials: int = 0

    def wants_small_disk(self, fault: str) -> bool:
        """Whether data has to live where it can be made full, for this fault."""
        return self.fault == fault or (self.fault is None and self.profile == "full")


def quick(seed: int, *, fault: str | None = None, trials: int = 0, minutes: float | None = None) -> Plan:
    """About a minute in all."""
    return Plan(
        seed=seed,
        profile="quick",
        monitors=60,
        warm_s=4.0,
        fault_s=24.0 if minutes is None else minutes * 60,
        heal_s=3.0,
        least_quiet_s=8.0,
        quiesce_s=150.0,
        longest_s=4.0,
        # Longer than flapping: six turns take more than twenty checks.
        outage_s=(8.5, 12.0),
        kill_every_s=(2.0, 4.0),
        problems=16,
        fires_s=(3.0, 9.0),
        rests_s=(2.0, 5.0),
        lasting_s=(3.0, 9.0),
        silence_s=4.0,
        fault=fault,
        trials=trials,
    )


def full(seed: int, *, fault: str | None = None, trials: int = 0, minutes: float | None = None) -> Plan:
    """The mix; `minutes` counts everything, from the start to the verdict."""
    return Plan(
        seed=seed,
        profile="full",
        monitors=240,
        warm_s=20.0,
        fault_s=max(20.0, (10.0 if minutes is None else minutes) * 60 - 100.0),
        heal_s=15.0,
        least_quiet_s=20.0,
        quiesce_s=90.0,
        longest_s=15.0,
        outage_s=(10.0, 45.0),
        kill_every_s=(1.0, 3.0),
        problems=24,
        fires_s=(5.0, 20.0),
        rests_s=(3.0, 10.0),
        lasting_s=(70.0, 150.0),
        silence_s=15.0,
        storm_s=55.0,
        calm_s=32.0,
        fault=fault,
        trials=trials,
    )
