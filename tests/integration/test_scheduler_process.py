"""Schedulers as real processes: one leads, a standby takes over, nothing is dispatched twice or for ever lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from common.broker import queue_name
from common.domain.checks import Check, Kind, Lane
from scheduler.lease import LeaseTimes
from tests.stack import LOCATION, Queue, Roles, Seed, wait_until

#: From a leader's death to the next check.
TAKEOVER_S = 7.0
#: How long a machine that has other things to do may take for anything.
PATIENCE_S = 30.0


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


def forget(queue: Queue) -> None:
    """All that was dispatched so far is taken: past ten seconds of due work a leader would skip slots."""
    name = f"tocsin:{queue_name(Lane.FAST, LOCATION)}"
    queue.redis.delete(name, f"{name}.msgs")


def assert_no_slot_twice(queue: Queue) -> None:
    checks = queue.waiting()
    assert len(checks) == len(set(checks))


def test_a_killed_leader_is_replaced_in_seven_seconds_and_no_slot_is_dispatched_twice(
    seed: Seed, roles: Roles, queue: Queue
) -> None:
    numbers = seed.monitors(["http://t"] * 20, interval_s=1, timeout_s=1.0)
    standby = roles.leader()
    for _ in range(3):
        forget(queue)
        leader, standby = standby, roles.standby()
        wait_until(lambda: len(queue.waiting()) >= 60, PATIENCE_S)

        leader.kill()
        died_ms = seed.now_ms()
        wait_until(lambda at_ms=died_ms: newest(queue) > at_ms + 1_000, PATIENCE_S, "the takeover")

        first_after = min(check.scheduled_at_ms for check in queue.waiting() if check.scheduled_at_ms > died_ms)
        # At most what the leader had dispatched since its last renewal was dispatched again: three slots each if it
        # could not renew for as long as it may lead without.
        for number in numbers:
            ours = slots(queue, number)
            assert len(ours) - len(set(ours)) <= LeaseTimes().deadline_s
        # What was passed over is said, not made up for.
        standby.wait_for("slots_passed_over")
        assert sum(line["slots"] for line in standby.logged("slots_passed_over")) > 0
        led_by = {line["epoch"] for line in standby.logged("leading")}
        assert led_by == {epoch(seed)} and not led_by & {line["epoch"] for line in leader.logged("leading")}
        if first_after - died_ms < TAKEOVER_S * 1000:
            break  # a machine that stutters may be late once; a takeover that takes longer is late every time
    assert first_after - died_ms < TAKEOVER_S * 1000


def test_a_frozen_leader_does_no_harm_when_it_wakes(seed: Seed, roles: Roles, queue: Queue) -> None:
    seed.monitors(["http://t"] * 5, interval_s=1, timeout_s=1.0)
    sleeper = roles.leader()
    standby = roles.standby()

    sleeper.freeze()
    took = standby.wait_for("leading", PATIENCE_S)
    time.sleep(max(0.0, 8.0 - took))
    led_from_ms = seed.now_ms()
    forget(queue)
    sleeper.thaw()
    sleeper.wait_for("standing_by", PATIENCE_S)
    time.sleep(1.5)

    def late() -> list[Check]:
        return [check for check in queue.waiting() if check.scheduled_at_ms > led_from_ms]

    wait_until(lambda: len(late()) >= 5, PATIENCE_S, "a slot of each")
    checks = late()
    assert len(checks) == len(set(checks))
    assert epoch(seed) == 2
    assert {line["epoch"] for line in sleeper.logged("leading")} == {1}
    assert {line["epoch"] for line in standby.logged("leading")} == {2}
    assert sleeper.alive and standby.alive


def test_a_leader_that_is_asked_to_stop_hands_over_at_once_and_loses_nothing(
    seed: Seed, roles: Roles, queue: Queue
) -> None:
    # Every three seconds: a lease that is left to expire costs slots, a moment in which this machine stutters does not.
    numbers = seed.monitors(["http://t"] * 20, interval_s=3, timeout_s=1.0)
    leader = roles.leader()
    standby = roles.standby()
    wait_until(lambda: all(len(slots(queue, number)) >= 2 for number in numbers), PATIENCE_S, "a round")

    assert leader.terminate() == 0
    # Not given back, the lease would hold for five seconds, of which its end may have taken half a one.
    assert standby.wait_for("leading", PATIENCE_S) < 4.0

    led_from_ms = seed.now_ms()
    wait_until(
        lambda: all(max(slots(queue, number)) > led_from_ms for number in numbers), PATIENCE_S, "the round after it"
    )
    for number in numbers:
        ours = sorted(slots(queue, number))[1:]  # the first is the check at creation
        assert ours == list(range(ours[0], ours[-1] + 1, 3000))  # no gap, nothing twice
    assert not standby.logged("slots_passed_over")


def test_the_leader_follows_every_change_of_a_monitor(seed: Seed, roles: Roles, queue: Queue) -> None:
    roles.leader()
    number = seed.monitor("http://t", interval_s=60)
    wait_until(lambda: len(slots(queue, number)) == 1, PATIENCE_S, "the check at creation")
    forget(queue)

    seed.run("UPDATE monitors SET enabled = false WHERE monitor_no = %s", number)
    time.sleep(0.6)
    seed.run(
        "UPDATE monitors SET enabled = true, interval_s = 1, timeout_s = 1, config_version = 2,"
        " check_from = clock_timestamp() WHERE monitor_no = %s",
        number,
    )
    wait_until(lambda: len(slots(queue, number)) >= 3, PATIENCE_S, "a check at once and then one a second")
    assert [check.config_version for check in queue.waiting()][:3] == [2, 2, 2]

    seed.run("UPDATE monitors SET deleted_at = now() WHERE monitor_no = %s", number)

    def quiet() -> bool:
        before = len(queue.waiting())
        time.sleep(1.5)
        return len(queue.waiting()) == before

    wait_until(quiet, PATIENCE_S, "no further check of what is deleted")
    assert_no_slot_twice(queue)


def test_confirmations_are_urgent_and_known_slow_monitors_start_in_the_slow_lane(
    seed: Seed, roles: Roles, queue: Queue
) -> None:
    slow = seed.monitor("http://t", interval_s=1, timeout_s=1.0)
    seed.run("UPDATE votes SET slow = true WHERE monitor_no = %s", slow)
    # No slot of it falls into this test.
    failing = seed.monitor("http://t", interval_s=86_400, check_from="2020-01-01")
    roles.leader()
    seed.run("UPDATE votes SET confirm_at = clock_timestamp() + interval '1 second' WHERE monitor_no = %s", failing)
    confirm_ms = int(seed.run("SELECT extract(epoch FROM max(confirm_at)) * 1000 FROM votes")[0][0])

    wait_until(lambda: queue.waiting(Lane.URGENT), 10)
    assert seed.now_ms() >= confirm_ms
    wait_until(lambda: len(queue.waiting(Lane.SLOW)) >= 2, PATIENCE_S)
    assert queue.waiting(Lane.FAST) == []

    seed.run(f"NOTIFY tocsin_lanes, '{seed.location()}:{slow}:0'")
    wait_until(lambda: queue.waiting(Lane.FAST), PATIENCE_S, "what a writer noted")
    assert queue.waiting(Lane.URGENT) == [Check(failing, 1, confirm_ms, Kind.CONFIRM)]
