"""Lists of monitors: every filter and order shows exactly what passes it, page by page, and reads only so much."""

from __future__ import annotations

import base64
import itertools
from typing import Any
from uuid import uuid4

import pytest

from api import monitor_filters, pagination
from api.schemas_monitor_lists import MonitorQuery
from common.store import monitor_lists
from common.store.monitor_lists import MonitorFilter
from tests import api_cast
from tests.api_cast import Person, World
from tests.statements import counted

world = api_cast.world

SORTS = ("-created_at", "created_at", "name", "-name", "state")
WORST_FIRST = ("down", "degraded", "unknown", "pending", "up", "paused")

#: Monitors in their order of creation: what is searched, labelled and found in which state.
MADE: tuple[dict[str, Any], ...] = (
    {"name": "Shop front", "target": "https://www.shop.example/", "labels": {"team": "shop", "tier": "1"}, "is": "up"},
    {"name": "shop API", "target": "https://api.shop.example/v1/health", "labels": {"team": "shop"}, "is": "down"},
    {"name": "Billing", "key": "billing-eu-1", "target": "https://10.0.0.1:8443/", "labels": {"tier": "1"}, "is": "up"},
    {"name": "Ärger", "target": "https://aerger.example/", "labels": {"team": "a=b"}, "is": "degraded"},
    {
        "name": "db", "type": "tcp", "target": "db-3.example:5432", "labels": {"team": "shop", "note": "a b"},
        "is": "unknown",
    },
    {"name": "old", "target": "https://old.example/", "is": "paused"},
    {"name": "fresh", "target": "https://fresh.example/shop", "labels": {"team": "web"}, "is": "pending"},
    {"name": "zz top_10%", "target": "https://zz.example/", "labels": {"team": "web"}, "is": "up"},
)  # fmt: skip

HEALTH = {"up": 1, "degraded": 2, "down": 3, "unknown": 1}


def make(world: World, number: int = 1) -> list[dict[str, Any]]:
    """Those monitors so many times, in the states that they are said to be in."""
    made = []
    for index, monitor in itertools.product(range(number), MADE):
        fields = {name: value for name, value in monitor.items() if name != "is"}
        if number > 1:
            fields["name"] = f"{fields['name']} {index:04d}"
            fields.pop("key", None)
        made.append({**world.alice.make_monitor(**fields), "is": monitor["is"]})
    for monitor in made:
        settle(world, monitor)
    return made


def settle(world: World, monitor: dict[str, Any]) -> None:
    state = monitor["is"]
    if state == "paused":
        world.alice.post(f"/v1/monitors/{monitor['id']}/pause")
    elif state != "pending":
        number = world.rows("SELECT monitor_no FROM monitors WHERE id = %(id)s", id=monitor["id"])[0]["monitor_no"]
        health = HEALTH[state]
        world.execute("UPDATE monitor_states SET health = %(h)s WHERE monitor_no = %(no)s", h=health, no=number)
        world.execute(
            "UPDATE votes SET health = %(h)s, last_slot = now(), last_verdict = %(v)s, latency_ms = 1, version = 2"
            " WHERE monitor_no = %(no)s",
            h=health, v=0 if state == "unknown" else health, no=number,
        )  # fmt: skip


def names(person: Person, **query: Any) -> list[str]:
    answer = person.get("/v1/monitors", query_string=query)
    assert answer.status_code == 200, answer.text
    return [monitor["name"] for monitor in answer.get_json()["data"]]


def walked(person: Person, limit: int, **query: Any) -> list[dict[str, Any]]:
    """All pages of a list."""
    found: list[dict[str, Any]] = []
    path, arguments = "/v1/monitors", {**query, "limit": limit}
    while True:
        answer = person.get(path, query_string=arguments)
        assert answer.status_code == 200, answer.text
        page = answer.get_json()
        found += page["data"]
        assert len(page["data"]) == limit or page["next_cursor"] is None
        if page["next_cursor"] is None:
            return found
        arguments = {**arguments, "cursor": page["next_cursor"]}


#: (query, the names that it finds)
FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"q": "shop"}, {"Shop front", "shop API", "fresh"}),
    ({"q": "SHOP"}, {"Shop front", "shop API", "fresh"}),
    ({"q": "sho"}, {"Shop front", "shop API", "fresh"}),  # the beginning of a word
    ({"q": "hop"}, set()),  # not the middle of one
    ({"q": "shop api"}, {"shop API"}),  # all words
    ({"q": "api.shop.example/v1"}, {"shop API"}),  # a piece of a URL
    ({"q": "billing-eu"}, {"Billing"}),  # the key
    ({"q": "10.0.0.1:8443"}, {"Billing"}),
    ({"q": "ärg"}, {"Ärger"}),
    ({"q": "10%"}, {"zz top_10%", "Billing"}),  # punctuation separates words, and is no pattern
    ({"q": "to_1"}, {"zz top_10%"}),
    ({"q": "nothing"}, set()),
    ({"label": "team:shop"}, {"Shop front", "shop API", "db"}),
    ({"label": ["team:shop", "tier:1"]}, {"Shop front"}),
    ({"label": "tier"}, {"Shop front", "Billing"}),
    ({"label": ["tier", "team:shop"]}, {"Shop front"}),
    ({"label": "team:a=b"}, {"Ärger"}),
    ({"label": "note:a b"}, {"db"}),
    ({"label": "team:sho"}, set()),
    ({"label": "team:"}, set()),
    ({"type": "tcp"}, {"db"}),
    ({"type": "tcp,http", "label": "team:shop"}, {"Shop front", "shop API", "db"}),
    ({"state": "up"}, {"Shop front", "Billing", "zz top_10%"}),
    ({"state": "down"}, {"shop API"}),
    ({"state": "degraded,down"}, {"Ärger", "shop API"}),
    ({"state": "unknown"}, {"db"}),
    ({"state": "paused"}, {"old"}),
    ({"state": "pending"}, {"fresh"}),
    ({"state": "up", "q": "shop"}, {"Shop front"}),
    ({"state": ["up", "pending"], "q": "shop", "label": "team"}, {"Shop front", "fresh"}),
]


def test_filters_find_what_they_say_in_every_order(world: World) -> None:
    made = make(world)
    state_of = {monitor["name"]: monitor["is"] for monitor in made}
    created = [monitor["name"] for monitor in made]
    lowered = sorted(created, key=lambda name: name.lower().encode())
    orders = {
        "created_at": created,
        "-created_at": created[::-1],
        "name": lowered,
        "-name": lowered[::-1],
        "state": [name for state in WORST_FIRST for name in created[::-1] if state_of[name] == state],
    }
    for query, expected in [({}, set(created)), *FILTERS]:
        for sort, order in orders.items():
            assert names(world.alice, **query, sort=sort) == [n for n in order if n in expected], (query, sort)
        assert world.charlie.get("/v1/monitors", query_string=query).get_json()["data"] == [], query


def test_shown_states_and_filters_agree(world: World) -> None:
    for monitor in make(world):
        shown = world.alice.get(f"/v1/monitors/{monitor['id']}").get_json()["state"]["status"]
        assert shown == monitor["is"]
        found = world.alice.get("/v1/monitors", query_string={"state": shown}).get_json()["data"]
        assert monitor["id"] in {one["id"] for one in found}


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("query", [{}, {"q": "shop"}, {"label": "team:shop"}, {"state": "up,down,paused"}])
def test_pages_follow_each_other_in_every_order(world: World, sort: str, query: dict[str, Any]) -> None:
    make(world, 3)
    whole = walked(world.alice, 100, **query, sort=sort)
    assert len(whole) >= 6
    for limit in (1, 4):
        assert walked(world.alice, limit, **query, sort=sort) == whole


def test_what_is_deleted_or_resumed_moves(world: World) -> None:
    made = {monitor["is"]: monitor for monitor in make(world)}
    world.alice.post(f"/v1/monitors/{made['paused']['id']}/resume")
    assert names(world.alice, state="paused") == []
    assert set(names(world.alice, state="pending")) == {"old", "fresh"}
    world.alice.delete(f"/v1/monitors/{made['pending']['id']}")
    world.alice.delete(f"/v1/monitors/{made['down']['id']}")
    assert (names(world.alice, state="pending"), names(world.alice, state="down")) == (["old"], [])
    assert names(world.alice, q="shop") == ["Shop front"]
    assert len(names(world.alice)) == 6


def test_what_is_renamed_or_labelled_otherwise_is_found_so(world: World) -> None:
    made = world.alice.make_monitor(name="Before", labels={"team": "a"})
    world.alice.patch(f"/v1/monitors/{made['id']}", json={"name": "After", "labels": {"team": "b"}})
    assert (names(world.alice, q="before"), names(world.alice, label="team:a")) == ([], [])
    assert (names(world.alice, q="after"), names(world.alice, label="team:b")) == (["After"], ["After"])


def test_a_cursor_belongs_to_its_sort_and_filters(world: World) -> None:
    make(world)
    query = {"sort": "name", "label": "team", "limit": 1}
    cursor = world.alice.get("/v1/monitors", query_string=query).get_json()["next_cursor"]
    more = {"limit": 2, "fields": "name"}  # the page's size and its fields may change
    assert world.alice.get("/v1/monitors", query_string={**query, **more, "cursor": cursor}).status_code == 200
    for other in ({"sort": "-name"}, {"sort": "state"}, {"sort": "-created_at"}, {"label": "tier"}, {"q": "shop"},
                  {"state": "up"}, {"type": "http"}):  # fmt: skip
        answer = world.alice.get("/v1/monitors", query_string={**query, **other, "cursor": cursor})
        assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, "cursor"), other
        assert "another sort or other filters" in answer.get_json()["details"][0]["message"]
    forged = pagination.encode_parts([monitor_filters._of(MonitorQuery(sort="name")), str(uuid4()), "x"])
    assert world.alice.get("/v1/monitors", query_string={"sort": "name", "cursor": forged}).status_code == 200
    half = base64.urlsafe_b64encode(base64.urlsafe_b64decode(forged + "===").replace(b'"x"', b'"\\ud800"')).decode()
    assert world.alice.get("/v1/monitors", query_string={"sort": "name", "cursor": half}).status_code == 400
    for nonsense in ("x", "W10", "WzFd", "eyJ9", "WyJhIl0", "bnVsbA", "a" * 2000):
        assert world.alice.get("/v1/monitors", query_string={"cursor": nonsense}).status_code == 400, nonsense


def test_fields_leave_the_rest_out(world: World) -> None:
    made = world.alice.make_monitor(labels={"team": "shop"})
    (part,) = world.alice.get("/v1/monitors?fields=name,state&fields=labels").get_json()["data"]
    assert part == {name: made[name] for name in ("id", "name", "state", "labels")}
    answer = world.alice.get("/v1/monitors?fields=name,colour")
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, "fields.1")
    assert "interval_seconds" in answer.get_json()["details"][0]["message"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=green", "state.0"),
        ("sort=colour", "sort"),
        ("type=ftp2", "type.0"),
        ("q=", "q"),
        ("q=...", "q"),
        ("q=%09", "q"),
        ("q=a+b+c+d+e+f+g+h+i+j+k+l+m", "q"),
        ("label=:x", "label.0"),
        ("label=team:a&label=team:b", "label"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(world: World, query: str, field: str) -> None:
    answer = world.alice.get(f"/v1/monitors?{query}")
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field)


def test_no_text_breaks_out_of_a_search(world: World) -> None:
    world.alice.make_monitor(name="it's", labels={"qu'ote": "back\\slash' & | ! :*", "team": "'"})
    for text in ("'", "it's", "a' | 'b", "\\", "x:*", "!x", "<->", "&", "(", "%_%", "\u00e9\u0301", "\U0001f600"):
        assert world.alice.get("/v1/monitors", query_string={"q": text}).status_code in (200, 400), text
        for label in (f"team:{text}", f"qu'ote:{text}"):
            assert world.alice.get("/v1/monitors", query_string={"label": label}).status_code == 200, label
    assert names(world.alice, q="it's") == ["it's"]
    assert names(world.alice, label="qu'ote:back\\slash' & | ! :*") == ["it's"]
    assert names(world.alice, label="team:'") == ["it's"]


def test_a_list_is_two_statements_whatever_is_asked(world: World) -> None:
    make(world)
    world.alice.get("/v1/monitors")
    for query in ({}, {"sort": "state"}, {"q": "shop", "label": "team", "state": "up", "sort": "name"}):
        with counted(world.services.database) as sent:
            names(world.alice, **query)
        # Who calls, and the page.
        assert len(sent) == 2, (query, sent)


# So many that a plan which reads them all shows.
MANY = 6_000
_FILL = """
WITH made AS (
  INSERT INTO monitors (id, org_id, name, type, target, interval_s, timeout_s, failure_threshold, recovery_threshold,
                        retry_interval_s, severity, labels, location_ids, check_from, created_at, enabled)
  SELECT gen_random_uuid(), %(org)s, (ARRAY['Api', 'Mail', 'Shop'])[1 + i %% 3] || ' ' || i,
         CASE WHEN i %% 500 = 0 THEN 'tcp' ELSE 'http' END, 'https://host-' || i || '.example/health', 30, 10, 2, 1, 5,
         'error', jsonb_build_object('team', 'team-' || i / 200), ARRAY[1]::smallint[], now(),
         now() - i * interval '1 second', i %% 300 <> 1
    FROM generate_series(1, %(many)s) i
  RETURNING monitor_no, org_id, enabled)
INSERT INTO monitor_states (monitor_no, org_id, health, resting)
SELECT monitor_no, org_id, CASE WHEN NOT enabled THEN 0 WHEN monitor_no %% 300 = 5 THEN 3 ELSE 1 END, NOT enabled
  FROM made
"""
_VOTES = """
INSERT INTO votes (monitor_no, location, health, last_slot, last_verdict)
SELECT monitor_no, 1, health, now(), CASE WHEN monitor_no %% 1000 = 9 THEN 0 ELSE greatest(health, 1) END
  FROM monitor_states
"""
_SEQUENTIAL = """
SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0 AND relname IN ('monitors', 'monitor_states', 'votes')
"""
_READ = """
SELECT sum(idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname IN ('monitors', 'monitor_states', 'votes')
"""

#: (filter, rows that may be read for a page of 50 in any order): a few thousand and what the index finds, never all.
READS: list[tuple[MonitorFilter, int]] = [
    (MonitorFilter(), 400),
    (MonitorFilter(states=["down"]), 500),
    (MonitorFilter(states=["up"]), 2_600),
    (MonitorFilter(states=["unknown", "paused"]), 500),
    (MonitorFilter(states=["pending"]), 10),
    (MonitorFilter(said="host-77"), 4_500),
    (MonitorFilter(said="nothing"), 2_010),
    (MonitorFilter(labels={"team": "team-25"}), 4_500),
    (MonitorFilter(types=["tcp"]), 4_500),
    (MonitorFilter(said="shop", labels={"team": "team-1"}, states=["up"]), 4_500),
]


def test_no_list_reads_the_whole_table(world: World) -> None:
    world.execute("INSERT INTO locations (name) SELECT 'x' WHERE NOT EXISTS (SELECT FROM locations)")
    world.execute(_FILL, org=world.org_a, many=MANY)
    world.execute(_VOTES)
    world.execute("ANALYZE monitors, monitor_states, votes")
    for wanted, most in READS:
        for order in SORTS:
            with world.databases.api.begin(world.org_a) as connection:
                before = connection.exec_driver_sql(_READ).scalar_one()
                monitor_lists.list_page(connection, org_id=world.org_a, limit=51, wanted=wanted, order=order)
                read = connection.exec_driver_sql(_READ).scalar_one() - before
                # Of each state it is seen first whether there are few.
                assert read <= most + (5_000 if order == "state" else 0), (wanted, order, read)
                assert connection.exec_driver_sql(_SEQUENTIAL).all() == [], (wanted, order)


def test_labels_are_counted_the_commonest_first(world: World) -> None:
    make(world)
    assert world.bob.get("/v1/labels").get_json() == {
        "data": [
            {"key": "note", "values": [{"value": "a b", "monitors": 1}], "more": False},
            {
                "key": "team",
                "values": [
                    {"value": "shop", "monitors": 3},
                    {"value": "web", "monitors": 2},
                    {"value": "a=b", "monitors": 1},
                ],
                "more": False,
            },
            {"key": "tier", "values": [{"value": "1", "monitors": 2}], "more": False},
        ],
        "more_keys": False,
    }
    found = world.alice.get("/v1/labels?key=team&prefix=SH").get_json()["data"]
    assert found == [{"key": "team", "values": [{"value": "shop", "monitors": 3}], "more": False}]
    assert world.alice.get("/v1/labels?key=nothing").get_json() == {"data": [], "more_keys": False}
    assert world.alice.get("/v1/labels?prefix=100%25_").get_json()["data"] == []
    assert world.charlie.get("/v1/labels").get_json()["data"] == []
    assert world.alice.get("/v1/labels?key=").status_code == 400


def test_labels_are_bounded_and_say_so(world: World) -> None:
    monitors = [{**api_cast.MONITOR, "labels": {"n": str(index)}} for index in range(101)]
    monitors += [
        {**api_cast.MONITOR, "labels": {f"k{first + index:03d}": "x" for index in range(50)}}
        for first in (0, 50, 100, 150)
    ]
    assert world.alice.post("/v1/monitors/bulk", json={"monitors": monitors}).status_code == 200
    answer = world.alice.get("/v1/labels").get_json()
    assert (len(answer["data"]), answer["more_keys"]) == (200, True)
    (of_n,) = world.alice.get("/v1/labels?key=n").get_json()["data"]
    assert (len(of_n["values"]), of_n["more"]) == (100, True)
    (of_n,) = world.alice.get("/v1/labels?key=n&prefix=10").get_json()["data"]
    assert ([one["value"] for one in of_n["values"]], of_n["more"]) == (["10", "100"], False)
