"""`tocsin seed --monitors`: a past that reads like one that was lived through."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from common.clock import to_ms
from common.domain.accounting import account
from common.domain.checks import Kind, Reason, Verdict
from common.domain.health import Counted, Health, Policy, Vote, advance
from common.domain.slots import phase_ms
from common.seed.watched import Fate, WatchPlan, watched
from common.store import uptime_history
from tests import api_cast
from tests.api_cast import World
from tests.integration.test_seed import run

world = api_cast.world

PLAN = WatchPlan(seed=5, monitors=300, results=6_007, incidents=450, days=3)
ARGUMENTS = ["--monitors", "300", "--results", "6007", "--incidents", "450", "--days", "3", "--seed", "5",
             "--endpoint", "http://192.0.2.7/page/"]  # fmt: skip


@pytest.fixture
def seeded(world: World, database_url: str, tmp_path: Path) -> World:
    done = run([*ARGUMENTS, "--organization", "A"], tmp_path, database_url)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "in the organization A" in done.stdout
    assert "6,007 results" in done.stdout
    return world


def pages(world: World, path: str) -> list[dict[str, Any]]:
    found, cursor = [], None
    while True:
        page = world.alice.get(path, query_string={"limit": 500, **({"cursor": cursor} if cursor else {})}).get_json()
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_the_same_plan_makes_the_same_and_as_much_as_it_says() -> None:
    made = list(watched(PLAN, str, 1_800_000_000_000))
    assert made == list(watched(PLAN, str, 1_800_000_000_000))
    assert len({one.id for one in made}) == 300
    assert sum(one.results for one in made) == 6_007
    assert sum(one.outages for one in made) == 450
    others = list(watched(WatchPlan(6, 300, 6_000, 0), str, 1_800_000_000_000))
    assert {one.id for one in made} & {one.id for one in others} == set()
    assert {fate for one in watched(WatchPlan(1, 5_000, 40_000, 0), str, 0) for fate in [one.fate]} == set(Fate)


def test_the_api_reads_it_like_anything_else(seeded: World) -> None:
    monitors = pages(seeded, "/v1/monitors")
    incidents = pages(seeded, "/v1/incidents")
    fates = Counter(one.fate for one in watched(PLAN, str, 0))
    states = Counter(monitor["state"]["status"] for monitor in monitors)
    assert states == {"up": fates[Fate.UP], "down": fates[Fate.DOWN], "degraded": fates[Fate.DEGRADED],
                      "paused": fates[Fate.PAUSED]}  # fmt: skip
    assert fates[Fate.DOWN] and fates[Fate.DEGRADED] and fates[Fate.PAUSED]
    assert len(incidents) == 450 + fates[Fate.DOWN] + fates[Fate.DEGRADED]
    assert {"open", "resolved"} <= {one["status"] for one in incidents} <= {"open", "acknowledged", "resolved"}
    assert 0 < sum(one["acknowledged_at"] is not None for one in incidents) < len(incidents) / 2
    for monitor in monitors[:3]:
        # What one reads can be sent back: it is a good monitor.
        assert seeded.alice.patch(f"/v1/monitors/{monitor['id']}", json=monitor).status_code == 200
    for incident in incidents[:20]:
        events = seeded.alice.get(f"/v1/incidents/{incident['id']}/events").get_json()["data"]
        assert events[0]["type"] == "opened"
        assert len(events) == 1 + (incident["acknowledged_at"] is not None) + (incident["resolved_at"] is not None)
        assert incident["cause"]["reason"] in {reason.label for reason in Reason}
    found = seeded.alice.get("/v1/incidents", query_string={"q": "checkout errors", "limit": 500}).get_json()["data"]
    assert 0 < len(found) < len(incidents)
    assert all("errors" in one["title"] + one["description"] for one in found)
    assert seeded.charlie.get("/v1/monitors").get_json()["data"] == []


def test_votes_states_and_incidents_are_what_the_results_add_up_to(seeded: World) -> None:
    """Every result again, through the product's own rules."""
    policy = Policy(failure_threshold=2, recovery_threshold=1)
    rows = seeded.rows(
        "SELECT monitor_no, scheduled_at, verdict::text, reason FROM results ORDER BY monitor_no, scheduled_at"
    )
    assert len(rows) == 6_007
    past: dict[int, Vote] = {}
    moves: Counter[tuple[int, Health]] = Counter()
    for row in rows:
        before = past.get(row["monitor_no"], Vote())
        slot_ms = int(row["scheduled_at"].timestamp() * 1000)
        counted = Counted(
            slot_ms, Verdict(int(row["verdict"])), Kind.SCHEDULED, slot_ms, slot_ms, slot_ms, Reason(row["reason"])
        )
        after = past[row["monitor_no"]] = advance(before, counted, policy)
        if after.health is not before.health:
            moves[row["monitor_no"], after.health] += 1
    stored = seeded.rows(
        "SELECT v.*, s.health AS state, s.since, s.open_incident, m.enabled, m.id::text AS id FROM votes v"
        "  JOIN monitor_states s USING (monitor_no) JOIN monitors m USING (monitor_no) ORDER BY monitor_no"
    )
    assert len(stored) == 300
    for row in stored:
        vote = past[row["monitor_no"]]
        if not row["enabled"]:
            continue
        assert (row["health"], row["state"]) == (vote.health, vote.health)
        assert (row["not_up"], row["down"], row["up"], row["not_down"]) == (
            vote.not_up, vote.down, vote.up, vote.not_down,
        ), row["monitor_no"]  # fmt: skip
        assert int(row["last_slot"].timestamp() * 1000) == vote.last_slot_ms
        assert row["reason"] == vote.reason
        assert (row["open_incident"] is not None) is (vote.health is not Health.UP)
        assert vote.last_slot_ms % 60_000 == phase_ms(row["id"], 60_000)
    failed = sum(count for (_, health), count in moves.items() if health in (Health.DOWN, Health.DEGRADED))
    assert failed == seeded.rows("SELECT count(*) AS n FROM incidents")[0]["n"]
    assert seeded.rows(
        "SELECT count(*) AS n FROM results r LEFT JOIN result_details d USING (monitor_no, location, scheduled_at)"
        " WHERE (r.verdict <> '1') IS DISTINCT FROM (d.message IS NOT NULL)"
    ) == [{"n": 0}]
    days = seeded.rows("SELECT DISTINCT (scheduled_at AT TIME ZONE 'UTC')::date AS day FROM results")
    assert len(days) in (3, 4)


def test_an_incident_is_open_for_as_long_as_uptime_says_that_its_monitor_was_not_well(seeded: World) -> None:
    rows = seeded.rows(
        "SELECT m.monitor_no, v.last_slot, i.opened_at, least(i.resolved_at, v.last_slot) AS until"
        "  FROM incidents i JOIN monitors m ON m.id = i.monitor_id JOIN votes v USING (monitor_no)"
    )
    open_ms: Counter[int] = Counter()
    for row in rows:
        open_ms[row["monitor_no"]] += to_ms(row["until"]) - to_ms(row["opened_at"])
    ends = {row["monitor_no"]: to_ms(row["last_slot"]) for row in rows}
    begin = to_ms(seeded.rows("SELECT min(scheduled_at) AS at FROM results")[0]["at"])
    with seeded.databases.worker.begin() as connection:
        facts = uptime_history.read(connection, list(ends), (begin, max(ends.values())))
    for number, found in facts.items():
        times = account(found.history, [one.slot_ms for one in found.results], (begin, ends[number]))
        assert times.down + times.degraded == open_ms[number] > 0, number
    # Nobody acknowledges what is over.
    assert seeded.rows("SELECT 1 FROM incidents WHERE acknowledged_at >= resolved_at") == []


def test_the_past_may_reach_back_for_longer_than_milliseconds_fit_into_four_bytes(
    world: World, database_url: str, tmp_path: Path
) -> None:
    arguments = ["--monitors", "10", "--results", "100", "--incidents", "5", "--days", "40"]
    done = run([*arguments, "--endpoint", "http://192.0.2.7/", "--organization", "A"], tmp_path, database_url)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = world.rows("SELECT min(scheduled_at) < now() - interval '35 days' AS old FROM results")
    assert row["old"]


def test_timelines_are_numbered_and_nobody_is_told(seeded: World) -> None:
    events = seeded.rows("SELECT seq, at FROM incident_events ORDER BY seq")
    assert [row["seq"] for row in events] == list(range(1, len(events) + 1))
    assert [row["at"] for row in events] == sorted(row["at"] for row in events)
    assert seeded.rows("SELECT last_seq FROM organizations WHERE id = %(id)s", id=seeded.org_a) == [
        {"last_seq": len(events)}
    ]
    assert seeded.rows("SELECT 1 FROM outbox") == []
    assert seeded.rows("SELECT 1 FROM notifications") == []
    # What could go wrong with versions: the next change comes after them.
    (incident,) = seeded.alice.get("/v1/incidents?status=open&limit=1").get_json()["data"]
    done = seeded.alice.patch(f"/v1/incidents/{incident['id']}/status", json={"status": "acknowledged"})
    assert done.status_code == 200, done.text


def test_partitions_of_the_past_are_closed_to_others_as_all_are(seeded: World) -> None:
    open_ones = seeded.rows(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent IN ('results'::regclass, 'result_details'::regclass)"
        "   AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    assert open_ones == []


def test_an_organization_in_use_is_left_alone_without_force_and_a_seed_is_planted_once(
    seeded: World, database_url: str, tmp_path: Path
) -> None:
    refused = run([*ARGUMENTS, "--organization", seeded.org_a], tmp_path, database_url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "has 300 monitors; --force" in refused.stderr
    again = run([*ARGUMENTS, "--organization", "A", "--force"], tmp_path, database_url)
    assert "choose another --seed" in again.stderr
    other = [*ARGUMENTS[:-4], "--seed", "6", *ARGUMENTS[-2:], "--organization", "A", "--force"]
    assert run(other, tmp_path, database_url).returncode == 0
    assert len(pages(seeded, "/v1/monitors")) == 600


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--monitors", "300"], "say with --endpoint"),
        ([*ARGUMENTS, "--results", "300"], "8 results a monitor"),
        ([*ARGUMENTS, "--incidents", "100000"], "incidents"),
        ([*ARGUMENTS, "--interval", "86400"], "slots"),
        ([*ARGUMENTS, "--days", "0"], "1 to 365 days"),
        ([*ARGUMENTS, "--organization", "Z"], "no organization, or more than one, has the name or id Z"),
        ([*ARGUMENTS, "--endpoint", "nowhere"], "http(s) URL"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_made(
    world: World, database_url: str, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    refused = run(arguments, tmp_path, database_url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert complaint in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert world.rows("SELECT 1 FROM monitors") == []
