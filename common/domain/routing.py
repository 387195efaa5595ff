"""Which routes an event takes, and what a route asks for on the way.

Routes are tried in the order of their positions; each that matches is taken, until one that does not continue. An event
that takes none is unrouted and goes to the organization's default channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from common.domain.labels import LabelIndex, Labels, Matcher, Op, matches

#: The fields of an incident that matchers see as labels; they hide labels of the same name.
FIELDS = ("severity", "source", "name")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Incidents with the same values of the labels `by` are told together.

    A group's first message waits for others to join it; the next one comes no sooner than `interval` after it.
    """

    by: tuple[str, ...]
    wait: timedelta
    interval: timedelta


@dataclass(frozen=True, slots=True)
class Route:
    """An enabled route. `grouping` None: every incident is told on its own; `repeat` None: no reminders."""

    id: str
    name: str
    matchers: tuple[Matcher, ...]
    channel_ids: tuple[str, ...]
    continues: bool = True
    cooldown: timedelta = timedelta(0)
    grouping: Grouping | None = None
    repeat: timedelta | None = None

    def group_key(self, labels: Labels) -> str | None:
        """The group that an incident with these labels belongs to; None without grouping."""
        if self.grouping is None:
            return None
        values = json.dumps([labels.get(label, "") for label in self.grouping.by], ensure_ascii=False)
        return f"{self.id}:{sha256(values.encode('utf-8', 'replace')).hexdigest()[:32]}"


class Course(StrEnum):
    """What became of a route when an event came by."""

    TAKEN = "taken"
    NO_MATCH = "no_match"
    NOT_REACHED = "not_reached"  # an earlier one that was taken does not continue


@dataclass(frozen=True, slots=True)
class Step:
    """One route's part in an explanation; `failing` are the matchers that did not hold."""

    route: Route
    course: Course
    failing: tuple[Matcher, ...]


class RouteBook:
    """One organization's enabled routes, in the order of their positions; never changed, only replaced."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._index = LabelIndex((route, route.matchers) for route in routes)

    def take(self, labels: Labels) -> list[Route]:
        """The routes that an event with these labels takes, in order."""
        taken: list[Route] = []
        for route in self._index.find(labels):
            taken.append(route)
            if not route.continues:
                break
        return taken

    def explain(self, labels: Labels) -> list[Step]:
        """Every route's part, in order; by the plain way, so that it also proves the index."""
        steps: list[Step] = []
        ended = False
        for route in self.routes:
            failing = tuple(matcher for matcher in route.matchers if not matches(matcher, labels))
            if ended:
                steps.append(Step(route, Course.NOT_REACHED, failing))
            elif failing:
                steps.append(Step(route, Course.NO_MATCH, failing))
            else:
                steps.append(Step(route, Course.TAKEN, ()))
                ended = not route.continues
        return steps


def labels_of(labels: Labels, *, severity: str, source: str, name: str) -> dict[str, str]:
    """What matchers see of an incident; `name` is the monitor's or the alert's."""
    return {**labels, "severity": severity, "source": source, "name": name}


def conditions(match: Mapping[str, str], matchers: Iterable[Mapping[str, Any]]) -> tuple[Matcher, ...]:
    """A route's conditions as they are stored: `match` is patterns by field, where "*" is any; both are ANDed."""
    fields = [Matcher(label, Op.EQ, pattern) for label, pattern in match.items() if pattern != "*"]
    return (*fields, *(Matcher(m["label"], Op(m["op"]), m["value"]) for m in matchers))
