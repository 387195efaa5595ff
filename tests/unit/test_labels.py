from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.labels import MAX_VALUE, LabelIndex, Matcher, Op, check_matcher, matches, matches_all

LABELS = {"severity": "critical", "source": "payments", "name": "db-1 is down", "team": "shop"}


@pytest.mark.parametrize(
    ("label", "op", "value", "holds"),
    [
        ("team", "=", "shop", True),
        ("team", "=", "Shop", False),  # case matters
        ("team", "!=", "shop", False),
        ("team", "=", "*", True),
        ("source", "=", "pay*", True),
        ("source", "=", "*ments", True),
        ("source", "=", "p*m*s", True),
        ("source", "=", "p*x*s", False),
        ("source", "=", "payments*", True),  # * stands for nothing, too
        ("source", "=", "payment*payments", False),  # the pieces may not overlap
        ("source", "!=", "pay*", False),
        ("name", "=~", "db-[0-9] is (up|down)", True),
        ("name", "=~", "db-[0-9]", False),  # the whole value
        ("name", "!~", "db-[0-9]", True),
        ("absent", "=", "", True),
        ("absent", "=", "*", True),
        ("absent", "!=", "x", True),
        ("absent", "=~", ".+", False),
        ("team", "=", "", False),
    ],
)
def test_a_matcher_compares_one_label(label: str, op: str, value: str, holds: bool) -> None:
    assert matches(Matcher(label, Op(op), value), LABELS) is holds
    assert bool(LabelIndex([("it", [Matcher(label, Op(op), value)])]).find(LABELS)) is holds


def test_no_matcher_at_all_holds_for_everything() -> None:
    assert matches_all([], {})
    assert LabelIndex([("all", [])]).find({"any": "thing"}) == ["all"]


def test_a_wrong_pattern_is_named_with_its_place() -> None:
    (error,) = check_matcher(Matcher("team", Op.RE, "(a"), "matchers.0.value")
    assert error.field == "matchers.0.value" and "regular expression" in error.message
    assert check_matcher(Matcher("team", Op.NE, "(a"), "matchers.0.value") == []


VALUES = st.sampled_from(["", "a", "b", "ab", "aab", "ba", "abba"])
NAMES = st.sampled_from(["severity", "source", "name", "team"])
MATCHERS = st.builds(
    Matcher, NAMES, st.sampled_from(list(Op)), VALUES | st.sampled_from(["a*", "*a", "a*b", "*", "*b*", "a*b*a", "a**"])
).map(lambda m: Matcher(m.label, m.op, m.value.replace("*", ".*") if m.op in (Op.RE, Op.NOT_RE) else m.value))


@given(
    st.lists(st.lists(MATCHERS, max_size=4), max_size=12),
    st.lists(st.dictionaries(NAMES, VALUES), min_size=1, max_size=5),
)
def test_the_index_finds_what_comparing_each_entry_finds(
    entries: list[list[Matcher]], asked: list[dict[str, str]]
) -> None:
    index = LabelIndex(list(enumerate(entries)))
    for labels in asked:
        assert index.find(labels) == [n for n, matchers in enumerate(entries) if matches_all(matchers, labels)]


def test_a_pattern_that_explodes_elsewhere_is_linear_here() -> None:
    started = time.process_time()
    assert not matches(Matcher("name", Op.RE, "(a+)+$"), {"name": "a" * 5_000 + "!"})
    assert time.process_time() - started < 1


@pytest.mark.parametrize("pattern", ["a*", "*a", "a*a", "*"])
def test_a_long_value_costs_as_little_as_a_short_one(pattern: str) -> None:
    index = LabelIndex([("it", [Matcher("name", Op.EQ, pattern)]), ("other", [Matcher("name", Op.EQ, "bbb*")])])
    started = time.process_time()
    assert index.find({"name": "a" * 100_000}) == ["it"]
    assert time.process_time() - started < 1
    # Nor is it kept: thousands of such would fill the memory.
    assert max(map(len, index._patterns["name"]._known)) <= MAX_VALUE


def test_an_entry_is_looked_at_only_where_its_rarest_condition_holds() -> None:
    chance = random.Random(5)
    entries = [
        (n, [Matcher("severity", Op.EQ, "critical"), Matcher("source", Op.EQ, f"service-{n}-*")]) for n in range(5_000)
    ]
    chance.shuffle(entries)
    index = LabelIndex(entries)
    assert index.find({"severity": "critical", "source": "service-77-x"}) == [77]
    assert max(map(len, index._waiting)) == 1
