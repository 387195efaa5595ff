"""The rules of a monitor's fields, without a server."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jsonschema_rs
import pytest

from api import pagination, parsing
from api.monitor_batches import check
from api.monitor_documents import keep_secrets, to_settings
from api.permissions import PERMISSIONS, PERSONAL, ROLES, allows, covers, permissions_of
from api.schemas_bulk import PlanIn
from api.schemas_monitors import MonitorIn
from common.clock import from_ms
from common.domain.errors import ValidationFailed
from common.domain.traces import check_id

MONITOR = {"name": "Shop", "type": "http", "target": "http://shop.example/"}

#: RFC 7396, appendix A: (target, patch, result)
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "foo"}, None, None),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
]


@pytest.mark.parametrize(("target", "patch", "result"), MERGES)
def test_merging_is_as_the_rfc_has_it(target: Any, patch: Any, result: Any) -> None:
    assert parsing.merge(target, patch) == result


def test_a_null_keeps_a_stored_secret_and_removes_everything_else() -> None:
    patch = {"http": {"headers": {"A": None, "B": None}}}
    merged = parsing.merge({"http": {"headers": {"A": None, "B": "plain"}}}, patch)
    assert keep_secrets(merged, patch, {"http.headers.A": "s"}) == {"http": {"headers": {"A": None}}}


def test_all_problems_between_fields_are_told_at_once() -> None:
    with pytest.raises(ValidationFailed) as caught:
        parsing.validate(
            MonitorIn,
            {**MONITOR, "target": "x", "interval_seconds": 5, "timeout_seconds": 6, "quorum": 2, "locations": ["a"]},
        )
    assert [detail.field for detail in caught.value.details] == ["target", "timeout_seconds", "quorum"]


def test_assertions_are_stored_as_they_were_sent() -> None:
    sent = [{"source": "status", "op": "eq", "value": 204}, {"source": "header", "op": "exists", "name": "ETag"}]
    body = parsing.validate(MonitorIn, {**MONITOR, "assertions": sent})
    stored = to_settings(body, (1,), {}).assertions
    assert stored == [sent[0], {**sent[1], "value": None}]


def test_equal_bodies_make_equal_settings_and_different_secrets_do_not() -> None:
    def settings(secret: str) -> Any:
        body = {**MONITOR, "http": {"headers": {"A": {"secret": secret}}}}
        return to_settings(parsing.validate(MonitorIn, body), (1,), {})

    assert settings("a") == settings("a")
    assert settings("a") != settings("b")
    assert "a-canary" not in repr(settings("a-canary").options)


def test_cursors_come_back_as_they_went() -> None:
    moment = from_ms(1_700_000_000_123)
    uuid = "01890000-0000-7000-8000-000000000000"
    assert pagination.before_id(pagination.encode(moment, uuid)) == (moment, uuid)
    assert pagination.before_number(pagination.encode(moment, 7)) == (moment, 7)
    assert pagination.after_number(pagination.encode_number(12)) == 12
    assert pagination.before_id(None) is pagination.before_number(None) is None
    assert pagination.after_number(None) == 0


def test_a_page_is_cut_where_more_follow() -> None:
    assert pagination.cut([1, 2, 3], 2) == ([1, 2], 2)
    assert pagination.cut([1, 2], 2) == ([1, 2], None)
    assert pagination.cut([], 2) == ([], None)


def test_roles_are_ordered_and_each_may_what_the_next_may() -> None:
    for mightier, weaker in pairwise(ROLES):
        assert set(permissions_of(weaker)) <= set(permissions_of(mightier))
        assert covers(mightier, weaker)
        assert not covers(weaker, mightier)
    changing = {name for name in PERMISSIONS if name.endswith((":write", ":check"))}
    assert not any(allows("viewer", name) for name in changing - PERSONAL)


def test_the_id_of_a_check_hangs_on_monitor_location_and_slot() -> None:
    ids = {check_id(monitor, location, at) for monitor in "ab" for location in (1, 2) for at in (1, 2)}
    assert len(ids) == 8
    assert check_id("a", 1, 2) == check_id("a", 1, 2)
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in ids)


def test_bodies_of_plan_and_apply_allow_a_secret_as_exports_write_it() -> None:
    schema = PlanIn.model_json_schema()
    wanted = {"type": "http", "key": "a", "name": "a", "target": "http://a/"}
    kept = {"secret": None}
    for options in ({"headers": {"A": kept}}, {"username": "u", "password": kept}, {"bearer_token": kept}):
        body = {"monitors": [{**wanted, "http": options}]}
        assert jsonschema_rs.is_valid(schema, body)
        checked = check(PlanIn.model_validate(body).monitors)
        assert checked.faults == {}
    wrong = {"monitors": [{**wanted, "http": {"password": {"secret": 1}}}]}
    assert not jsonschema_rs.is_valid(schema, wrong)
