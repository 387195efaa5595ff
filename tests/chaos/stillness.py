"""What a machine that stutters makes of what was seen: endpoints look down that are up, and times are noted late."""

from __future__ import annotations

from tests.chaos.facts import Facts, Span
from tests.chaos.reasons import MACHINE

#: Who says in a history that the endpoints stood still (tests/chaos/endpoints.py).
ENDPOINTS = "endpoints"
#: A check ends so long after it was due at the most (seconds).
_REACH_S = 15.0


def looked_down(facts: Facts, monitor: str) -> list[Span]:
    """When an endpoint failed or, which is the same to whoever asks it, stood still with all the others."""
    return [*facts.outages[monitor], *_endpoints(facts)]


def endpoints_stood_still(facts: Facts, begin: float, end: float) -> bool:
    """Whether they did at any moment between these."""
    return any(span.overlaps(begin, end) for span in _endpoints(facts))


def still_s(facts: Facts, begin: float, end: float) -> float:
    """How long anybody stood still in there: so much later the end of a check may have been noted (seconds)."""
    return sum(span.end - span.begin for span in facts.disturbed(begin, end, lambda span: span.name == MACHINE))


def noted_late_s(facts: Facts, at: float) -> float:
    """The same of whoever noted this moment."""
    return still_s(facts, at - _REACH_S, at)


def _endpoints(facts: Facts) -> list[Span]:
    return [span for span in facts.disturbances if span.name == MACHINE and span.target == ENDPOINTS]
