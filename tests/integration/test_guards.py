"""Guards whose absence only a look at the right moment shows: see tests/chaos/guards.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from common.clock import utc_now
from common.domain.checks import Verdict
from common.store import notifications
from common.store.engine import Connection, Database, DatabaseRole
from common.store.notifications import Claimed, Limits
from tests.conftest import Databases
from tests.integration.test_writer import Bench, bench, loop, seed
from tests.sink import Sink
from tests.stack import Queue, Roles, Seed, scheduled, wait_until
from tests.world import World
from worker.writer import Writer

__all__ = ["bench", "loop", "seed"]  # fixtures

_TRANSITIONS = 5
_ROOM = Limits(per_channel=10, limit=100, busy={})

Claim = Callable[[Connection, list[str]], list[Claimed]]


@pytest.fixture
def careless(database_url: str) -> Iterator[Database]:
    """A pool as the writer has it: what is not asked to be durable may be lost in a crash."""
    database = Database(database_url, DatabaseRole.WORKER, application="careless", durable=False)
    yield database
    database.dispose()


def test_a_message_is_held_until_its_results_are_committed(
    seed: Seed, database_url: str, redis_url: str
) -> None:  # fmt: skip
    queue = Queue(redis_url)
    with Sink() as target, Roles(database_url, redis_url) as roles, psycopg.connect(database_url) as lock:
        number = seed.monitor(target.url("/up"))
        roles.worker()
        lock.execute("LOCK TABLE results IN ACCESS EXCLUSIVE MODE")
        queue.push([scheduled(number, seed.now_ms())])
        assert target.wait_for(lambda: bool(target.received))
        time.sleep(1.0)  # far longer than the acknowledgement of a check that is over
        assert queue.held() == 1
        lock.rollback()
        wait_until(lambda: not queue.held(), 60)
        assert seed.count("results") == 1


def test_a_transition_is_on_disk_when_it_is_committed(bench: Bench, careless: Database, database_url: str) -> None:
    writer = bench.another(careless)
    with psycopg.connect(database_url, autocommit=True) as look:
        unwritten = [_unwritten_after(bench, writer, look) for _ in range(_TRANSITIONS)]
    assert bench.events() == ["opened"] * _TRANSITIONS
    # Somebody else in the server may just have written something; not every time.
    assert min(unwritten) == 0


def _unwritten_after(bench: Bench, writer: Writer, look: psycopg.Connection[tuple[int]]) -> int:
    """Bytes of the log that are not on disk right after a transition was committed."""
    number = bench.monitor(failure_threshold=1)
    bench.submit([bench.judged(number, 1, Verdict.DOWN)], writer)
    bench.drain(writer)
    row = look.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn())").fetchone()
    assert row is not None
    return int(row[0])


def test_an_event_that_is_relayed_twice_is_told_once(databases: Databases) -> None:
    world = World(databases.owner, databases.worker)
    world.channel("http://a")
    world.channel("http://b")
    world.open()
    for _ in range(2):
        world.relay_all()
        world.run(
            "INSERT INTO outbox (org_id, incident_id, event_id, type)"
            " SELECT org_id, incident_id, id, type FROM incident_events"
        )
    world.relay_all()
    assert world.statuses() == [("opened", "pending", None)] * 2
    assert world.run("SELECT count(*) FROM outbox")[0][0] == 0


@pytest.mark.parametrize(
    "claim",
    [
        lambda connection, _ids: notifications.claim_due(
            connection, notifications.waiting_channels(connection), _ROOM, utc_now()
        ),
        lambda connection, ids: notifications.claim_named(connection, ids, _ROOM, utc_now()),
    ],
    ids=["due", "named"],
)
def test_what_somebody_is_claiming_right_now_is_left_to_him(databases: Databases, claim: Claim) -> None:
    world = World(databases.owner, databases.worker)
    world.channel("http://a")
    world.open(5)
    world.relay_all()
    ids = [row[0] for row in world.run("SELECT id::text FROM notifications")]

    def claim_too() -> list[Claimed]:
        with world.worker.begin() as connection:
            return claim(connection, ids)

    with ThreadPoolExecutor(1) as pool:
        with world.worker.begin() as connection:
            assert len(claim(connection, ids)) == 5
            rival = pool.submit(claim_too)
            time.sleep(0.3)  # it has read the ledger before we commit
        assert rival.result(60) == []


def test_what_the_database_refuses_is_told_without_its_values(databases: Databases) -> None:
    with pytest.raises(DBAPIError) as refused, databases.worker.begin() as connection:
        connection.exec_driver_sql("SELECT 1 / 0, %(secret)s::text", {"secret": "hunter2"})
    assert "division by zero" in str(refused.value)
    assert "hunter2" not in str(refused.value)
