"""Schedulers as real processes: one leads, a standby takes over, nothing is dispatched twice or for ever lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from common.domain.checks import Check, Kind, Lane
from tests.stack import Queue, Roles, Seed, wait_until

TAKEOVER_S = 7.0


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


@pytest.fixture
def roles(database_url: str, redis_url: str) -> Iterator[Roles]:
    with Roles(database_url, redis_url) as roles:
        yield roles


@pytest.fixture
def queue(redis_url: str) -> Queue:
    """Nobody takes from it, so everything that was ever dispatched is still there."""
    return Queue(redis_url)


def slots(queue: Queue, monitor_no: int) -> list[int]:
    return [check.scheduled_at_ms for check in queue.waiting() if check.monitor_no == monitor_no]


def newest(queue: Queue) -> int:
    return max((check.scheduled_at_ms for check in queue.waiting()), default=0)


def epoch(seed: Seed) -> int:
    return int(seed.run("SELECT epoch FROM leases")[0][0])


def assert_no_slot_twice(queue: Queue) -> None:
    checks = queue.waiting()
    assert len(checks) == len(set(checks))


def test_a_killed_leader_is_replaced_in_seven_seconds_and_no_slot_is_dispatched_twice(
    seed: Seed, roles: Roles, queue: Queue
) -> None:
    numbers = seed.monitors(["http://t"] * 20, interval_s=1, timeout_s=1.0)
    leader = roles.leader()
    standby = roles.standby()
    wait_until(lambda: len(queue.waiting()) >= 60, 10)

    leader.kill()
    died_ms = seed.now_ms()
    wait_until(lambda: newest(queue) > died_ms + 1_000, TAKEOVER_S + 2, "the takeover")

    first_after = min(check.scheduled_at_ms for check in queue.waiting() if check.scheduled_at_ms > died_ms)
    assert seed.now_ms() - died_ms < TAKEOVER_S * 1000 + 1_000
    assert first_after - died_ms < TAKEOVER_S * 1000
    assert epoch(seed) == 2
    # At most what the leader had dispatched since its last renewal was dispatched again: one slot each.
    for number in numbers:
        ours = slots(queue, number)
        assert len(ours) - len(set(ours)) <= 1
    # What was passed over is said, not made up for.
    standby.wait_for("slots_passed_over")
    assert sum(line["slots"] for line in standby.logged("slots_passed_over")) > 0


def test_a_frozen_leader_does_no_harm_when_it_wakes(seed: Seed, roles: Roles, queue: Queue) -> None:
    seed.monitors(["http://t"] * 5, interval_s=1, timeout_s=1.0)
    sleeper = roles.leader()
    standby = roles.standby()

    sleeper.freeze()
    took = standby.wait_for("leading", TAKEOVER_S)
    time.sleep(max(0.0, 8.0 - took))
    led_from_ms = seed.now_ms()
    sleeper.thaw()
    sleeper.wait_for("standing_by", 3)
    time.sleep(1.5)

    late = [check for check in queue.waiting() if check.scheduled_at_ms > led_from_ms]
    assert len(late) == len(set(late)) >= 5
    assert epoch(seed) == 2
    assert len(sleeper.logged("leading")) == len(standby.logged("leading")) == 1
    assert sleeper.alive and standby.alive


def test_a_leader_that_is_asked_to_stop_hands_over_at_once_and_loses_nothing(
    seed: Seed, roles: Roles, queue: Queue
) -> None:
    numbers = seed.monitors(["http://t"] * 20, interval_s=1, timeout_s=1.0)
    leader = roles.leader()
    standby = roles.standby()
    wait_until(lambda: len(queue.waiting()) >= 60, 10)

    assert leader.terminate(5) == 0
    assert standby.wait_for("leading", 2) < 1.5

    time.sleep(2.0)
    for number in numbers:
        ours = sorted(slots(queue, number))[1:]  # the first is the check at creation
        assert ours == list(range(ours[0], ours[-1] + 1, 1000))  # no gap, nothing twice
    assert not standby.logged("slots_passed_over")


def test_the_leader_follows_every_change_of_a_monitor(seed: Seed, roles: Roles, queue: Queue) -> None:
    roles.leader()
    number = seed.monitor("http://t", interval_s=60)
    wait_until(lambda: len(slots(queue, number)) == 1, 2, "the check at creation")

    seed.run("UPDATE monitors SET enabled = false WHERE monitor_no = %s", number)
    time.sleep(0.6)
    seed.run(
        "UPDATE monitors SET enabled = true, interval_s = 1, timeout_s = 1, config_version = 2,"
        " check_from = clock_timestamp() WHERE monitor_no = %s",
        number,
    )
    wait_until(lambda: len(slots(queue, number)) >= 4, 5, "a check at once and then one a second")
    assert [check.config_version for check in queue.waiting()][1:4] == [2, 2, 2]

    seed.run("UPDATE monitors SET deleted_at = now() WHERE monitor_no = %s", number)

    def quiet() -> bool:
        before = len(queue.waiting())
        time.sleep(1.5)
        return len(queue.waiting()) == before

    wait_until(quiet, 10, "no further check of what is deleted")
    assert_no_slot_twice(queue)


def test_confirmations_are_urgent_and_known_slow_monitors_start_in_the_slow_lane(
    seed: Seed, roles: Roles, queue: Queue
) -> None:
    slow = seed.monitor("http://t", interval_s=1, timeout_s=1.0)
    seed.run("UPDATE votes SET slow = true WHERE monitor_no = %s", slow)
    failing = seed.monitor("http://t", interval_s=600, check_from="2020-01-01")
    roles.leader()
    seed.run("UPDATE votes SET confirm_at = clock_timestamp() + interval '1 second' WHERE monitor_no = %s", failing)
    confirm_ms = int(seed.run("SELECT extract(epoch FROM max(confirm_at)) * 1000 FROM votes")[0][0])

    wait_until(lambda: queue.waiting(Lane.URGENT), 3)
    assert 0 <= seed.now_ms() - confirm_ms < 500
    wait_until(lambda: len(queue.waiting(Lane.SLOW)) >= 2, 3)
    assert queue.waiting(Lane.FAST) == []

    seed.run(f"NOTIFY tocsin_lanes, '{seed.location()}:{slow}:0'")
    wait_until(lambda: queue.waiting(Lane.FAST), 2, "what a writer noted")
    assert queue.waiting(Lane.URGENT) == [Check(failing, 1, confirm_ms, Kind.CONFIRM)]
