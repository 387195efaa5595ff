"""The lease, with the leases of several schedulers side by side on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from common.clock import DatabaseClock
from common.domain.errors import Unavailable
from common.store import leases
from common.store.engine import Database, DatabaseRole
from scheduler.lease import NAME, Lease, LeaseTimes
from tests.conftest import Databases

#: Nothing expires by itself: time passes when a test says so, however long this machine stands still.
TIMES = LeaseTimes(ttl_s=600, deadline_s=300, retry_s=50)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The clock of every candidate."""
    return Clock()


@pytest.fixture
def make_lease(databases: Databases, clock: Clock) -> Callable[..., Lease]:
    def make(holder: str, monotonic: Callable[[], float] = clock, database: Database | None = None) -> Lease:
        return Lease(database or databases.worker, DatabaseClock(), holder, monotonic=monotonic, times=TIMES)

    return make


@pytest.fixture
def passes(databases: Databases, clock: Clock) -> Callable[[float], None]:
    """So many seconds go by, for the lease in the database as for those who ask for it."""

    def go_by(seconds: float) -> None:
        clock.now_s += seconds
        with databases.owner.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE leases SET expires_at = expires_at - %(s)s * interval '1 second'", {"s": seconds}
            )

    return go_by


@pytest.fixture
def alice(make_lease: Callable[..., Lease]) -> Lease:
    return make_lease("alice")


@pytest.fixture
def bob(make_lease: Callable[..., Lease]) -> Lease:
    return make_lease("bob")


def stored(databases: Databases) -> tuple[str, int, bool]:
    with databases.worker.begin() as connection:
        row = leases.read(connection, NAME)
    assert row is not None
    return row


def dispatched_to_ms(databases: Databases) -> int:
    with databases.owner.begin() as connection:
        value = connection.exec_driver_sql("SELECT extract(epoch FROM dispatched_to) * 1000 FROM leases").scalar_one()
    return int(value)


def test_the_first_to_ask_leads_and_the_other_stands_by(alice: Lease, bob: Lease, databases: Databases) -> None:
    alice.step()
    bob.step()
    term = alice.held()
    assert term is not None and term.epoch == 1
    assert bob.held() is None
    assert stored(databases) == ("alice", 1, True)


def test_many_that_ask_at_the_same_moment_get_one_leader(make_lease: Callable[..., Lease]) -> None:
    candidates = [make_lease(f"holder-{number}") for number in range(8)]
    ready = threading.Barrier(len(candidates))

    def ask(lease: Lease) -> None:
        ready.wait()
        with suppress(Unavailable):  # the pool of this test is smaller than the crowd
            lease.step()

    threads = [threading.Thread(target=ask, args=(lease,)) for lease in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lease.held() is not None for lease in candidates) == 1


def test_a_renewed_lease_is_never_taken(alice: Lease, bob: Lease, passes: Callable[[float], None]) -> None:
    alice.step()
    for _ in range(int(3 * TIMES.ttl_s / TIMES.retry_s)):
        passes(TIMES.retry_s)
        alice.step()
        bob.step()
        assert alice.held() is not None and bob.held() is None


def test_an_expired_lease_is_taken_over_with_the_next_epoch_and_where_the_last_one_stopped(
    alice: Lease, bob: Lease, databases: Databases, passes: Callable[[float], None]
) -> None:
    alice.step()
    first = alice.held()
    assert first is not None
    alice.dispatched(first.since_ms + 12_345)
    alice.step()
    passes(TIMES.ttl_s / 2)
    bob.step()
    assert bob.held() is None
    passes(TIMES.ttl_s / 2 + 0.1)

    bob.step()
    term = bob.held()
    assert term is not None
    assert (term.epoch, term.since_ms) == (2, first.since_ms + 12_345)
    assert stored(databases) == ("bob", 2, True)


def test_a_holder_that_was_frozen_knows_at_once_and_finds_its_lease_lost(
    make_lease: Callable[..., Lease], bob: Lease, databases: Databases, passes: Callable[[float], None]
) -> None:
    sleeper = make_lease("sleeper")
    sleeper.step()
    assert sleeper.held() is not None

    passes(TIMES.ttl_s + 0.1)
    bob.step()
    assert sleeper.held() is None  # before it has asked anybody
    sleeper.step()
    assert sleeper.held() is None
    assert stored(databases) == ("bob", 2, True)
    sleeper.step()  # now it is a candidate like any other
    assert sleeper.held() is None
    sleeper.release()
    assert stored(databases) == ("bob", 2, True)


def test_nobody_leads_past_the_deadline_without_a_renewal_although_the_lease_still_holds(
    alice: Lease, bob: Lease, passes: Callable[[float], None]
) -> None:
    alice.step()
    passes(TIMES.deadline_s)
    assert alice.held() is None
    bob.step()
    assert bob.held() is None  # it waits for the lease itself: never two


def test_the_deadline_counts_from_before_the_renewal_was_sent(make_lease: Callable[..., Lease]) -> None:
    ticks = iter([100.0, *[100.0 + TIMES.deadline_s] * 20])  # the database took so long to answer
    lease = make_lease("alice", lambda: next(ticks))
    lease.step()
    assert lease.held() is None


def test_who_stopped_and_was_not_replaced_goes_on_in_the_same_epoch_from_where_it_stopped(
    alice: Lease, passes: Callable[[float], None]
) -> None:
    alice.step()
    first = alice.held()
    assert first is not None
    alice.dispatched(first.since_ms + 60_000)
    passes(TIMES.deadline_s + 0.1)
    assert alice.held() is None

    alice.step()
    again = alice.held()
    assert again is not None
    # From there and not from the start of its term: else every slot since would count as passed over.
    assert (again.epoch, again.since_ms) == (first.epoch, first.since_ms + 60_000)


def test_a_release_lets_a_standby_lead_at_once(alice: Lease, bob: Lease, databases: Databases) -> None:
    alice.step()
    term = alice.held()
    assert term is not None
    alice.dispatched(term.since_ms + 777)
    alice.release()
    assert alice.held() is None

    bob.step()
    after = bob.held()
    assert after is not None
    assert (after.epoch, after.since_ms) == (2, term.since_ms + 777)
    alice.release()  # a second time nothing happens
    assert stored(databases) == ("bob", 2, True)


def test_dispatched_to_never_goes_back(alice: Lease, bob: Lease, databases: Databases) -> None:
    alice.step()
    term = alice.held()
    assert term is not None
    for ahead_ms in (5_000, 1_000, 3_000):
        alice.dispatched(term.since_ms + ahead_ms)
        alice.step()
        assert dispatched_to_ms(databases) == term.since_ms + 5_000
    with databases.worker.begin() as connection:  # even if somebody writes it who is behind
        leases.renew(connection, NAME, "alice", epoch=1, ttl_s=1, dispatched_to_ms=term.since_ms)
        leases.release(connection, NAME, "alice", epoch=1, dispatched_to_ms=term.since_ms)
    bob.step()
    after = bob.held()
    assert after is not None and after.since_ms == term.since_ms + 5_000


def test_nothing_is_renewed_or_released_with_an_old_epoch(alice: Lease, databases: Databases) -> None:
    alice.step()
    with databases.worker.begin() as connection:
        assert not leases.renew(connection, NAME, "alice", epoch=0, ttl_s=9, dispatched_to_ms=2**41)
        assert not leases.renew(connection, NAME, "mallory", epoch=1, ttl_s=9, dispatched_to_ms=2**41)
        leases.release(connection, NAME, "alice", epoch=0, dispatched_to_ms=2**41)
    assert stored(databases) == ("alice", 1, True)
    assert dispatched_to_ms(databases) < 2**41


@pytest.fixture
def nowhere() -> Iterator[Database]:
    database = Database("postgresql://u@127.0.0.1:1/x", DatabaseRole.WORKER, application="test")
    yield database
    database.dispose()


def test_without_a_database_leadership_ends_by_itself(
    alice: Lease, nowhere: Database, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    alice.step()
    monkeypatch.setattr(alice, "_database", nowhere)
    with pytest.raises(Unavailable):
        alice.step()
    assert alice.held() is not None  # the last renewal still counts
    clock.now_s += TIMES.deadline_s
    assert alice.held() is None
