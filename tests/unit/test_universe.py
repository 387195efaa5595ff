"""Made data: the sizes that were asked for, the same every time, and alerts that concern whom they should."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from api import parsing
from api.alert_documents import AlertIn
from common.domain.labels import LabelIndex
from common.domain.routing import conditions
from common.seed.alerts import backbone, stream
from common.seed.universe import MOST_WATCHERS, Plan, Universe

SMALL = Plan(seed=7, organizations=12, routes=500)


def index(universe: Universe) -> LabelIndex[int]:
    """Organizations by what their routes ask for."""
    return LabelIndex((route.organization, conditions(route.match, route.matchers)) for route in universe.routes())


def labels(alert: dict[str, object]) -> dict[str, str]:
    taken = parsing.validate(AlertIn, alert).alert()
    return dict(taken.matched)


def test_the_default_is_what_was_asked_for() -> None:
    universe = Universe(Plan())
    routes = list(universe.routes())
    assert len(universe.organizations) == 100
    assert len(routes) == 28_800
    assert set(Counter(route.organization for route in routes).values()) == {288}
    channels = [id_ for route in routes for id_ in route.channels]
    assert len(channels) == len(set(channels)) == 57_600
    assert len({route.id for route in routes}) == 28_800
    assert universe.fan_out == 99


@pytest.mark.parametrize(
    ("organizations", "routes"), [(2, 4), (2, 5), (3, 100), (9, 91), (10, 288), (12, 500), (99, 2_881), (100, 2_880)]
)
def test_routes_are_dealt_out_evenly_and_a_service_is_watched_once_by_each(organizations: int, routes: int) -> None:
    universe = Universe(Plan(organizations=organizations, routes=routes))
    made = list(universe.routes())
    assert len(made) == routes
    counts = Counter(route.organization for route in made).values()
    assert (len(counts), max(counts) - min(counts) <= 1) == (organizations, True)
    watched = Counter((route.name, route.organization) for route in made)
    assert set(watched.values()) == {1}
    for organization in range(organizations):
        positions = [route.position for route in made if route.organization == organization]
        assert positions == list(range(1, len(positions) + 1))


def test_the_same_seed_makes_the_same_and_another_something_else() -> None:
    one, same, other = Universe(SMALL), Universe(SMALL), Universe(Plan(seed=8, organizations=12, routes=500))
    assert one.organizations == same.organizations
    assert list(one.routes()) == list(same.routes())
    assert not {id_ for id_, _ in one.organizations} & {id_ for id_, _ in other.organizations}
    assert list(islice(stream(one, "a"), 50)) == list(islice(stream(same, "a"), 50))
    assert list(islice(stream(one, "a"), 50)) != list(islice(stream(one, "b"), 50))


def test_every_alert_concerns_as_many_organizations_as_watch_its_service() -> None:
    universe = Universe(SMALL)
    found = index(universe)
    watchers = {service.name: service.watchers for service in universe.services}
    seen = set()
    for alert in islice(stream(universe, "run"), 2_000):
        concerned = found.find(labels(alert))
        assert len(concerned) == len(set(concerned)) == watchers[str(alert["name"])]
        seen.add(len(concerned))
    assert seen == set(range(1, MOST_WATCHERS + 1))


def test_the_backbones_alerts_concern_all_organizations_but_one() -> None:
    universe = Universe(SMALL)
    found = index(universe)
    for alert in islice(backbone(universe, "run"), 20):
        assert sorted(found.find(labels(alert))) == [n for n in range(12) if n != universe.outsider]


def test_alerts_of_one_run_are_problems_of_their_own() -> None:
    universe = Universe(SMALL)
    alerts = [*islice(stream(universe, "run"), 500), *islice(backbone(universe, "run"), 50)]
    assert len({alert["alert_id"] for alert in alerts}) == len({alert["dedup_key"] for alert in alerts}) == 550


@pytest.mark.parametrize(
    "plan",
    [
        Plan(organizations=1), Plan(organizations=0), Plan(organizations=10_001), Plan(organizations=100, routes=199),
        Plan(routes=1_000_001), Plan(channels_per_route=0), Plan(channels_per_route=11),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_said(plan: Plan) -> None:
    assert plan.problem() is not None


def test_what_can_be_made_is_no_problem() -> None:
    assert Plan().problem() is None
    assert SMALL.problem() is None
