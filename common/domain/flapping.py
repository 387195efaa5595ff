"""Monitors that change too often: when one begins to flap, and when it has calmed down.

Counted are turns between up and not up, in slots: six within the time of twenty checks, and none within that of ten.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Windows in checks, so that a monitor that looks every second is judged by seconds and one that looks hourly by days.
OFTEN_CHECKS = 20
CALM_CHECKS = 10

#: Turns that are too many, unless the operator says otherwise: three outages that are over, as people see it.
TURNS = 6

Turns = tuple[int, ...]
"""Slots (Unix milliseconds) of the newest turns, the oldest first; as many as it takes to flap, at most."""


@dataclass(frozen=True, slots=True)
class Flap:
    """How many turns within `often_ms` are too many, and how long none may come for it to be over."""

    turns: int
    often_ms: int
    calm_ms: int


def flap_of(turns: int, interval_s: int) -> Flap | None:
    """What is too often for a monitor of this interval; with 0 turns nothing is."""
    return Flap(turns, OFTEN_CHECKS * interval_s * 1000, CALM_CHECKS * interval_s * 1000) if turns else None


def with_turn(turns: Turns, at_ms: int, flap: Flap) -> Turns:
    """One more turn."""
    return (*turns, at_ms)[-flap.turns :]


def too_often(turns: Turns, flap: Flap, *, now_ms: int) -> bool:
    """Whether there were so many that it flaps."""
    return len(turns) >= flap.turns and turns[-flap.turns] > now_ms - flap.often_ms


def has_calmed(turns: Turns, flap: Flap, *, now_ms: int) -> bool:
    """Whether the last one is long past."""
    return not turns or turns[-1] <= now_ms - flap.calm_ms
