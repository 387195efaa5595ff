"""The time before the first rollup: whoever upgrades, or adds a past, gets figures of all that there are results of."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common.clock import from_ms, to_ms
from common.domain.accounting import Times
from common.domain.accounting_cover import Level, cover
from common.domain.checks import Verdict
from common.settings import Settings
from common.store import rollups, rollups_fill, schedule, uptime, uptime_history
from common.store.engine import Database, DatabaseRole
from common.store.rollups_fill import Day
from scheduler.rollups import Indexer, Roller
from tests.integration.test_migrations import upgrade
from tests.integration.test_seed import run
from tests.stack import Seed

DAYS = 3
#: Pieces of the past that can be made now; an hour or a day that is not over is made when it is.
LEFT = """
SELECT count(*) FROM rollup_fills f, rollup_progress p
 WHERE (ARRAY[p.fine_to, p.hours_to, p.days_to])[f.level + 1] > f.at
"""
BARE = """
SELECT count(*) FROM pg_inherits i WHERE i.inhparent = 'results'::regclass AND NOT EXISTS (
  SELECT 1 FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam
   WHERE x.indrelid = i.inhrelid AND a.amname = 'brin')
"""
HOUR = timedelta(hours=1)


@dataclass
class Old:
    """An installation of the version before rollups, upgraded: three days of results, one a minute."""

    url: str
    seed: Seed
    first: datetime  # midnight of the oldest day
    born: datetime
    worker: Database
    steady: int
    failed: int  # down from born + 20 h, for an hour and a half
    unseen: int  # nobody looked from born + 24 h, for two hours

    def span(self) -> tuple[int, int]:
        """(pieces to make, where figures begin)."""
        ((pieces, since),) = self.seed.run(f"SELECT ({LEFT}), since FROM rollup_progress")
        return pieces, to_ms(since)

    def fill(self, pieces: int = 10_000) -> int:
        """Make so many pieces of the past, each in its transaction; how many there were."""
        while Indexer(self.worker, Settings()).step():
            pass
        for made in range(pieces):
            with self.worker.begin() as connection:
                if rollups.fill(connection) is None:
                    return made
        return pieces

    def forward(self) -> None:
        """Bring the present up to date."""
        while self._forward():
            pass

    def _forward(self) -> bool:
        with self.worker.begin() as connection:
            return rollups.step(connection) is not None

    def sums(self, begin_ms: int, end_ms: int) -> dict[int, tuple[tuple[int, int], Times]]:
        """What readers get for a window: {monitor: (the window that is counted, its time)}."""
        ids = {row[0]: row[1] for row in self.seed.run("SELECT monitor_no, id::text FROM monitors")}
        database = Database(self.url, DatabaseRole.API, application="reader", pool_size=1)
        with database.begin(self.seed.org_id) as connection:
            rolled, _ = rollups.progress(connection)
            covered = cover(rolled, begin_ms, end_ms)
            found = uptime.sums(connection, list(ids.values()), covered)
        database.dispose()
        return {number: ((covered.begin_ms, covered.end_ms), found[id_].times) for number, id_ in ids.items()}

    def exactly(self, window: tuple[int, int]) -> dict[int, Times]:
        """What the accounting itself says of the window, result by result."""
        numbers = [self.steady, self.failed, self.unseen]
        with self.worker.begin() as connection:
            facts = uptime_history.read(connection, numbers, window)
            found = {one.monitor_no: one.times for one in uptime_history.accounts(facts, window)}
        return {number: found.get(number, Times()) for number in numbers}


def _results(seed: Seed, number: int, begin: datetime, verdict: Verdict) -> None:
    seed.run(
        "INSERT INTO results SELECT at, %s, 1, -1, -1, -1, -1, 20, %s, 0, 0, %s, '0'"
        "   FROM generate_series(%s::timestamptz, now(), '1 minute') AS at",
        number, seed.location(), str(int(verdict)), begin,
    )  # fmt: skip


def _outage(seed: Seed, number: int, begin: datetime, end: datetime) -> None:
    seed.run(
        "UPDATE results SET verdict = '3' WHERE monitor_no = %s AND scheduled_at >= %s AND scheduled_at < %s",
        number, begin, end,
    )  # fmt: skip
    seed.run(
        "INSERT INTO incidents (id, org_id, monitor_id, source, dedup_key, title, severity, priority, status,"
        " opened_at, resolved_at) SELECT gen_random_uuid(), org_id, id, 'monitor', 'monitor:' || id, 'x is down',"
        " 'error', 'P2', 'resolved', %s, %s FROM monitors WHERE monitor_no = %s",
        begin, end, number,
    )  # fmt: skip
    seed.run(
        "INSERT INTO incident_events (id, org_id, incident_id, version, type, actor, snapshot, at)"
        " SELECT gen_random_uuid(), i.org_id, i.id, e.version, e.type, 'tocsin', '{}', e.at FROM incidents i,"
        " (VALUES (1, 'opened', %s::timestamptz), (2, 'resolved', %s::timestamptz)) AS e(version, type, at)",
        begin, end,
    )  # fmt: skip


@pytest.fixture
def old(empty_database: str) -> Iterator[Old]:
    upgrade(empty_database, "0006")
    seed = Seed(empty_database)
    now = datetime.now(UTC)
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
    born = first + timedelta(hours=1, minutes=7, seconds=13)
    for parent in ("results", "result_details"):
        for day in (first.date() + timedelta(days=number) for number in range(DAYS + 1)):
            seed.run(
                f"CREATE TABLE IF NOT EXISTS {parent}_{day:%Y%m%d} PARTITION OF {parent}"
                f" FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
            )
            seed.run(f"ALTER TABLE {parent}_{day:%Y%m%d} OWNER TO tocsin_owner")
    steady, failed, unseen = seed.monitors(["http://a", "http://b", "http://c"], interval_s=60)
    seed.run("UPDATE monitors SET created_at = %s", born)
    seed.run("UPDATE monitor_states SET health = 1, since = %s", born)
    for number in (steady, failed, unseen):
        _results(seed, number, born, Verdict.UP)
    _outage(seed, failed, born + 20 * HOUR, born + 21.5 * HOUR)
    seed.run(
        "DELETE FROM results WHERE monitor_no = %s AND scheduled_at >= %s AND scheduled_at < %s",
        unseen, born + 24 * HOUR, born + 26 * HOUR,
    )  # fmt: skip
    upgrade(empty_database, "head")
    worker = Database(empty_database, DatabaseRole.WORKER, application="test", pool_size=2)
    yield Old(empty_database, seed, first, born, worker, steady, failed, unseen)
    worker.dispose()


def test_an_upgrade_brings_figures_of_all_the_results_that_there_are(old: Old) -> None:
    roller = Roller(old.worker, Settings(), monotonic=time.monotonic)
    pieces, since_ms = old.span()
    assert pieces >= DAYS * (288 + 24 + 1)
    assert since_ms > to_ms(old.first) + DAYS * Level.DAY.ms - 1
    deadline = time.monotonic() + 120
    while old.span()[0]:
        Indexer(old.worker, Settings()).step()
        roller.step()
        assert time.monotonic() < deadline
    assert old.span() == (0, to_ms(old.first))
    day = old.sums(to_ms(old.first), to_ms(old.first + 24 * HOUR))
    lived = to_ms(old.first + 24 * HOUR) - to_ms(old.born)
    outage = int(1.5 * Level.HOUR.ms)
    assert day[old.steady][1] == Times(up=lived)
    assert day[old.failed][1] == Times(up=lived - outage, down=outage)
    both = old.sums(to_ms(old.first), to_ms(old.first + 48 * HOUR))
    assert both[old.unseen][1] == Times(up=lived + Level.DAY.ms - 2 * Level.HOUR.ms, unknown=2 * Level.HOUR.ms)
    # By hours and by five minutes they say the same.
    dice, end_ms = random.Random(3), to_ms(old.first) + DAYS * Level.DAY.ms
    for _ in range(20):
        begin_ms = dice.randrange(to_ms(old.first), end_ms - Level.HOUR.ms)
        found = old.sums(begin_ms, dice.randrange(begin_ms + Level.HOUR.ms, end_ms))
        for number, exact in old.exactly(found[old.steady][0]).items():
            assert found[number][1] == exact


def test_readers_see_a_day_when_all_of_it_is_there(old: Old) -> None:
    old.forward()
    begins, now_ms = [old.span()[1]], to_ms(datetime.now(UTC))
    while old.fill(97) == 97:
        since_ms = old.span()[1]
        assert since_ms == begins[-1] or since_ms % Level.DAY.ms == 0
        begins.append(since_ms)
        window, times = old.sums(0, now_ms)[old.steady]
        assert window[0] == since_ms
        assert times.total == window[1] - max(window[0], to_ms(old.born))
        assert times.unknown == 0
    assert sorted(set(begins), reverse=True) == list(dict.fromkeys(begins)), "figures never begin later than before"
    assert len(set(begins)) >= DAYS
    assert old.span() == (0, to_ms(old.first))


def test_the_present_goes_on_meanwhile_and_the_days_that_meet_are_whole(old: Old) -> None:
    """The bucket that was under way at the upgrade: its hour and its day get their beginning from the past."""
    old.fill()
    old.seed.run("UPDATE rollup_progress SET fine_to = fine_to")  # nothing of the present is made yet
    old.forward()
    today_ms = to_ms(old.first) + DAYS * Level.DAY.ms
    window, times = old.sums(today_ms, to_ms(datetime.now(UTC)))[old.steady]
    assert window[0] == today_ms
    assert times == Times(up=window[1] - window[0])
    ((hours_to,),) = old.seed.run("SELECT hours_to FROM rollup_progress")
    rows = old.seed.run(
        "SELECT at, up_ms FROM rollups_hour WHERE monitor_no = %s AND at >= %s AND at < %s",
        old.steady, from_ms(today_ms), hours_to,
    )  # fmt: skip
    assert [row[1] for row in rows] == [Level.HOUR.ms] * len(rows)
    assert len(rows) == (to_ms(hours_to) - today_ms) // Level.HOUR.ms


def test_results_that_go_past_retention_meanwhile_are_given_up(old: Old) -> None:
    old.fill(10)
    old.seed.run("SELECT keep_result_partitions(2, %s)", DAYS - 1)
    old.fill()
    assert old.span() == (0, to_ms(old.first) + Level.DAY.ms)
    gone = f"{old.first:%Y%m%d}"
    assert old.seed.run("SELECT relname FROM pg_class WHERE relname ~ %s", f"^result.*_{gone}$") == []


def test_five_minutes_of_the_past_go_when_their_time_is_over_and_hours_stay(old: Old) -> None:
    old.fill()
    old.forward()
    with old.worker.begin() as connection:
        rollups.keep(connection, fine_days=1, days=400)
    kept = old.seed.run("SELECT min(at) FROM rollups_5m")[0][0]
    assert kept >= old.first + timedelta(days=DAYS - 1)
    lived = to_ms(old.first + 48 * HOUR) - to_ms(old.born)
    window, times = old.sums(0, to_ms(old.first + 48 * HOUR))[old.steady]
    assert (window, times) == ((to_ms(old.first), to_ms(old.first + 48 * HOUR)), Times(up=lived))
    # What is still to be made keeps the five minutes that it is made of.
    old.seed.run("SELECT refill_rollups(%s, now())", old.first)
    old.fill(288 * DAYS // 2)
    made = old.seed.run("SELECT count(DISTINCT at::date) FROM rollups_5m")
    with old.worker.begin() as connection:
        rollups.keep(connection, fine_days=1, days=400)
    assert old.seed.run("SELECT count(DISTINCT at::date) FROM rollups_5m") == made
    old.fill()
    assert old.sums(0, to_ms(old.first + 48 * HOUR))[old.steady] == (window, times)


LOCKS = """
SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
 WHERE l.pid = pg_backend_pid() AND l.granted AND c.relkind IN ('r', 'p') AND c.relname ~ '^(results|rollups_)'
"""


def test_nobody_waits_for_the_index_of_a_day_of_results(old: Old) -> None:
    """What makes partitions is committed before; the index locks that old day alone, and against writers only."""
    with old.worker.begin() as connection:
        assert rollups_fill.opened(connection, to_ms(old.first)) is Day.MADE
    assert old.seed.run(BARE) == [(DAYS - 1,)], "yesterday and today have theirs since the upgrade"
    before_last = f"results_{old.first + timedelta(days=DAYS - 2):%Y%m%d}"
    with old.worker.begin() as connection:
        assert rollups_fill.index(connection, 30) == (old.first + timedelta(days=DAYS - 2)).date()
        locks = connection.exec_driver_sql(LOCKS).all()
        strong = {(table, mode) for table, mode in locks if mode not in ("AccessShareLock", "RowShareLock")}
        assert strong == {(before_last, "ShareLock")}
        # What makes and drops partitions, and the present's roller, take their locks meanwhile.
        with old.worker.begin() as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            schedule.keep_partitions(other, 30)
            assert rollups_fill.index(other, 30) is None, "another one is at it"
            rollups.keep(other, fine_days=30, days=400)
            assert other.exec_driver_sql("SELECT pg_try_advisory_xact_lock(7305061974)").scalar_one(), "pieces are made"
    assert old.seed.run(BARE) == [(DAYS - 2,)]


def test_pieces_wait_for_their_days_index_and_those_of_other_days_do_not(old: Old) -> None:
    while True:
        with old.worker.begin() as connection:
            if rollups.fill(connection) is None:
                break
    _, since_ms = old.span()
    assert since_ms == to_ms(old.first) + (DAYS - 1) * Level.DAY.ms, "today and yesterday had their index"
    assert old.span()[0]
    old.fill()
    assert old.span() == (0, to_ms(old.first))


def test_an_index_has_its_own_patience_and_says_when_it_is_over(old: Old, capfd: pytest.CaptureFixture[str]) -> None:
    hasty = Database(old.url, DatabaseRole.WORKER, application="test", pool_size=1, statement_timeout_s=0.3)
    with psycopg.connect(old.url) as writer:
        writer.execute(f"LOCK TABLE results_{old.first + timedelta(days=DAYS - 2):%Y%m%d} IN ROW EXCLUSIVE MODE")
        assert Indexer(hasty, Settings()).step() is False
    hasty.dispose()
    assert "rollup_day_not_indexed" in "".join(capfd.readouterr())
    assert Indexer(old.worker, Settings()).step() is True


def test_a_day_that_goes_within_the_hour_gets_no_index(old: Old) -> None:
    """Dropping it would wait for the build, and all who read results for that."""
    assert old.seed.run("SELECT index_rollup_day(1)") == [(None,)]


def test_a_seeded_past_has_its_figures(database_url: str, tmp_path: Path) -> None:
    seed = Seed(database_url)
    arguments = [
        "--monitors",
        "40",
        "--results",
        str(40 * 288),
        "--incidents",
        "40",
        "--days",
        "2",
        "--interval",
        "600",
    ]
    done = run(
        [*arguments, "--endpoint", "http://192.0.2.7/page/", "--organization", seed.org_id], tmp_path, database_url
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    worker = Database(database_url, DatabaseRole.WORKER, application="test", pool_size=1)
    roller = Roller(worker, Settings(), monotonic=time.monotonic)
    deadline = time.monotonic() + 120
    while roller.step() or seed.run(LEFT) != [(0,)]:
        assert time.monotonic() < deadline
    worker.dispose()
    # Outages in the finest: their hour may still be on.
    facts: dict[str, Any] = dict(seed.run(
        "SELECT 'hours', count(DISTINCT at) FROM rollups_hour WHERE up_ms > 0"
        " UNION ALL SELECT 'seen', sum(seen) FROM rollups_hour"
        " UNION ALL SELECT 'down', count(DISTINCT monitor_no) FROM rollups_5m WHERE down_ms > 0"
        " UNION ALL SELECT 'incidents', count(DISTINCT monitor_id) FROM incidents"
        " UNION ALL SELECT 'paused', count(*) FROM monitors WHERE NOT enabled"
        " UNION ALL SELECT 'paused up', count(DISTINCT monitor_no) FROM rollups_hour JOIN monitors m USING (monitor_no)"
        "   WHERE NOT m.enabled AND up_ms > 0"
    ))  # fmt: skip
    assert facts["hours"] >= 46
    assert facts["seen"] >= 40 * 280
    assert facts["down"] >= facts["incidents"] * 0.9 > 0
    assert facts["paused"] == facts["paused up"]
