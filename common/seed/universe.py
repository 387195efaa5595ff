"""Who watches what: organizations, their routes, and services of which each is watched by 1 to 10 organizations.

The same plan gives the same universe, to the last id. Every route asks for one service, in one of the ways in which
people write such rules; all organizations but one have one more, for the backbone, whose alerts concern them all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

#: The requirement's own size: 100 tenants with 288 rules each, two endpoints a rule.
ORGANIZATIONS = 100
ROUTES = 28_800
CHANNELS_PER_ROUTE = 2

#: As many organizations watch one service, at most; on average half as many and a half.
MOST_WATCHERS = 10

KINDS = ("api", "cache", "database", "disk", "gateway", "mailer", "network", "queue", "scheduler")
SOURCES = ("batch", "cloud", "edge", "hosts", "logs", "metrics", "probes", "synthetics")
SEVERITIES = ("critical", "error", "warning", "info")
REGIONS = ("east", "north", "south", "west")
TEAMS = tuple(f"team-{number:02d}" for number in range(1, 25))

BACKBONE_SOURCE = "backbone"
BACKBONE_SEVERITY = "critical"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to make."""

    seed: int = 1
    organizations: int = ORGANIZATIONS
    routes: int = ROUTES
    channels_per_route: int = CHANNELS_PER_ROUTE

    def problem(self) -> str | None:
        """What is wrong with it."""
        if not 2 <= self.organizations <= 10_000:
            return "2 to 10,000 organizations can be made"
        if not 2 * self.organizations <= self.routes <= 1_000_000:
            return "2 routes for each organization to 1,000,000 in all can be made"
        if not 1 <= self.channels_per_route <= 10:
            return "a route can have 1 to 10 channels"
        return None


@dataclass(frozen=True, slots=True)
class Service:
    """What alerts are about; `watchers` organizations have a route for it."""

    number: int
    name: str
    source: str
    severity: str
    team: str
    region: str
    watchers: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an organization (by its place), as it is stored. The ids are this route's and its channels'."""

    id: UUID
    organization: int
    position: int
    name: str
    match: dict[str, str]
    matchers: list[dict[str, str]]
    channels: tuple[UUID, ...]


class Universe:
    """Everything that a plan says; organizations and services are kept, routes are made as they are asked for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        chance = chance_of(f"organizations {plan.seed}")
        self.organizations = [(_id(chance), f"tenant-{number:03d}") for number in range(1, plan.organizations + 1)]
        #: The one organization that the backbone's alerts do not concern.
        self.outsider = plan.routes % plan.organizations
        self.services = list(_services(plan, chance_of(f"services {plan.seed}")))

    @property
    def fan_out(self) -> int:
        """How many organizations an alert of the backbone concerns."""
        return self.plan.organizations - 1

    def routes(self) -> Iterator[Route]:
        """All routes: the backbone's first, then service by service."""
        chance = chance_of(f"routes {self.plan.seed}")
        places = [0] * self.plan.organizations
        backbone = {"severity": BACKBONE_SEVERITY, "source": BACKBONE_SOURCE, "name": "*"}
        for organization in range(self.plan.organizations):
            if organization != self.outsider:
                yield self._route(chance, organization, places, ("backbone", backbone, []))
        watcher = 0
        for service in self.services:
            for _ in range(service.watchers):
                # In turn, so that all get the same number; of the last, who get one more, the outsider is one.
                yield self._route(chance, watcher % self.plan.organizations, places, _rule(service, chance))
                watcher += 1

    def _route(
        self,
        chance: random.Random,
        organization: int,
        places: list[int],
        rule: tuple[str, dict[str, str], list[dict[str, str]]],
    ) -> Route:
        places[organization] += 1
        name, match, matchers = rule
        channels = tuple(_id(chance) for _ in range(self.plan.channels_per_route))
        return Route(_id(chance), organization, places[organization], name, match, matchers, channels)


def chance_of(words: str) -> random.Random:
    """What looks random and is the same for the same words."""
    return random.Random(words)  # noqa: S311 - made data, nothing to guess


def _services(plan: Plan, chance: random.Random) -> Iterator[Service]:
    """As many as there are routes for them."""
    left = plan.routes - (plan.organizations - 1)
    most = min(MOST_WATCHERS, plan.organizations)
    number = 0
    while left:
        for watchers in chance.sample(range(1, most + 1), most):
            taken = min(watchers, left)
            left -= taken
            number += 1
            kind = chance.choice(KINDS)
            yield Service(
                number,
                f"{kind}-{number:06d}",
                chance.choice(SOURCES),
                chance.choice(SEVERITIES),
                chance.choice(TEAMS),
                chance.choice(REGIONS),
                taken,
            )
            if not left:
                return


def _rule(service: Service, chance: random.Random) -> tuple[str, dict[str, str], list[dict[str, str]]]:
    """(name, match, matchers) of a route for a service: exact, with wildcards, by labels."""
    other = chance.choice(REGIONS)
    ways: tuple[tuple[dict[str, str], list[dict[str, str]]], ...] = (
        ({"severity": service.severity, "source": service.source, "name": service.name}, []),
        ({"severity": "*", "source": service.source, "name": service.name}, []),
        ({"severity": service.severity, "source": "*", "name": f"*-{service.number:06d}"}, []),
        ({"source": f"{service.source[:3]}*", "name": service.name}, []),
        ({"name": service.name}, [{"label": "team", "op": "=", "value": service.team}]),
        ({"name": service.name}, [{"label": "region", "op": "=~", "value": f"{service.region}|{other}"}]),
        ({"name": service.name}, [{"label": "stage", "op": "!=", "value": "test"}]),
    )
    match, matchers = chance.choice(ways)
    return service.name, match, matchers


def _id(chance: random.Random) -> UUID:
    return UUID(int=chance.getrandbits(128), version=4)
