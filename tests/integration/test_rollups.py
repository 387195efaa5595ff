"""Rollups over real results: exact, made once, found late, and made again after any death."""

from __future__ import annotations

import random
import threading
import time

import psycopg
import pytest

from common.clock import from_ms
from common.domain import histogram
from common.domain.accounting import CATEGORIES
from common.domain.accounting_cover import Level
from common.domain.checks import Kind, Verdict
from common.domain.health import Health
from common.settings import Settings
from common.store import rollups, rollups_plain
from scheduler.rollups import Roller
from tests.conftest import Databases
from tests.rollup_world import FINE, Past
from tests.stack import Roles, Seed, wait_until


@pytest.fixture
def past(databases: Databases, database_url: str) -> Past:
    return Past(databases, Seed(database_url))


def test_a_bucket_says_how_long_a_monitor_was_what(past: Past) -> None:
    up, down, blind, paused = past.plain(), past.plain(health=Health.DOWN), past.plain(), past.plain()
    past.watch(paused, past.start_ms - 300_000, enabled=False)
    past.results(up, past.every_minute(), latency_ms=100)
    past.results(down, past.every_minute(), Verdict.DOWN)
    past.results(blind, past.every_minute(), Verdict.UNKNOWN)
    [piece] = past.roll()
    assert (piece.level, piece.at_ms, piece.results, piece.eventful) == (Level.FINE, past.start_ms, 15, 0)
    assert past.times(up) == {"up": FINE}
    assert past.times(down) == {"down": FINE}
    assert past.times(blind) == {"unknown": FINE}
    assert past.times(paused) == {"paused": FINE}
    row = past.rows()[up, past.start_ms]
    assert (row["seen"], row["well"], histogram.decode(row["latencies"])) == (5, 5, {histogram.number(100): 5})
    assert [past.rows()[n, past.start_ms]["seen"] for n in (down, blind)] == [5, 0]


def test_what_happens_within_a_bucket_is_accounted_for_to_the_millisecond(past: Past) -> None:
    start = past.start_ms
    number = past.plain()
    past.health(number, start + 100_001, Health.DOWN)
    past.watch(number, start + 200_002, enabled=False)
    past.results(number, past.every_minute(end_ms=start + 200_000))
    [piece] = past.roll()
    assert piece.eventful == 1
    assert past.times(number) == {"up": 100_001, "down": 100_001, "paused": 99_998}


def test_a_slot_that_is_missing_is_unknown_for_its_interval(past: Past) -> None:
    number = past.plain()
    slots = list(past.every_minute())
    past.results(number, [slot for slot in slots if slot != slots[3]])
    past.roll()
    assert past.times(number) == {"up": FINE - 60_000, "unknown": 60_000}


def test_an_interval_of_hours_is_known_from_its_last_slot(past: Past) -> None:
    six_hours = 6 * Level.HOUR.ms
    number = past.plain(at_ms=past.start_ms - six_hours)
    past.watch(number, past.start_ms - six_hours, interval_s=21_600)
    past.results(number, [past.start_ms - six_hours + 123_456])
    past.roll()
    assert past.times(number) == {"up": 123_456, "unknown": FINE - 123_456}
    past.results(number, [past.start_ms + 123_456])
    with past.databases.worker.begin() as connection:
        rollups_plain.roll(connection, from_ms(past.start_ms + FINE))
    assert past.times(number, past.start_ms + FINE) == {"up": FINE}


def test_monitors_made_and_deleted_have_rows_for_their_life_only(past: Past) -> None:
    start = past.start_ms
    made, gone, later = past.monitor(), past.plain(), past.monitor()
    past.watch(made, start + 60_000)
    past.health(made, start + 60_000, Health.UP)
    past.watch(gone, start + 120_000, gone=True)
    past.watch(later, start + FINE)
    past.results(made, range(start + 60_000, start + FINE, 60_000))
    past.results(gone, past.every_minute(end_ms=start + 120_000))
    past.roll(2)
    assert past.times(made) == {"up": FINE - 60_000}
    assert past.times(gone) == {"up": 120_000}
    assert past.times(later) == {}
    assert past.times(gone, start + FINE) == {}
    assert sum(past.times(later, start + FINE).values()) == FINE


def _live(past: Past, number: int, dice: random.Random) -> None:
    """Give a monitor some life around the first three buckets."""
    begin, end = past.start_ms - 2 * FINE, past.start_ms + 3 * FINE
    interval = dice.choice([5, 60, 60, 60, 90, 300, 420])
    past.watch(number, begin, interval_s=interval)
    past.health(number, begin, dice.choice([Health.UP, Health.DOWN, Health.DEGRADED, Health.PENDING]))
    for at in sorted(dice.randrange(begin, end) for _ in range(dice.choice([0, 0, 1, 3]))):
        past.health(number, at, dice.choice([Health.UP, Health.DOWN, Health.DEGRADED, Health.PENDING]))
    for at in sorted(dice.randrange(begin, end) for _ in range(dice.choice([0, 0, 0, 1, 2]))):
        interval = dice.choice([interval, 30])
        gone = dice.random() < 0.1
        past.watch(number, at, enabled=dice.random() < 0.5, interval_s=interval, gone=gone)
        if gone:
            break
    slots = list(range(begin + dice.randrange(interval * 1000), end, interval * 1000))
    lost = dice.choice([0, 0, 0, 0.1, 1])
    for verdict in Verdict:
        mine = [slot for slot in slots if slot % 4 == verdict and dice.random() >= lost]
        mine = mine if dice.random() < 0.5 else []
        past.results(number, mine, verdict, latency_ms=dice.choice([0.0, 3.5, 250.0, -1.0]))
    past.results(number, [slot + 1 for slot in slots[:2]], Verdict.UP, kind=dice.choice([Kind.CONFIRM, Kind.MANUAL]))
    if dice.random() < 0.3:
        elsewhere = past.seed.location("elsewhere")
        past.results(number, [slot + 11 for slot in slots if dice.random() < 0.8], location=elsewhere)


@pytest.mark.parametrize("seed", range(4))
def test_the_statement_for_plain_monitors_says_what_the_accounting_says(past: Past, seed: int) -> None:
    dice = random.Random(seed)
    numbers = [past.monitor() for _ in range(30)]
    for number in numbers:
        _live(past, number, dice)
    steady = [past.plain() for _ in range(3)]
    for number in steady:
        past.results(number, past.every_minute(), latency_ms=dice.uniform(1, 900))
    pieces = past.roll(3)
    assert {piece.eventful < len(numbers) for piece in pieces} == {True}, "none was plain"
    rows = past.rows()
    for at in (past.start_ms, past.start_ms + FINE, past.start_ms + 2 * FINE):
        exact = past.exactly([*numbers, *steady], at)
        assert {number for number, begin in rows if begin == at} == set(exact)
        for number, account in exact.items():
            row = rows[number, at]
            assert tuple(row[f"{name}_ms"] for name in CATEGORIES) == account.times.parts(), (number, at)
            assert (row["seen"], row["well"]) == (account.seen, account.well)
            assert histogram.decode(row["latencies"] or b"") == account.latencies


def test_hours_and_days_are_the_sums_of_what_they_are_made_of(past: Past) -> None:
    past.start_ms = past.start_ms // Level.DAY.ms * Level.DAY.ms - Level.DAY.ms  # yesterday, or the day before
    past.since(past.start_ms)
    past.partitions()
    number = past.plain()
    past.results(number, past.every_minute(end_ms=past.start_ms + Level.DAY.ms), latency_ms=80)
    past.health(number, past.start_ms + 1_000_000, Health.DOWN)
    pieces = past.roll(288 + 24 + 1)
    assert [sum(piece.level is level for piece in pieces) for level in Level] == [288, 24, 1]
    day = past.rows("rollups_day")[number, past.start_ms]
    for table in ("rollups_5m", "rollups_hour"):
        rows = [row for (_, at), row in past.rows(table).items() if at < past.start_ms + Level.DAY.ms]
        for column in ("seen", "well", *(f"{name}_ms" for name in CATEGORIES)):
            assert sum(row[column] for row in rows) == day[column]
        assert histogram.merge(row["latencies"] or b"" for row in rows) == histogram.decode(day["latencies"])
    assert (day["up_ms"], day["down_ms"], day["seen"]) == (1_000_000, Level.DAY.ms - 1_000_000, 1440)


def test_rolling_again_changes_nothing_and_nothing_is_rolled_twice(past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute())
    past.roll_all()
    before = [past.rows(table) for table in ("rollups_5m", "rollups_hour")]
    assert past.roll_all() == []
    past.seed.run("UPDATE rollup_marks SET stale = true")
    again = past.roll_all()
    assert again
    assert all(piece.again for piece in again)
    assert [past.rows(table) for table in ("rollups_5m", "rollups_hour")] == before


def test_a_bucket_is_not_made_before_its_results_can_be_there(past: Past) -> None:
    before_ms = past.seed.now_ms()
    made = past.roll_all()
    last = max(piece.at_ms for piece in made if piece.level is Level.FINE)
    assert last + FINE + rollups.GRACE_MS <= past.seed.now_ms()
    assert before_ms < last + 2 * FINE + rollups.GRACE_MS


def test_a_result_that_comes_after_its_bucket_was_made_is_found_and_taken_in(past: Past) -> None:
    number = past.plain()
    slots = list(past.every_minute())
    late = slots[2]
    past.results(number, [slot for slot in slots if slot != late])
    past.roll(3)
    assert past.times(number)["unknown"] == 60_000
    past.results(number, [late])
    past.roll_all()
    assert past.times(number) == {"up": FINE}
    assert past.times(number, table="rollups_hour") == {"up": Level.HOUR.ms}


def test_a_transition_that_comes_late_moves_all_that_follows_it(past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute())
    past.roll(3)
    past.health(number, past.start_ms + 150_000, Health.DOWN)
    past.roll_all()
    assert past.times(number) == {"up": 150_000, "down": 150_000}
    assert past.times(number, past.start_ms + FINE) == {"down": FINE}
    assert past.times(number, table="rollups_hour") == {"up": 150_000, "down": Level.HOUR.ms - 150_000}


def test_a_roller_that_dies_anywhere_leaves_its_bucket_whole_or_unmade(past: Past) -> None:
    """Every backend of it is killed at another moment; who comes next makes what is missing, once."""
    numbers = [past.plain() for _ in range(20)]
    for number in numbers:
        past.results(number, past.every_minute())
        past.health(number, past.start_ms + 100_000, Health.DEGRADED)
    dice, killed, stop = random.Random(7), 0, threading.Event()

    def kill() -> None:
        nonlocal killed
        while not stop.is_set():
            time.sleep(dice.uniform(0, 0.02))
            with psycopg.connect(past.seed.database_url, autocommit=True) as connection:
                killed += len(connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name = 'tocsin test' AND state <> 'idle'").fetchall())  # fmt: skip

    killer = threading.Thread(target=kill)
    killer.start()
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline or (killed <= 5 and time.monotonic() < deadline + 60):
        try:
            past.roll()
        except Exception:
            continue
    stop.set()
    killer.join()
    assert killed > 5
    past.roll_all()
    rows = past.rows()
    assert {at for _, at in rows} == set(range(past.start_ms, max(at for _, at in rows) + 1, FINE))
    for number in numbers:
        assert past.times(number, table="rollups_hour") == {"up": 100_000, "degraded": Level.HOUR.ms - 100_000}
        assert past.rows("rollups_hour")[number, past.start_ms]["seen"] == 60


def test_a_scheduler_killed_in_the_middle_is_made_up_for_by_the_next(past: Past, redis_url: str) -> None:
    day = past.start_ms - Level.DAY.ms
    past.since(day)
    numbers = [past.plain(at_ms=day - 600_000) for _ in range(3)]
    for number in numbers:
        past.results(number, past.every_minute())
    count = "SELECT count(*) FROM rollup_marks WHERE level = 0"
    # So slowly that it is not done before we have looked and killed it, whatever this machine does meanwhile.
    past.seed.run(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END $$"
    )
    past.seed.run("CREATE TRIGGER slowly BEFORE INSERT ON rollup_marks FOR EACH ROW EXECUTE FUNCTION slowly()")
    with Roles(past.seed.database_url, redis_url) as roles:
        for more in (20, 60):  # in the middle of its catching up, twice
            scheduler = roles.start("scheduler")
            wait_until(lambda enough=more: past.seed.run(count)[0][0] > enough, 60, "a part of the buckets")
            scheduler.kill()
        assert past.seed.run(count)[0][0] < 288, "it was done before it was killed"
        past.seed.run("DROP TRIGGER slowly ON rollup_marks")
        roles.start("scheduler")
        near = "fine_to + interval '7 minutes' > now() AND hours_to + interval '1 hour' > fine_to"
        last = f"SELECT {near} FROM rollup_progress"
        wait_until(lambda: past.seed.run(last)[0][0], 60, "the rest")
    rows = past.rows()
    assert {at for _, at in rows} == set(range(day, max(at for _, at in rows) + 1, FINE))
    assert all(sum(row[f"{name}_ms"] for name in CATEGORIES) == FINE for row in rows.values())
    for number in numbers:
        hour = past.rows("rollups_hour")[number, past.start_ms]
        assert (hour["up_ms"], hour["seen"]) == (Level.HOUR.ms, 60)


def test_one_process_at_a_time_makes_rollups_and_the_other_does_not_wait(past: Past) -> None:
    with past.databases.worker.begin() as first:
        assert rollups.step(first) is not None
        # Who waited would wait for us, and be told that it took too long.
        with past.databases.worker.begin() as second:
            assert rollups.step(second) is None


def test_the_roller_catches_up_piece_by_piece_and_then_rests(past: Past) -> None:
    number = past.plain()
    past.results(number, past.every_minute())
    roller = Roller(past.databases.worker, Settings(), monotonic=time.monotonic)
    steps = 0
    while roller.step():
        steps += 1
    assert steps >= 24 + 2
    assert past.times(number, table="rollups_hour") == {"up": Level.HOUR.ms}


def test_partitions_past_retention_go_and_the_progress_says_so(past: Past) -> None:
    past.since(past.start_ms - 10 * Level.DAY.ms)
    past.roll(1)
    count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'rollups_5m'::regclass"
    assert past.seed.run(count)[0][0] >= 13
    # What is not yet in a day stays.
    with past.databases.worker.begin() as connection:
        rollups.keep(connection, fine_days=2, days=400)
    assert past.seed.run(count)[0][0] >= 13
    past.since(past.start_ms)
    past.seed.run(
        "UPDATE rollup_progress SET since = since - interval '400 days', fine_from = fine_from - interval '10 days'"
    )
    with past.databases.worker.begin() as connection:
        rollups.keep(connection, fine_days=2, days=400)
    assert past.seed.run(count)[0][0] <= 6
    today = "(now() AT TIME ZONE 'UTC')::date"
    assert past.seed.run(f"SELECT (fine_from AT TIME ZONE 'UTC')::date = {today} - 2 FROM rollup_progress") == [(True,)]


def test_results_of_a_bucket_are_found_without_reading_their_day(past: Past) -> None:
    past.seed.run(  # results know of no monitors
        "INSERT INTO results"
        " SELECT %s + n * interval '1 millisecond', n %% 5000, 1, -1, -1, -1, -1, 5, %s, 0, 0, '1', '0'"
        "   FROM generate_series(0, 3599990, 60) AS n",
        from_ms(past.start_ms), past.location,
    )  # fmt: skip
    with past.databases.worker.begin() as connection:
        connection.exec_driver_sql("SELECT summarize_results()")
    past.seed.run("ANALYZE results")
    keys = {"begin": from_ms(past.start_ms + FINE), "end": from_ms(past.start_ms + 2 * FINE)}
    with past.databases.worker.begin() as connection:
        found = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {rollups._RESULTS}", keys).scalar_one()
    plan = repr(found)
    assert "Bitmap Index Scan" in plan, plan
    assert "_pkey" not in plan, plan
    assert "Seq Scan" not in plan, plan


def test_triggers_note_every_change_of_watching_and_health_whoever_makes_it(past: Past) -> None:
    number = past.seed.monitors(["http://t"])[0]
    past.seed.run("UPDATE monitors SET name = 'other', timeout_s = 5 WHERE monitor_no = %s", number)
    past.seed.run("UPDATE monitors SET enabled = false WHERE monitor_no = %s", number)
    past.seed.run("UPDATE monitors SET enabled = true, interval_s = 60 WHERE monitor_no = %s", number)
    past.seed.run("UPDATE monitors SET deleted_at = now() WHERE monitor_no = %s", number)
    changes = "SELECT enabled, interval_s, places, gone FROM watch_changes WHERE monitor_no = %s ORDER BY at, no"
    assert past.seed.run(changes, number) == [
        (True, 30, 1, False), (False, 30, 1, False), (True, 60, 1, False), (True, 60, 1, True)
    ]  # fmt: skip
    for health in (1, 1, 3):
        past.seed.run("UPDATE monitor_states SET health = %s, since = now() WHERE monitor_no = %s", health, number)
    # One whose clock is behind does not turn the order round.
    past.seed.run(
        "UPDATE monitor_states SET health = 2, since = now() - interval '1 hour' WHERE monitor_no = %s", number
    )
    found = past.seed.run("SELECT health, at FROM health_changes WHERE monitor_no = %s ORDER BY at, no", number)
    assert [health for health, _ in found] == [0, 1, 3, 2]
