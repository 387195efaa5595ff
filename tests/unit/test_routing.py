"""Which routes an event takes: the index and the plain way say the same, and every corner of the order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.labels import Matcher, Op
from common.domain.routing import Course, Grouping, Route, RouteBook, conditions, labels_of

LABELS = labels_of({"team": "shop"}, severity="critical", source="payments", name="db-1")


def route(name: str, *matchers: Matcher, continues: bool = True, **more: Any) -> Route:
    return Route(name, name, matchers, ("channel",), continues=continues, **more)


def courses(*routes: Route) -> list[str]:
    return [step.course.value for step in RouteBook(routes).explain(LABELS)]


SHOP, BOOKS = Matcher("team", Op.EQ, "shop"), Matcher("team", Op.EQ, "books")

VALUES = st.sampled_from(["", "a", "b", "ab", "ba", "critical"])
NAMES = st.sampled_from(["severity", "source", "name", "team"])
GLOBS = VALUES | st.sampled_from(["a*", "*b", "*", "a*b"])
MATCHERS = st.builds(Matcher, NAMES, st.sampled_from([Op.EQ, Op.NE]), GLOBS) | st.builds(
    Matcher, NAMES, st.sampled_from([Op.RE, Op.NOT_RE]), st.sampled_from(["a.*", ".*", "", "a|b", "[ab]+"])
)
ROUTES = st.lists(st.tuples(st.lists(MATCHERS, max_size=3), st.booleans()), max_size=12).map(
    lambda made: [route(str(n), *matchers, continues=goes_on) for n, (matchers, goes_on) in enumerate(made)]
)


@given(ROUTES, st.lists(st.dictionaries(NAMES, VALUES), min_size=1, max_size=5))
def test_the_routes_taken_are_those_that_the_plain_evaluation_takes(
    routes: list[Route], asked: list[dict[str, str]]
) -> None:
    book = RouteBook(routes)
    for labels in asked:
        steps = book.explain(labels)
        assert [step.route for step in steps] == routes
        assert book.take(labels) == [step.route for step in steps if step.course is Course.TAKEN]


@given(ROUTES, st.dictionaries(NAMES, VALUES))
def test_an_explanation_is_consistent(routes: list[Route], labels: dict[str, str]) -> None:
    ended = False
    for step in RouteBook(routes).explain(labels):
        assert (step.course is Course.NOT_REACHED) is ended
        assert (step.course is Course.TAKEN) is (not ended and not step.failing)
        assert set(step.failing) <= set(step.route.matchers)
        ended = ended or (step.course is Course.TAKEN and not step.route.continues)


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([], []),
        ([route("all")], ["taken"]),  # no condition at all
        ([route("a", SHOP), route("b", SHOP)], ["taken", "taken"]),  # both, by default
        ([route("a", SHOP, continues=False), route("b", SHOP)], ["taken", "not_reached"]),
        ([route("a", BOOKS, continues=False), route("b", SHOP)], ["no_match", "taken"]),  # not taken ends nothing
        ([route("a", SHOP, BOOKS)], ["no_match"]),  # all must hold
        ([route("a", SHOP, continues=False), route("b"), route("c", BOOKS)], ["taken", "not_reached", "not_reached"]),
        ([route("a", Matcher("absent", Op.EQ, ""))], ["taken"]),  # an absent label is ""
        ([route("a", Matcher("absent", Op.NE, "x"))], ["taken"]),
    ],
)
def test_routes_are_tried_in_order_until_one_does_not_continue(routes: list[Route], expected: list[str]) -> None:
    assert courses(*routes) == expected
    taken = [route for route, course in zip(routes, expected, strict=True) if course == "taken"]
    assert RouteBook(routes).take(LABELS) == taken


def test_what_fails_is_named_as_people_write_it_also_where_it_was_not_reached() -> None:
    steps = RouteBook([route("a", continues=False), route("b", SHOP, BOOKS)]).explain(LABELS)
    assert [[matcher.describe() for matcher in step.failing] for step in steps] == [[], ['team="books"']]


def test_fields_hide_labels_of_the_same_name() -> None:
    labels = labels_of({"severity": "info", "team": "x"}, severity="error", source="s", name="n")
    assert labels == {"severity": "error", "source": "s", "name": "n", "team": "x"}


def test_match_and_matchers_are_one_list_of_conditions_and_a_star_is_none() -> None:
    match = {"severity": "critical", "source": "*", "name": "db-*"}
    assert conditions(match, [{"label": "team", "op": "!~", "value": "x|y"}]) == (
        Matcher("severity", Op.EQ, "critical"),
        Matcher("name", Op.EQ, "db-*"),
        Matcher("team", Op.NOT_RE, "x|y"),
    )
    assert conditions({}, []) == ()


def grouped(name: str, *by: str) -> Route:
    return route(name, grouping=Grouping(by, timedelta(seconds=30), timedelta(minutes=5)))


def test_a_group_is_its_route_and_the_values_of_its_labels() -> None:
    by_team = grouped("a", "team")
    key = by_team.group_key({"team": "shop", "pod": "1"})
    assert key == by_team.group_key({"team": "shop", "pod": "2"})  # other labels do not matter
    assert key != by_team.group_key({"team": "books"})
    assert key != grouped("b", "team").group_key({"team": "shop"})  # another route's group is another
    assert by_team.group_key({}) == by_team.group_key({"team": ""})  # absent is ""
    assert route("a").group_key({"team": "shop"}) is None
    assert grouped("a").group_key({"team": "x"}) == grouped("a").group_key({"team": "y"})  # by nothing: one group


def test_values_cannot_be_shifted_from_one_label_of_a_group_to_the_next() -> None:
    by_both = grouped("a", "x", "y")
    assert by_both.group_key({"x": "1,2", "y": ""}) != by_both.group_key({"x": "1", "y": "2"})
    assert by_both.group_key({"x": '","', "y": ""}) != by_both.group_key({"x": "", "y": '","'})
