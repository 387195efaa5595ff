"""GET /v1/monitors/{id}/uptime over real rows: what is counted, from when to when, and for whom."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from api.schemas_uptime import Uptime
from common.clock import from_ms, to_ms
from common.domain.accounting_cover import Level
from common.domain.checks import Verdict
from common.domain.health import Health
from common.domain.series import grid
from common.store import accounts, rollups_series
from tests import api_cast
from tests.api_cast import World
from tests.rollup_world import FINE, Past, Tenant

world = api_cast.world

HOUR, DAY = Level.HOUR.ms, Level.DAY.ms


@pytest.fixture
def past(world: World, database_url: str) -> Past:
    return Past(world.databases, Tenant(database_url, world.org_a))


def id_of(world: World, number: int) -> str:
    return str(world.rows("SELECT id FROM monitors WHERE monitor_no = %(no)s", no=number)[0]["id"])


def ask(world: World, number: int, query: str = "", who: str = "alice") -> dict[str, Any]:
    answer = getattr(world, who).get(f"/v1/monitors/{id_of(world, number)}/uptime{query}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    seconds, window = body["seconds"], body["window"]
    lasted = datetime.fromisoformat(window["to"]) - datetime.fromisoformat(window["from"])
    assert round(sum(seconds.values()) * 1000) == lasted // timedelta(milliseconds=1), body
    return body


def between(begin_ms: int, end_ms: int) -> str:
    def text(ms: int) -> str:
        return from_ms(ms).isoformat().replace("+", "%2B")

    return f"?from={text(begin_ms)}&to={text(end_ms)}"


def test_a_window_in_the_past_is_what_was_rolled_up(world: World, past: Past) -> None:
    start, number = past.start_ms, past.plain()
    slots = list(past.every_minute())
    past.results(number, [slot for slot in slots if slot not in slots[11:13]], latency_ms=40)
    past.health(number, start + 600_000, Health.DOWN)
    past.health(number, start + 1_500_500, Health.DEGRADED)
    past.roll_all()
    body = ask(world, number, between(start, start + HOUR))
    seconds = body["seconds"]
    assert body["window"] == {"from": from_ms(start).isoformat(), "to": from_ms(start + HOUR).isoformat()}
    assert (seconds["unknown"], seconds["paused"], seconds["maintenance"]) == (120, 0, 0)
    assert seconds["down"] == pytest.approx(900.5 - 120 + seconds["up"] - 600)
    judged = seconds["up"] + seconds["degraded"] + seconds["down"]
    assert body["uptime"] == pytest.approx((seconds["up"] + seconds["degraded"]) / judged, abs=1e-7)
    assert body["coverage"] == pytest.approx(58 / 60, abs=1e-7)
    assert body["latency_ms"]["p50"] == pytest.approx(40, rel=0.05)
    assert (body["incidents"], body["mttr_seconds"], body["mtbf_seconds"]) == (0, None, None)


def test_a_window_up_to_now_goes_on_where_rollups_end(world: World, past: Past) -> None:
    now_ms, number = int(time.time() * 1000), past.plain()
    past.results(number, past.every_minute(end_ms=now_ms + 120_000))  # so far, too, if we stand still meanwhile
    past.roll_all()
    rolled = world.rows("SELECT fine_to FROM rollup_progress")[0]["fine_to"]
    body = ask(world, number, "?window=1h")
    ends_ms = to_ms(datetime.fromisoformat(body["window"]["to"]))
    assert to_ms(rolled) < ends_ms <= int(time.time() * 1000) - 12_000
    assert ends_ms > now_ms - 12_000 - 5_000
    assert body["uptime"] == 1
    assert body["seconds"]["unknown"] == 0
    assert body["coverage"] == 1


def test_what_is_not_rolled_up_yet_is_the_same_as_afterwards(world: World, past: Past) -> None:
    start, number = past.start_ms, past.plain()
    past.results(number, past.every_minute())
    past.health(number, start + 123_456, Health.DOWN)
    past.watch(number, start + 2_000_000, enabled=False)
    before = ask(world, number, between(start, start + HOUR))
    past.roll_all()
    after = ask(world, number, between(start, start + HOUR))
    assert before == after
    assert before["seconds"] == {
        "up": 123.456, "degraded": 0, "down": 1876.544, "unknown": 0, "paused": 1600, "maintenance": 0
    }  # fmt: skip


def test_a_window_is_the_sum_of_its_parts_across_days_hours_and_minutes(world: World, past: Past) -> None:
    past.start_ms = (past.start_ms // DAY - 1) * DAY - 2 * HOUR
    past.partitions()
    start = past.start_ms
    past.since(start)
    number = past.plain()
    past.results(number, [s for s in past.every_minute(end_ms=start + DAY + 4 * HOUR) if s % 7])
    for hours, health in ((1.01, Health.DOWN), (1.5, Health.UP), (9.77, Health.DEGRADED), (25.3, Health.DOWN)):
        past.health(number, start + int(hours * HOUR), health)
    past.roll_all()
    edges = [start + FINE, start + 4 * HOUR + 3 * FINE, start + 20 * HOUR, start + DAY + 3 * HOUR + FINE]
    whole = ask(world, number, between(edges[0], edges[-1]))
    parts = [ask(world, number, between(a, b)) for a, b in pairwise(edges)]
    for name, seconds in whole["seconds"].items():
        assert sum(part["seconds"][name] for part in parts) == pytest.approx(seconds, abs=0.0005)
    assert whole["seconds"]["down"] > 0


def test_a_monitor_counts_from_its_creation(world: World, past: Past) -> None:
    past.roll_all()
    made = world.alice.make_monitor()
    answer = world.alice.get(f"/v1/monitors/{made['id']}/uptime?window=30d").get_json()
    assert answer["uptime"] is None
    created, begins = (datetime.fromisoformat(text) for text in (made["created_at"], answer["window"]["from"]))
    assert abs(created - begins) < timedelta(seconds=60)
    assert sum(answer["seconds"].values()) < 60


def test_pausing_and_resuming_by_the_api_is_accounted_for(world: World, past: Past) -> None:
    made = world.alice.make_monitor(interval_seconds=1, timeout_seconds=0.1)
    path = f"/v1/monitors/{made['id']}"
    began = time.monotonic()
    assert world.alice.post(f"{path}/pause").status_code == 200
    time.sleep(0.4)
    assert world.alice.post(f"{path}/resume").status_code == 200
    at_most_s = time.monotonic() - began + 0.1
    time.sleep(2.3)  # so that it is settled
    seconds = world.alice.get(f"{path}/uptime").get_json()["seconds"]
    assert 0.3 < seconds["paused"] < at_most_s
    assert seconds["up"] == seconds["down"] == 0


def test_incidents_say_how_often_it_fails_and_how_long_that_takes(world: World, past: Past) -> None:
    start, number = past.start_ms, past.plain()
    past.results(number, past.every_minute())
    past.roll_all()
    for opened, resolved, reason in (
        (100, 160, "timeout"),
        (500, 620, "timeout"),
        (900, 1000, "paused"),
        (1100, None, ""),
    ):
        world.execute(
            "INSERT INTO incidents (id, org_id, monitor_id, source, dedup_key, title, severity, priority, status,"
            " cause, opened_at, resolved_at)"
            " SELECT gen_random_uuid(), org_id, id, 'monitor', %(key)s, 'x', 'error', 'P2', %(status)s,"
            " jsonb_build_object('reason', %(reason)s::text), %(opened)s, %(resolved)s"
            " FROM monitors WHERE monitor_no = %(no)s",
            key=f"k{opened}", status="open" if resolved is None else "resolved", reason=reason, no=number,
            opened=from_ms(start + opened * 1000), resolved=resolved and from_ms(start + resolved * 1000),
        )  # fmt: skip
    body = ask(world, number, between(start, start + HOUR))
    assert (body["incidents"], body["mttr_seconds"], body["mtbf_seconds"]) == (4, 90, 900)
    assert ask(world, number, between(start + FINE, start + HOUR))["incidents"] == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?window=25x", "window"),
        ("?window=0d", "window"),
        ("?window=9999d", "window"),
        ("?window=24h&to=2026-01-01T00:00:00Z", "window"),
        ("?to=2026-01-01T00:00:00Z", "from"),
        ("?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("?from=2020-01-01T00:00:00Z", "from"),
        ("?from=2999-01-01T00:00:00Z", "from"),
        ("?from=yesterday", "from"),
        ("?from=2026-01-01T00:00:00", "from"),  # without a zone
        ("?since=1", "since"),
    ],
)
def test_a_window_that_cannot_be_is_refused_by_name(world: World, query: str, field: str) -> None:
    made = world.alice.make_monitor()
    answer = world.alice.get(f"/v1/monitors/{made['id']}/uptime{query}")
    assert (answer.status_code, answer.get_json()["details"][0]["field"]) == (400, field), answer.text


def test_the_answer_is_what_the_document_describes(world: World, past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute())
    past.roll_all()
    body = ask(world, number, "?window=3h")
    assert Uptime.model_validate(body).model_dump(by_alias=True, mode="json") == {
        **body, "window": {name: text.replace("+00:00", "Z") for name, text in body["window"].items()}
    }  # fmt: skip


def test_nobody_else_sees_it_and_row_level_security_holds(world: World, past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute())
    past.roll_all()
    assert ask(world, number, who="bob")["window"]
    assert world.charlie.get(f"/v1/monitors/{id_of(world, number)}/uptime").status_code == 404
    everything = "SELECT * FROM sum_rollups(ARRAY[%(id)s]::uuid[], '{}', '{}', ARRAY[%(at)s]::timestamptz[], true)"
    keys = {"id": id_of(world, number), "at": from_ms(past.start_ms)}
    for org, found in ((world.org_a, 1), (world.org_b, 0)):
        with world.databases.api.begin(org) as connection:
            assert len(connection.exec_driver_sql(everything, keys).all()) == found
            for table in ("watch_changes", "health_changes"):
                seen = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
                assert (seen > 0) is bool(found)


def test_a_series_of_rollups_has_the_steps_of_its_results(world: World, past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute(end_ms=past.start_ms + 1_500_000), latency_ms=70)
    past.results(number, past.every_minute(begin_ms=past.start_ms + 1_500_000), Verdict.DOWN)
    past.roll_all()
    wanted = grid(past.start_ms / 1000 + 3599, 3600, 4)
    with world.databases.api.begin(world.org_a) as connection:
        found = rollups_series.read(connection, [id_of(world, number)], wanted)
    steps = found.steps[id_of(world, number)]
    assert found.to_ms == past.start_ms + 3_600_000
    assert [(steps[n].seen, steps[n].well) for n in range(4)] == [(15, 15), (15, 10), (15, 0), (15, 0)]
    assert steps[0].p95 == pytest.approx(70, rel=0.05)
    assert steps[3].p95 is None


def test_a_long_series_counts_every_result_once_whatever_rows_it_is_made_of(world: World, past: Past) -> None:
    # From inside an hour on, over a midnight: rows of all three lengths are needed.
    begin_ms = past.start_ms - 26 * HOUR - HOUR // 2
    past.since(begin_ms)
    number = past.plain(begin_ms)
    past.results(number, past.every_minute(begin_ms=begin_ms))
    past.roll_all()
    stored = len(past.every_minute(begin_ms=begin_ms))
    for window, hours, step_s in (("49h", 49, 1_500), ("7d", 168, 7_200), ("90d", 2_160, 86_400)):
        asked = {"ids": [id_of(world, number)], "window": window, "points": 120}
        answer = world.alice.post("/v1/monitors/series", json=asked).get_json()
        with world.databases.api.begin(world.org_a) as connection:
            steps = rollups_series.read(connection, asked["ids"], grid(time.time(), hours * 3_600, 120)).steps
        assert answer["step_s"] == step_s
        seen = [step.seen for step in steps[asked["ids"][0]].values() if step.seen]
        assert sum(seen) == stored, window
        assert answer["series"][0]["up"].count(1.0) == len(seen)


def test_a_deleted_organization_takes_its_figures_along(world: World, past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute())
    past.roll_all()
    assert past.rows()
    with world.databases.owner.begin() as connection:
        accounts.remove_organization(connection, world.org_a)
    for table in ("rollups_5m", "rollups_hour", "rollups_day", "watch_changes", "health_changes"):
        assert world.rows(f"SELECT * FROM {table}") == [], table
