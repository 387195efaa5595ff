"""What the scheduler reads: no commit order can hide a change from it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psycopg
import pytest

from common.clock import DatabaseClock
from common.domain.errors import Unavailable
from common.store import locations, schedule, votes
from common.store.schedule import LANES_CHANNEL, Confirmation, Timing
from scheduler.dispatch import Change, LaneNote
from scheduler.loader import Loader
from tests.conftest import Databases
from tests.stack import Seed


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


def look(databases: Databases, floor: str) -> tuple[str, dict[int, Timing]]:
    """One look of a loader: the next floor, and what changed since this one."""
    with databases.worker.begin() as connection:
        following = schedule.floor(connection)
        return following, {timing.monitor_no: timing for timing in schedule.changed(connection, floor)}


def first_floor(databases: Databases) -> str:
    with databases.worker.begin() as connection:
        return schedule.floor(connection)


def test_a_change_that_began_before_the_floor_was_read_and_commits_late_is_still_seen(
    seed: Seed, databases: Databases
) -> None:
    number = seed.monitor("http://t")
    with psycopg.connect(seed.database_url) as slow:
        slow.execute("UPDATE monitors SET interval_s = 77 WHERE monitor_no = %s", (number,))
        # Others come and go meanwhile, with younger transaction ids.
        other = seed.monitor("http://other")
        floor, seen = look(databases, first_floor(databases))
        assert seen.get(number, None) is None or seen[number].interval_s == 30
        seed.run("UPDATE monitors SET interval_s = 60 WHERE monitor_no = %s", other)
        floor, seen = look(databases, floor)
        assert seen[other].interval_s == 60
        slow.commit()
    _, seen = look(databases, floor)
    assert seen[number].interval_s == 77


def test_a_change_in_a_savepoint_is_seen(seed: Seed, databases: Databases) -> None:
    number = seed.monitor("http://t")
    floor = first_floor(databases)
    with psycopg.connect(seed.database_url) as connection, connection.transaction(), connection.transaction():
        connection.execute("UPDATE monitors SET interval_s = 77 WHERE monitor_no = %s", (number,))
    assert look(databases, floor)[1][number].interval_s == 77


def test_what_did_not_change_is_not_read_again(seed: Seed, databases: Databases) -> None:
    seed.monitors(["http://t"] * 50)
    floor, _ = look(databases, first_floor(databases))
    floor, _ = look(databases, floor)
    assert look(databases, floor)[1] == {}


@pytest.mark.parametrize("change", ["enabled = false", "deleted_at = now()"])
def test_what_is_paused_or_deleted_appears_as_not_active(seed: Seed, databases: Databases, change: str) -> None:
    number = seed.monitor("http://t")
    floor = first_floor(databases)
    seed.run(f"UPDATE monitors SET {change} WHERE monitor_no = %s", number)
    assert look(databases, floor)[1][number].active is False
    with databases.worker.begin() as connection:
        assert [timing for chunk in schedule.active(connection) for timing in chunk] == []


def test_a_transaction_id_of_another_server_is_ignored(seed: Seed, databases: Databases) -> None:
    # A dump of an older server was restored here: its transaction ids lie far ahead of ours.
    number = seed.monitor("http://t")
    seed.run("ALTER TABLE monitors DISABLE TRIGGER monitors_touch")
    seed.run("UPDATE monitors SET changed_xid = '999999999' WHERE monitor_no = %s", number)
    seed.run("ALTER TABLE monitors ENABLE TRIGGER monitors_touch")
    floor, _ = look(databases, first_floor(databases))
    assert number not in look(databases, floor)[1]
    seed.run("UPDATE monitors SET interval_s = 77 WHERE monitor_no = %s", number)
    assert look(databases, floor)[1][number].interval_s == 77


def test_all_active_monitors_are_read_in_chunks(seed: Seed, databases: Databases) -> None:
    numbers = seed.monitors(["http://t"] * 25, interval_s=45)
    with databases.worker.begin() as connection:
        chunks = list(schedule.active(connection, chunk=10))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert [timing.monitor_no for chunk in chunks for timing in chunk] == numbers
    assert {timing.interval_s for chunk in chunks for timing in chunk} == {45}


def test_a_timing_says_where_a_monitor_is_slow(seed: Seed, databases: Databases) -> None:
    near, far = seed.location(), seed.location("far")
    number = seed.monitor("http://t", location_ids=[near, far])
    seed.run("UPDATE votes SET slow = true WHERE monitor_no = %s AND location = %s", number, far)
    _, seen = look(databases, "3")
    assert (seen[number].locations, seen[number].slow) == ((near, far), frozenset({far}))


def test_confirmations_are_those_of_the_span_and_of_active_monitors(seed: Seed, databases: Databases) -> None:
    soon, later, paused = seed.monitors(["http://t"] * 3)
    now_ms = seed.now_ms()
    set_confirm = "UPDATE votes SET confirm_at = to_timestamp(%s / 1000.0) WHERE monitor_no = %s"
    for number, ahead_ms in ((soon, 500), (later, 60_000), (paused, 500)):
        seed.run(set_confirm, now_ms + ahead_ms, number)
    seed.run("UPDATE monitors SET enabled = false WHERE monitor_no = %s", paused)
    with databases.worker.begin() as connection:
        found = schedule.confirmations(connection, after_ms=now_ms, until_ms=now_ms + 1_000)
        again = schedule.confirmations(connection, after_ms=now_ms + 500, until_ms=now_ms + 1_000)
    assert found == [Confirmation(soon, seed.location(), 1, now_ms + 500)]
    assert again == []


def test_the_same_location_asked_for_by_many_workers_is_one(databases: Databases) -> None:
    ids: list[int] = []

    def ask() -> None:
        with databases.worker.begin() as connection:
            ids.append(locations.ensure(connection, "eu"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4 and len(set(ids)) == 1


# -- the loader -----------------------------------------------------------------------------------------------------


@pytest.fixture
def told() -> list[Change]:
    return []


@pytest.fixture
def loader(databases: Databases, told: list[Change]) -> Loader:
    return Loader(databases.worker, DatabaseClock(), told.append)


def test_the_first_look_loads_everything_and_the_next_only_changes(
    seed: Seed, loader: Loader, told: list[Change]
) -> None:
    numbers = seed.monitors(["http://t"] * 3)
    loader.step()
    assert loader.loaded.is_set()
    assert {t.monitor_no for t in told if isinstance(t, Timing)} == set(numbers)
    assert {seed.location(): "local"} in told
    loader.step()
    told.clear()
    seed.run("UPDATE monitors SET enabled = false WHERE monitor_no = %s", numbers[0])
    loader.step()
    assert [(t.monitor_no, t.active) for t in told if isinstance(t, Timing)] == [(numbers[0], False)]


def test_a_notification_wakes_the_loader_before_its_half_second(seed: Seed, loader: Loader) -> None:
    loader.step()
    took = []
    for _ in range(5):  # a machine that is busy for a moment gets another try
        timer = threading.Timer(0.05, lambda: seed.run("NOTIFY tocsin_monitors"))
        timer.start()
        started = time.monotonic()
        loader.step()
        took.append(time.monotonic() - started)
        timer.join()
        if took[-1] < 0.4:
            return
    pytest.fail(f"the loader slept for {took} s")


def test_what_writers_note_about_lanes_is_handed_over_however_many(
    seed: Seed, loader: Loader, databases: Databases, told: list[Change]
) -> None:
    loader.step()
    with databases.worker.begin() as connection:
        schedule.note_lanes(connection, [((number, 1), number % 2 == 0) for number in range(1, 701)])
    loader.step()
    notes = [change for change in told if isinstance(change, LaneNote)]
    assert notes == [LaneNote(number, 1, slow=number % 2 == 0) for number in range(1, 701)]


def test_lane_notes_that_were_missed_while_the_connection_was_lost_are_read_from_the_votes(
    seed: Seed, loader: Loader, databases: Databases, told: list[Change]
) -> None:
    number = seed.monitor("http://t")
    loader.step()
    seed.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND query LIKE 'LISTEN%{LANES_CHANNEL}%'"
    )
    seed.run("UPDATE votes SET slow = true WHERE monitor_no = %s", number)
    told.clear()
    for _ in range(3):
        with suppress(Unavailable):  # the loop around it would go on too
            loader.step()
    assert any(isinstance(t, Timing) and t.slow for t in told)


def test_a_confirmation_is_handed_over_before_it_is_due(
    seed: Seed, loader: Loader, databases: Databases, told: list[Change]
) -> None:
    number = seed.monitor("http://t")
    for _ in range(5):  # a machine that is busy for a moment gets another try
        told.clear()
        seed.run("UPDATE votes SET confirm_at = clock_timestamp() + interval '1 second' WHERE monitor_no = %s", number)
        loader.step()
        due = [change.confirm_at_ms for change in told if isinstance(change, Confirmation)]
        assert due
        if due[-1] > seed.now_ms() - 200:
            break
    assert due[-1] > seed.now_ms() - 200
    with databases.worker.begin() as connection:
        votes.reset(connection, {number: 2})
    told.clear()
    loader.step()
    assert not [change for change in told if isinstance(change, Confirmation)]
