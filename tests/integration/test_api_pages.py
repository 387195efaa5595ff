"""Counts over all monitors, and series of many: what pages read."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import Any

import pytest

from api import series, summaries
from api.summary_cache import SummaryCache
from common.domain.slots import latest_slot, phase_ms
from tests import api_cast
from tests.api_cast import Person, World
from tests.statements import counted

world = api_cast.world

NONE = dict.fromkeys(
    ("total", "up", "degraded", "down", "unknown", "pending", "paused", "maintenance", "open_incidents"), 0
)


def number_of(world: World, monitor: dict[str, Any]) -> int:
    return int(world.rows("SELECT monitor_no FROM monitors WHERE id = %(id)s", id=monitor["id"])[0]["monitor_no"])


def put(world: World, monitor: dict[str, Any], health: int, verdict: int = 1) -> None:
    """What the writer leaves: a state, and votes that have seen something."""
    keys = {"no": number_of(world, monitor), "health": health, "verdict": verdict}
    world.execute("UPDATE monitor_states SET health = %(health)s WHERE monitor_no = %(no)s", **keys)
    world.execute(
        "UPDATE votes SET health = %(health)s, last_verdict = %(verdict)s, last_slot = now() WHERE monitor_no = %(no)s",
        **keys,
    )


def summary(world: World, person: Person, query: str = "") -> dict[str, Any]:
    """Counted now, not a second ago."""
    world.services.summaries._entries.clear()
    answer = person.get(f"/v1/summary{query}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()  # type: ignore[no-any-return]


def counts(**values: int) -> dict[str, int]:
    return {**NONE, "total": sum(value for name, value in values.items() if name != "open_incidents"), **values}


def populate(world: World) -> dict[str, dict[str, Any]]:
    """Two teams and one without; every state there is."""
    made = {
        name: world.alice.make_monitor(name=name, labels=labels, severity=severity, type=type_, target=target)
        for name, labels, severity, type_, target in (
            ("up", {"team": "shop"}, "critical", "http", "http://192.0.2.7/"),
            ("down", {"team": "shop", "env": "live"}, "critical", "http", "http://192.0.2.7/"),
            ("degraded", {"team": "pay"}, "error", "tcp", "192.0.2.7:1"),
            ("unknown", {"team": "pay"}, "error", "tcp", "192.0.2.7:1"),
            ("pending", {}, "error", "http", "http://192.0.2.7/"),
            ("paused", {"team": "pay"}, "info", "http", "http://192.0.2.7/"),
            ("deleted", {"team": "shop"}, "info", "http", "http://192.0.2.7/"),
        )
    }
    put(world, made["up"], 1)
    world.open_incident(made["down"])
    put(world, made["down"], 3, 3)
    put(world, made["degraded"], 2, 2)
    put(world, made["unknown"], 3, 0)
    put(world, made["paused"], 1)
    assert world.alice.post(f"/v1/monitors/{made['paused']['id']}/pause").status_code == 200
    assert world.alice.delete(f"/v1/monitors/{made['deleted']['id']}").status_code == 204
    return made


def test_a_summary_counts_by_label_the_worst_first(world: World) -> None:
    populate(world)
    theirs = world.charlie.make_monitor(labels={"team": "shop"})
    put(world, theirs, 1)
    assert world.alice.post("/v1/incidents", json={"title": "by hand"}).status_code == 201
    found = summary(world, world.alice, "?group_by=label:team")
    assert found["groups"] == [
        {"group": "shop", **counts(up=1, down=1, open_incidents=1)},
        {"group": "pay", **counts(degraded=1, unknown=1, paused=1)},
        {"group": None, **counts(pending=1)},
    ]
    assert found["other"] is None
    # The incident by hand belongs to no monitor.
    assert found["total"] == counts(up=1, down=1, degraded=1, unknown=1, paused=1, pending=1, open_incidents=2)
    assert summary(world, world.charlie, "?group_by=label:team")["total"] == counts(up=1)


@pytest.mark.parametrize(
    ("group_by", "wanted"),
    [
        ("severity", {"critical": 2, "error": 3, "info": 1}),
        ("type", {"http": 4, "tcp": 2}),
        ("state", {"up": 1, "down": 1, "degraded": 1, "unknown": 1, "pending": 1, "paused": 1}),
        ("location", {"local": 6}),
        ("label:env", {"live": 1, None: 5}),
        ("label:nobody's \"'%s", {None: 6}),
    ],
)
def test_a_summary_groups_by_many_things(world: World, group_by: str, wanted: dict[str | None, int]) -> None:
    populate(world)
    world.services.summaries._entries.clear()
    answer = world.alice.get("/v1/summary", query_string={"group_by": group_by}).get_json()
    assert {group["group"]: group["total"] for group in answer["groups"]} == wanted
    assert answer["total"]["total"] == 6


def test_a_state_is_the_one_that_the_monitor_shows(world: World) -> None:
    made = populate(world)
    for name in ("up", "down", "degraded", "unknown", "pending", "paused"):
        shown = world.alice.get(f"/v1/monitors/{made[name]['id']}").get_json()
        assert shown["state"]["status"] == name
    # A location that sees again: the newest vote counts, not any.
    number = number_of(world, made["unknown"])
    world.execute("INSERT INTO locations (name) VALUES ('ams')")
    world.execute(
        "INSERT INTO votes (monitor_no, location, last_slot, last_verdict, health)"
        " SELECT %(no)s, id, now() + interval '1 second', 3, 3 FROM locations WHERE name = 'ams'",
        no=number,
    )
    assert world.alice.get(f"/v1/monitors/{made['unknown']['id']}").get_json()["state"]["status"] == "down"
    assert summary(world, world.alice)["total"]["unknown"] == 0
    assert summary(world, world.alice)["total"]["down"] == 2


def test_a_monitor_counts_in_each_of_its_locations_and_once_in_all(world: World) -> None:
    world.execute("INSERT INTO locations (name) VALUES ('ams')")
    world.alice.make_monitor(locations=["local", "ams"])
    world.alice.make_monitor(locations=["ams"])
    found = summary(world, world.alice, "?group_by=location")
    assert {group["group"]: group["total"] for group in found["groups"]} == {"ams": 2, "local": 1}
    assert found["total"]["total"] == 2


def test_labels_filter_a_summary(world: World) -> None:
    populate(world)
    found = summary(world, world.alice, "?group_by=severity&label=team:shop")
    assert [(group["group"], group["total"]) for group in found["groups"]] == [("critical", 2)]
    assert found["total"] == counts(up=1, down=1, open_incidents=1)
    both = summary(world, world.alice, "?label=team:shop,env:live")
    assert both["total"] == counts(down=1, open_incidents=1)
    assert summary(world, world.alice, "?label=team:")["total"] == NONE


def test_groups_beyond_the_shown_ones_are_put_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MAX_GROUPS", 1)
    populate(world)
    found = summary(world, world.alice, "?group_by=label:team")
    assert [group["group"] for group in found["groups"]] == ["shop"]
    assert found["other"] == counts(degraded=1, unknown=1, paused=1, pending=1)
    assert found["total"]["total"] == 6


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?group_by=name", "group_by"),
        ("?group_by=label:", "group_by"),
        ("?group_by=", "group_by"),
        ("?label=team", "label.0"),
        ("?label=team:a&label=team:b", "label"),
        ("?color=red", "color"),
    ],
)
def test_a_wrong_question_names_the_parameter(world: World, query: str, field: str) -> None:
    answer = world.alice.get(f"/v1/summary{query}")
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field)


def test_a_summary_is_counted_once_a_second_and_says_when(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.services.summaries, "_monotonic", lambda: 100.0)  # however long it takes us to ask again
    world.alice.make_monitor()
    with counted(world.services.database) as sent:
        first = world.alice.get("/v1/summary?group_by=type")
        counting = len(sent)
        second = world.alice.get("/v1/summary?group_by=type")
    # Who asks is looked up each time; the count is three statements: the time, the groups, the unresolved incidents.
    session = counting - 3
    assert len(sent) == counting + session
    assert first.get_json() == second.get_json()
    assert first.headers["Cache-Control"] == "private, max-age=1"
    # What another organization is told is its own.
    assert world.charlie.get("/v1/summary?group_by=type").get_json()["total"] == NONE
    assert isinstance(world.services.summaries, SummaryCache)


# Series ---------------------------------------------------------------------------------------------------------------


def fill(
    world: World, monitor: dict[str, Any], seconds: int, verdict_of: Any, *, kind: int = 0
) -> dict[int, tuple[int, float]]:
    """A result for each slot of the last seconds: {slot: (verdict, latency)}. The monitor was made long before."""
    number = number_of(world, monitor)
    (row,) = world.rows("SELECT location_ids, extract(epoch FROM clock_timestamp()) AS now FROM monitors LIMIT 1")
    interval_ms, now_ms = monitor["interval_seconds"] * 1000, int(row["now"] * 1000)
    world.execute("UPDATE monitors SET check_from = now() - interval '40 days' WHERE monitor_no = %(no)s", no=number)
    newest = latest_slot(now_ms - 13_000, interval_ms, phase_ms(monitor["id"], interval_ms))
    slots = list(range(newest, now_ms - seconds * 1000, -interval_ms))
    with world.databases.worker.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO results SELECT to_timestamp(s / 1000.0), %(no)s, 1, -1, 1, -1, 10, n, %(location)s, 0, 200,"
            ' v::"char", %(kind)s'
            " FROM unnest(%(slots)s::bigint[], %(verdicts)s::text[]) WITH ORDINALITY AS u(s, v, n)",
            {
                "no": number, "location": row["location_ids"][0], "kind": str(kind), "slots": slots,
                "verdicts": [str(verdict_of(count)) for count in range(len(slots))],
            },
        )  # fmt: skip
    return {slot: (verdict_of(count), count + 1.0) for count, slot in enumerate(slots)}


def read(person: Person, **body: Any) -> dict[str, Any]:
    answer = person.post("/v1/monitors/series", json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()  # type: ignore[no-any-return]


def test_a_series_shows_uptime_latency_and_coverage_by_step(world: World) -> None:
    monitor = world.alice.make_monitor(interval_seconds=30)
    # Every fifth is down, every seventh unknown.
    stored = fill(world, monitor, 3_600, lambda n: 3 if n % 5 == 0 else 0 if n % 7 == 0 else 1)
    found = read(world.alice, ids=[monitor["id"]], window="1h", points=12)
    assert found["step_s"] == 300
    (columns,) = found["series"]
    t0_ms = datetime.fromisoformat(found["t0"]).timestamp() * 1000
    steps = [t0_ms + step * 300_000 for step in range(12)]
    # The first one began before the first result, and in the last one another check may have become due since.
    whole = [step for step, begin in enumerate(steps) if step > 0 and begin + 300_000 <= max(stored)]
    assert len(whole) >= 8
    for step in whole:
        begin = steps[step]
        inside = [stored[slot] for slot in stored if begin <= slot < begin + 300_000]
        seen = [(verdict, latency) for verdict, latency in inside if verdict != 0]
        well = [latency for verdict, latency in seen if verdict != 3]
        assert columns["up"][step] == pytest.approx(len(well) / len(seen), abs=1e-4)
        assert columns["coverage"][step] == pytest.approx(len(seen) / len(inside), abs=1e-4)
        if not well:
            assert columns["p50"][step] is columns["p95"][step] is None
            continue
        assert columns["p50"][step] == pytest.approx(median(well))
        assert median(well) <= columns["p95"][step] <= max(well)


def test_only_scheduled_results_count(world: World) -> None:
    monitor = world.alice.make_monitor(interval_seconds=30)
    assert len(fill(world, monitor, 600, lambda _: 3, kind=2)) > 5
    (columns,) = read(world.alice, ids=[monitor["id"]], window="30m", points=3)["series"]
    assert columns["up"] == [None, None, None]
    assert columns["coverage"][1] == 0


def test_degraded_is_up_and_has_a_latency(world: World) -> None:
    monitor = world.alice.make_monitor(interval_seconds=30)
    fill(world, monitor, 900, lambda _: 2)
    (columns,) = read(world.alice, ids=[monitor["id"]], window="15m", points=3)["series"]
    assert columns["up"][1] == 1.0
    assert columns["p95"][1] is not None
    assert columns["coverage"][1] == 1.0


def test_what_is_not_known_is_null(world: World) -> None:
    monitor = world.alice.make_monitor()
    (columns,) = read(world.alice, ids=[monitor["id"]], window="1h", points=4)["series"]
    assert columns == {"id": monitor["id"], **dict.fromkeys(("up", "p50", "p95", "coverage"), [None] * 4)}


def test_series_keep_the_order_that_was_asked_for_and_leave_strangers_out(world: World) -> None:
    first, second = world.alice.make_monitor(name="a"), world.alice.make_monitor(name="b")
    theirs = world.charlie.make_monitor()
    fill(world, theirs, 600, lambda _: 1)
    deleted = world.alice.make_monitor(name="c")
    world.alice.delete(f"/v1/monitors/{deleted['id']}")
    ids = [second["id"], theirs["id"], deleted["id"], first["id"]]
    found = read(world.alice, ids=ids, window="1h")
    assert [one["id"] for one in found["series"]] == [second["id"], first["id"]]
    assert read(world.alice, ids=[theirs["id"]], window="1h")["series"] == []


def test_the_databases_function_shows_no_other_organization_either(world: World) -> None:
    monitor = world.alice.make_monitor(interval_seconds=30)
    fill(world, monitor, 900, lambda _: 1)
    sql = "SELECT count(*) FROM series_of_results(%(ids)s::uuid[], now() - interval '1 hour', now(), 300)"
    rows = []
    for org in (world.org_a, world.org_b, ""):
        with world.databases.api.begin(org) as connection:
            rows.append(connection.exec_driver_sql(sql, {"ids": [monitor["id"]]}).scalar_one())
    assert rows[0] > 0
    assert rows[1:] == [0, 0]
    with world.databases.api.begin(world.org_b) as connection:
        total = "SELECT sum(monitors) FROM summarize_monitors('', NULL, NULL)"
        assert connection.exec_driver_sql(total).scalar_one() in (None, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ids": []}, "ids"),
        ({"ids": ["x"]}, "ids.0"),
        ({"ids": ["00000000-0000-0000-0000-000000000000"] * 2}, "ids"),
        ({"ids": [f"00000000-0000-0000-0000-{n:012d}" for n in range(201)]}, "ids"),
        ({"window": "1w"}, "window"),
        ({"window": "0h"}, "window"),
        ({"window": "401d"}, "window"),
        ({"window": "9999d"}, "window"),
        ({"points": 0}, "points"),
        ({"points": 121}, "points"),
        ({"window": "1m", "points": 61}, "points"),
        ({"step": 5}, "step"),
    ],
)
def test_a_wrong_series_names_the_field(world: World, body: dict[str, Any], field: str) -> None:
    whole = {"ids": ["00000000-0000-0000-0000-000000000000"], "window": "1h", **body}
    answer = world.alice.post("/v1/monitors/series", json=whole)
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field), answer.text


def test_more_results_than_an_answer_may_read_are_refused_before_they_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = world.alice.make_monitor(interval_seconds=1)
    monkeypatch.setattr(series, "MAX_RESULTS", 3_599)
    answer = world.alice.post("/v1/monitors/series", json={"ids": [monitor["id"]], "window": "1h"})
    assert answer.status_code == 400
    (detail,) = answer.get_json()["details"]
    assert detail["field"] == "window"
    assert "3,600 results" in detail["message"]


def test_many_series_take_few_statements(world: World) -> None:
    ids = [world.alice.make_monitor(name=f"m{n}")["id"] for n in range(5)]
    found = []
    for some in (ids[:1], ids):
        with counted(world.services.database) as sent:
            read(world.alice, ids=some, window="24h", points=120)
        found.append(len(sent))
    # The session; the monitors, the time, the results.
    assert found[0] == found[1] == 4
