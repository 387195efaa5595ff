"""Heartbeats from ping to webhook on real servers: every ping counts once, every missed deadline once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from common.store import accounts
from common.store.engine import Database, DatabaseRole
from tests import api_cast
from tests.api_cast import World
from tests.heartbeat_world import Death, Judges, dying, earlier, hearing, judging, make, number, ping, state
from worker.heartbeats import committer

world = api_cast.world


@pytest.fixture
def judges(world: World) -> Iterator[Judges]:
    world.services.pings.start()
    with judging(world) as judges:
        yield judges
    world.services.pings.close()


def incidents(world: World) -> list[tuple[Any, ...]]:
    rows = world.rows("SELECT status, cause ->> 'reason' AS reason FROM incidents ORDER BY opened_at")
    return [(row["status"], row["reason"]) for row in rows]


def results(world: World, monitor: dict[str, Any]) -> list[tuple[str, str | None]]:
    data = world.alice.get(f"/v1/monitors/{monitor['id']}/results").get_json()["data"]
    return [(row["verdict"], row["reason"]) for row in reversed(data)]


def test_it_is_pending_until_the_first_ping_and_up_from_then_on(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    judges.run()
    assert state(world, monitor)["status"] == "pending"
    assert ping(world, monitor).status_code == 200
    judges.run()
    assert state(world, monitor)["status"] == "up"
    assert results(world, monitor) == [("up", None)]
    assert world.rows("SELECT 1 FROM ping_inbox") == []


def test_a_missed_ping_opens_an_incident_that_is_announced_and_the_next_resolves_it(
    world: World,
    judges: Judges,
) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    earlier(world, monitor, 75)
    judges.run()
    assert state(world, monitor)["status"] == "down"
    assert state(world, monitor)["reason"] == "heartbeat_missed"
    assert incidents(world) == [("open", "heartbeat_missed")]
    message = world.rows("SELECT cause ->> 'message' AS m FROM incidents")[0]["m"]
    assert message.startswith("expected by ")
    assert "last heard " in message
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "up"
    assert [row["type"] for row in world.rows("SELECT type FROM outbox ORDER BY id")] == [
        "opened",
        "resolved",
    ]


@pytest.mark.parametrize(("action", "code"), [("/fail", 0), ("/3", 3)])
def test_a_failure_is_down_at_once(world: World, judges: Judges, action: str, code: int) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    ping(world, monitor, action, "POST", data=b"\n  disk full  \nmore")
    judges.run()
    found = world.alice.get(f"/v1/monitors/{monitor['id']}/results").get_json()["data"][0]
    assert (found["verdict"], found["reason"], found["status_code"]) == ("down", "heartbeat_failed", code or None)
    assert "disk full" in found["message"]
    assert incidents(world) == [("open", "heartbeat_failed")]


def test_a_failure_threshold_counts_looks(world: World, judges: Judges) -> None:
    monitor = make(world.alice, failure_threshold=2)
    ping(world, monitor)
    ping(world, monitor, "/fail")
    judges.run()
    assert incidents(world) == []
    ping(world, monitor, "/fail")
    judges.run()
    assert incidents(world) == [("open", "heartbeat_failed")]
    # Nobody asks it again: it is not asked at all.
    assert world.rows("SELECT 1 FROM votes WHERE confirm_at IS NOT NULL") == []


def test_a_run_that_does_not_end_is_down(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    ping(world, monitor, "/start")
    judges.run()
    no = number(world, monitor)
    world.execute(
        "UPDATE heartbeats SET look_at = now(), event_at = event_at - interval '20 s', runs = (SELECT"
        " jsonb_object_agg(key, value::bigint - 15000) FROM jsonb_each_text(runs)) WHERE monitor_no = %(no)s",
        no=no,
    )
    world.execute("UPDATE votes SET last_slot = last_slot - interval '20 s' WHERE monitor_no = %(no)s", no=no)
    hearing(world)
    judges.run()
    assert incidents(world) == [("open", "run_too_long")]


def test_pings_are_listed_with_durations_newest_first_and_bounded(world: World, judges: Judges) -> None:
    monitor, rid = make(world.alice), str(uuid4())
    ping(world, monitor, f"/start?rid={rid}")
    ping(world, monitor, f"?rid={rid}", "POST", data=b"made 3 copies")
    ping(world, monitor, "/log", "POST", data=b"note")
    judges.run()
    path = f"/v1/monitors/{monitor['id']}/pings"
    log, success, start = world.bob.get(path).get_json()["data"]
    assert (log["kind"], log["body"], log["n"]) == ("log", "note", 3)
    assert (success["kind"], success["rid"], success["body"]) == ("success", rid, "made 3 copies")
    assert 0 <= success["duration_ms"] < 60_000
    assert (start["kind"], start["duration_ms"], start["source"]) == ("start", None, "127.0.0.0/24")
    for _ in range(110):
        ping(world, monitor)
    judges.run()
    page = world.bob.get(f"{path}?limit=60").get_json()
    rest = world.bob.get(f"{path}?limit=60&cursor={page['next_cursor']}").get_json()
    listed = [row["n"] for row in (*page["data"], *rest["data"])]
    assert listed == list(range(113, 13, -1))
    assert rest["next_cursor"] is None


def test_what_dies_between_commit_and_inbox_is_judged_again_and_counted_once(
    world: World,
    judges: Judges,
) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    ping(world, monitor, "/fail")
    with pytest.raises(Death):
        judges.another(dying(committer(judges.writer, judges.loop))).step()
    before = results(world, monitor), incidents(world)
    assert before == ([("up", None), ("down", "heartbeat_failed")], [("open", "heartbeat_failed")])
    assert len(world.rows("SELECT 1 FROM ping_inbox WHERE kind <> 9")) == 2
    judges.run()
    assert (results(world, monitor), incidents(world)) == before
    assert world.rows("SELECT down FROM votes")[0]["down"] == 1
    assert world.rows("SELECT 1 FROM ping_inbox") == []


def test_two_judges_at_once_judge_a_deadline_once(world: World, judges: Judges, database_url: str) -> None:
    monitors = [make(world.alice, name=f"job {n}") for n in range(20)]
    for monitor in monitors:
        ping(world, monitor)
    judges.run()
    for monitor in monitors:
        earlier(world, monitor, 75)
    pool = Database(database_url, DatabaseRole.WORKER, application="other", pool_size=4)
    barrier = threading.Barrier(2)

    def judge(database: Database) -> None:
        one = judges.another(database=database)
        barrier.wait()
        for _ in range(20):
            one.step()

    threads = [threading.Thread(target=judge, args=(base,)) for base in (world.databases.worker, pool)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pool.dispose()
    assert incidents(world) == [("open", "heartbeat_missed")] * 20
    assert world.rows("SELECT count(*) AS n FROM outbox") == [{"n": 20}]
    assert {row["down"] for row in world.rows("SELECT down FROM votes")} <= {1, 2}
    for monitor in monitors:
        assert results(world, monitor).count(("down", "heartbeat_missed")) in (1, 2)  # the miss, and perhaps a slot


def test_a_paused_one_takes_pings_and_is_not_judged(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    world.alice.post(f"/v1/monitors/{monitor['id']}/pause")
    assert ping(world, monitor, "/fail").status_code == 200
    judges.run()
    assert incidents(world) == []
    assert state(world, monitor)["status"] == "paused"
    assert [row["n"] for row in world.alice.get(f"/v1/monitors/{monitor['id']}/pings").get_json()["data"]] == [2, 1]
    world.alice.post(f"/v1/monitors/{monitor['id']}/resume")
    judges.run()
    assert state(world, monitor)["status"] == "pending"
    earlier(world, monitor, 75)
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]


def test_a_deleted_one_is_nobodys(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    assert world.alice.delete(f"/v1/monitors/{monitor['id']}").status_code == 204
    assert ping(world, monitor).status_code == 404
    judges.run()
    assert world.rows("SELECT 1 FROM ping_inbox") == []


def test_another_type_becomes_a_heartbeat_and_back(world: World, judges: Judges) -> None:
    monitor = world.alice.make_monitor()
    body = {"type": "heartbeat", "target": "", "assertions": []}
    answer = world.alice.patch(f"/v1/monitors/{monitor['id']}", json=body)
    assert answer.status_code == 200, answer.text
    monitor["token"] = world.alice.get(f"/v1/monitors/{monitor['id']}/heartbeat").get_json()["ping_url"][-36:]
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "up"
    world.alice.patch(f"/v1/monitors/{monitor['id']}", json={"type": "http", "target": "http://192.0.2.7/"})
    assert ping(world, monitor).status_code == 404
    assert world.alice.get(f"/v1/monitors/{monitor['id']}/heartbeat").status_code == 404


def test_one_that_was_something_else_for_a_while_misses_nothing_of_that_time(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    path = f"/v1/monitors/{monitor['id']}"
    assert world.alice.patch(path, json={"type": "http", "target": "http://192.0.2.7/"}).status_code == 200
    earlier(world, monitor, 75)
    judges.run()
    earlier(world, monitor, 3_600)
    body = {"type": "heartbeat", "target": "", "heartbeat": {"grace_seconds": 10}}
    assert world.alice.patch(path, json=body).status_code == 200
    judges.run()
    assert incidents(world) == []
    ping(world, monitor)
    judges.run()
    assert state(world, monitor)["status"] == "up"


def test_it_is_never_in_the_wheel(world: World) -> None:
    from common.store import schedule

    monitor = make(world.alice)
    with world.databases.worker.begin() as connection:
        floor = "0"
        assert [timing for chunk in schedule.active(connection) for timing in chunk] == []
        assert [timing.active for timing in schedule.changed(connection, floor)] == [False]
    answer = world.alice.post(f"/v1/monitors/{monitor['id']}/check")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "MONITOR_NOT_CHECKED")


def test_a_spell_without_an_api_is_written_down_and_excuses(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    world.services.pings.close()
    hearing(world)
    # Nobody was there for an hour, while the ping was due.
    world.execute("UPDATE hearing SET until = now() - interval '1 hour'")
    earlier(world, monitor, 3_600, heard=False)
    judges.run()
    assert (state(world, monitor)["status"], incidents(world)) == ("unknown", [])
    from common.store import heartbeats_intake

    with world.databases.worker.begin() as connection:
        assert heartbeats_intake.hear(connection, patience_ms=60_000)
        assert not heartbeats_intake.hear(connection, patience_ms=60_000)
    spell = world.rows("SELECT until_at - from_at > interval '59 minutes' AS long FROM deaf_spells")
    assert spell == [{"long": True}]
    world.execute("UPDATE heartbeats SET look_at = now()")
    world.execute("UPDATE hearing SET until = clock_timestamp()")
    judges.run()
    assert incidents(world) == []
    # What is missing a period and its grace after we are back is down.
    earlier(world, monitor, 90, heard=False)
    world.execute("UPDATE deaf_spells SET from_at = from_at - interval '90 s', until_at = until_at - interval '90 s'")
    world.execute("UPDATE hearing SET until = clock_timestamp()")
    judges.run()
    assert incidents(world) == [("open", "heartbeat_missed")]


def test_an_organization_that_is_removed_takes_its_heartbeats_along(world: World, judges: Judges) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    ping(world, monitor)
    with world.databases.owner.begin() as connection:
        accounts.remove_organization(connection, world.org_a)
    for table in ("heartbeats", "pings", "ping_inbox"):
        assert world.rows(f"SELECT 1 FROM {table}") == []
    assert ping(world, monitor).status_code == 404


def test_what_nobody_will_judge_is_swept_from_the_inbox(world: World, judges: Judges) -> None:
    world.execute("INSERT INTO ping_inbox (at, monitor_no, kind) VALUES (now() - interval '1 min', 999999, 9)")
    judges.run()
    assert world.rows("SELECT 1 FROM ping_inbox") == []
