"""Time in maintenance is a category of its own in every figure, to the millisecond, and the sums add up."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest

from common.clock import from_ms
from common.domain.accounting import CATEGORIES
from common.domain.checks import Verdict
from common.domain.health import Health
from common.store import rollups
from tests.conftest import Databases
from tests.rollup_world import FINE, Past
from tests.stack import Seed


@pytest.fixture
def past(databases: Databases, database_url: str) -> Past:
    return Past(databases, Seed(database_url))


def cover(past: Past, number: int, begin_ms: int, end_ms: int) -> None:
    """A window that covered the monitor."""
    window, org = str(uuid4()), past.seed.run("SELECT org_id::text FROM monitors WHERE monitor_no = %s", number)[0][0]
    past.seed.run(
        "INSERT INTO maintenance_windows (id, org_id, name, schedule, created_by) VALUES (%s, %s, 'w', '{}', 'user:x')",
        window, org,
    )  # fmt: skip
    past.seed.run(
        "INSERT INTO maintenance_spans (monitor_no, window_id, org_id, begins_at, ends_at, phase)"
        " VALUES (%s, %s, %s, %s, %s, 2)",
        number, window, org, from_ms(begin_ms), from_ms(end_ms),
    )  # fmt: skip


def test_a_bucket_within_a_window_is_maintenance_whatever_was_seen(past: Past) -> None:
    start = past.start_ms
    seen, blind, paused = past.plain(health=Health.DOWN), past.plain(), past.plain()
    past.watch(paused, start - 300_000, enabled=False)
    past.results(seen, past.every_minute(), Verdict.DOWN)
    for number in (seen, blind, paused):
        cover(past, number, start - 1_000, start + FINE)
    [piece] = past.roll()
    assert piece.eventful == 0
    assert past.times(seen) == past.times(blind) == {"maintenance": FINE}
    assert past.times(paused) == {"paused": FINE}
    assert past.rows()[seen, start]["seen"] == 5  # coverage is counted all the same


def test_a_part_of_a_bucket_is_exact_and_overlapping_windows_count_once(past: Past) -> None:
    start = past.start_ms
    number = past.plain(health=Health.DOWN)
    past.results(number, past.every_minute(), Verdict.DOWN)
    cover(past, number, start + 10_001, start + 60_000)
    cover(past, number, start + 50_000, start + 100_002)
    cover(past, number, start + 200_000, start + 200_000)  # cut before it began
    [piece] = past.roll()
    assert piece.eventful == 1
    assert past.times(number) == {"down": FINE - 90_001, "maintenance": 90_001}


def test_a_window_that_begins_with_a_bucket_or_ends_with_it_touches_no_other(past: Past) -> None:
    start = past.start_ms
    number = past.plain()
    past.results(number, past.every_minute())
    cover(past, number, start - 60_000, start)
    cover(past, number, start + FINE, start + 2 * FINE)
    [piece] = past.roll()
    assert piece.eventful == 0
    assert past.times(number) == {"up": FINE}


def test_a_change_of_health_within_a_window_changes_nothing(past: Past) -> None:
    start = past.start_ms
    number = past.plain()
    past.health(number, start + 100_000, Health.DOWN)
    past.results(number, past.every_minute())
    cover(past, number, start, start + FINE)
    past.roll()
    assert past.times(number) == {"maintenance": FINE}


def test_a_span_that_is_written_late_is_found_when_its_bucket_is_counted_again(past: Past) -> None:
    start = past.start_ms
    number = past.plain()
    past.results(number, past.every_minute())
    past.roll()
    assert past.times(number) == {"up": FINE}
    cover(past, number, start + 60_000, start + 120_000)
    past.roll(4)
    assert past.times(number) == {"up": FINE - 60_000, "maintenance": 60_000}


@pytest.mark.parametrize("seed", range(6))
def test_the_statement_says_what_the_pure_function_says_for_any_windows(past: Past, seed: int) -> None:
    chance = random.Random(seed)
    start = past.start_ms
    numbers = [past.plain(health=chance.choice([Health.UP, Health.DEGRADED, Health.DOWN])) for _ in range(12)]
    for number in numbers:
        past.results(number, [slot for slot in past.every_minute() if chance.random() < 0.9])
        for _ in range(chance.choice([0, 1, 1, 2, 3])):
            begin = start + chance.choice([-FINE, 0, chance.randrange(-FINE, FINE)])
            cover(past, number, begin, begin + chance.choice([FINE, 2 * FINE, chance.randrange(1, FINE)]))
    past.roll()
    exactly = past.exactly(numbers, start)
    for number in numbers:
        found = past.times(number)
        assert sum(found.values()) == FINE
        assert found == {name: ms for name in CATEGORIES if (ms := getattr(exactly[number].times, name))}


def test_spans_are_forgotten_with_the_rollups(past: Past) -> None:
    number = past.plain()
    cover(past, number, past.start_ms - 86_400_000 * 40, past.start_ms - 86_400_000 * 40 + 1_000)
    cover(past, number, past.start_ms, past.start_ms + 1_000)
    with past.databases.worker.begin() as connection:
        rollups.keep(connection, fine_days=10, days=30)
    assert past.seed.run("SELECT count(*) FROM maintenance_spans") == [(1,)]
