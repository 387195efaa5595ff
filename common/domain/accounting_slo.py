"""What an objective makes of accounted time: an error budget, what is left of it, and how fast it burns.

The budget is a share of the time that was judged, so that pauses, maintenance and blindness neither give nor take any.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.domain.accounting import Times


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a target may be down, and how much of that is left; negative when the objective is missed."""

    total_ms: float
    remaining_ms: float

    @property
    def remaining_share(self) -> float | None:
        """Between 1 (untouched) and 0 (spent) or less; None while nothing was judged."""
        return self.remaining_ms / self.total_ms if self.total_ms else None


def budget(times: Times, target: float) -> Budget:
    """The budget of a target in (0, 1)."""
    total_ms = (1 - target) * times.judged
    return Budget(total_ms, total_ms - times.down)


def burn_rate(times: Times, target: float) -> float | None:
    """How many times faster than the objective allows: at 1 the budget of a window lasts exactly as long as it."""
    uptime = times.uptime
    return None if uptime is None else (1 - uptime) / (1 - target)
