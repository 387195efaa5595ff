"""What a plan finds between two sets of settings."""

from __future__ import annotations

from typing import Any

import pytest

from common.domain.plans import Action, Desired, Difference, Hidden, Present, differences, plan

#: (before, after, differences)
CASES: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, Any, Any]]]] = [
    ({}, {}, []),
    ({"a": 1, "b": [1]}, {"b": [1], "a": 1}, []),
    ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
    ({"a": 1}, {"a": 1.0}, []),
    ({"a": None}, {}, []),  # what is not there is null
    ({"a": 1}, {}, [("a", 1, None)]),
    ({"l": {"a": 1, "b": 2}}, {"l": {"b": 3, "c": 4}}, [("l.a", 1, None), ("l.b", 2, 3), ("l.c", None, 4)]),
    ({"list": [1, 2]}, {"list": [2, 1]}, [("list", [1, 2], [2, 1])]),  # order counts
    ({"http": {"a": 1}}, {"http": None}, [("http", {"a": 1}, None)]),
    ({"s": Hidden("x")}, {"s": Hidden("x")}, []),
    ({"s": Hidden("x")}, {"s": Hidden("y")}, [("s", Hidden("x"), Hidden("y"))]),
    ({"s": Hidden("x")}, {"s": "x"}, [("s", Hidden("x"), "x")]),  # written openly is another thing
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), CASES)
def test_differences_are_named_by_their_path(before: Any, after: Any, expected: list[tuple[str, Any, Any]]) -> None:
    assert list(differences(before, after)) == [Difference(*one) for one in expected]


def present(key: str, version: int = 1, **settings: Any) -> Present:
    return Present(f"id-{key}", key, key.upper(), version, settings)


def test_changes_come_by_key_and_what_is_equal_is_none() -> None:
    found = plan(
        [Desired("new", "New", {"a": 1}), Desired("same", "Same", {"a": 1}), Desired("b", "B", {"a": 2})],
        {"same": present("same", a=1), "b": present("b", 7, a=1), "bystander": present("bystander", a=9)},
        [present("gone", 3)],
    )
    assert [(one.action, one.key, one.name, one.id, one.config_version) for one in found] == [
        (Action.UPDATE, "b", "B", "id-b", 7),
        (Action.DELETE, "gone", "GONE", "id-gone", 3),
        (Action.CREATE, "new", "New", None, None),
    ]
    assert found[0].differences == (Difference("a", 1, 2),)
    assert found[1].differences == found[2].differences == ()


def test_a_secret_shows_in_no_text() -> None:
    assert "canary" not in repr(
        plan([Desired("a", "A", {"s": Hidden("canary")})], {"a": present("a", s=Hidden("canary2"))}, [])
    )
