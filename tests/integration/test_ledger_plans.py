"""Claims and redelivery with a full ledger: their cost does not depend on what the planner believes is pending."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event

from common.clock import utc_now
from common.store import bundles, notifications, redeliveries, vitals
from common.store.engine import Connection, Database, DatabaseRole
from common.store.notifications import Limits
from tests.conftest import Databases
from tests.world import World

ROWS = 20_000
#: A good plan takes well under a second; a bad one, which reads all that is pending for each row, minutes.
PATIENCE_S = 30

_INCIDENTS = """
INSERT INTO incidents
SELECT (jsonb_populate_record(i, jsonb_build_object('id', gen_random_uuid(), 'dedup_key', 'storm-' || g))).*
  FROM incidents i, generate_series(1, %(rows)s) g
"""
_EVENTS = """
INSERT INTO incident_events
SELECT (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid(), 'incident_id', i.id, 'seq', null))).*
  FROM incident_events e, incidents i WHERE i.id <> e.incident_id
"""
_LEDGER = """
INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, reason, next_attempt_at)
SELECT gen_random_uuid(), e.org_id, e.id, e.incident_id, %(channel)s, 'opened', %(status)s, 'expired', now()
  FROM incident_events e
"""
_FLIP = "UPDATE notifications SET status = 'pending', reason = NULL"


class _Over(Exception):
    """The end of a storm that nobody keeps."""


def _storm(world: World, work: Callable[[Connection], None]) -> None:
    """Everything becomes pending, `work`, and all of it is rolled back.

    So the first time statistics are those of a quiet time, and the indexes of what is pending were never filled; the
    next time these are large, and the planner believes that they hold nothing.
    """
    with suppress(_Over), world.owner.begin() as connection:
        connection.exec_driver_sql(_FLIP)
        work(connection)
        raise _Over


@pytest.fixture
def full(databases: Databases, request: pytest.FixtureRequest) -> World:
    """20,000 incidents at one channel, nothing pending, analyzed."""
    world = World(databases.owner, databases.worker)
    world.run("ALTER TABLE notifications SET (autovacuum_enabled = false)")
    channel = world.channel("http://127.0.0.1:9/")
    world.open()
    world.run("DELETE FROM outbox")
    world.run(_INCIDENTS, rows=ROWS - 1)
    world.run(_EVENTS)
    world.run(_LEDGER, channel=channel, status=request.param)
    world.run("ANALYZE notifications, incident_events, incidents, channels")
    return world


def _indexes(plan: Any) -> dict[str, set[str]]:
    """{alias: indexes by which it is read; "" for none}."""
    found: dict[str, set[str]] = {}
    if plan.get("Relation Name") == "notifications" and "Scan" in plan["Node Type"]:
        found.setdefault(plan["Alias"], set()).add(plan.get("Index Name", ""))
    for child in plan.get("Plans", []):
        for alias, names in _indexes(child).items():
            found.setdefault(alias, set()).update(names)
    return found


def _explained(connection: Connection, work: Callable[[], Any]) -> dict[str, set[str]]:
    """How every statement of `work` that reads an older notification `o` reads it."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    work()
    event.remove(connection, "before_cursor_execute", note)
    found: dict[str, set[str]] = {}
    for statement, parameters in statements:
        for ((plan,),) in connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).all():
            for alias, names in _indexes(plan["Plan"]).items():
                found.setdefault(alias, set()).update(names)
    return found


@pytest.mark.parametrize("full", ["suppressed"], indirect=True)
def test_claims_read_the_oldest_of_an_incident_by_its_own_index(full: World) -> None:
    (channel,) = (row[0] for row in full.run("SELECT id::text FROM channels"))
    ids = [row[0] for row in full.run("SELECT id::text FROM notifications ORDER BY no DESC LIMIT 1000")]
    limits, now = Limits(per_channel=8, limit=64, busy={}), utc_now()

    def claims(connection: Connection) -> None:
        started = time.monotonic()
        read = _explained(connection, lambda: notifications.claim_named(connection, ids, limits, now))
        assert read.pop("o") | read.pop("o_1") == {"notifications_in_order"}
        # Before 17 a thousand ids are dearer by index than 20,000 rows without; a hint brings twenty.
        whole = {""} if connection.dialect.server_version_info < (17,) else set()
        assert set().union(*read.values()) <= {"notifications_pkey", "notifications_org_id_id_key"} | whole
        read = _explained(connection, lambda: notifications.claim_due(connection, [channel], limits, now))
        assert read["o"] == {"notifications_in_order"}
        assert read["n_1"] == {"notifications_by_channel"}
        connection.exec_driver_sql("UPDATE channels SET failures = 1, retry_at = now() - interval '1 second'")
        read = _explained(connection, lambda: bundles.claim_trials(connection, limits, now))
        assert read["o"] == {"notifications_in_order"}
        connection.exec_driver_sql("UPDATE channels SET failures = 0, cap_count = 5, cap_window_s = 60")
        read = _explained(connection, lambda: bundles.claim_bundles(connection, [channel], limits, now))
        assert read["o"] == {"notifications_in_order"}
        read = _explained(connection, lambda: vitals.stuck(connection, now))
        assert read["n_1"] == {"notifications_by_channel"}
        assert read["o"] == {"notifications_in_order"}
        assert time.monotonic() - started < PATIENCE_S

    _storm(full, claims)
    _storm(full, claims)


def test_the_notifiers_statements_are_planned_for_their_own_values(database_url: str) -> None:
    database = Database(database_url, DatabaseRole.WORKER, application="test", custom_plans=True)
    with database.begin() as connection:
        for number in range(12):  # prepared from the sixth on, a generic plan would be taken from the eleventh on
            connection.exec_driver_sql("SELECT id FROM channels WHERE failures = %(n)s", {"n": number})
        prepared = connection.exec_driver_sql("SELECT name FROM pg_prepared_statements").all()
        # Foreign keys are checked by plans of their own, once for every row: these have to be kept.
        mode = connection.exec_driver_sql("SHOW plan_cache_mode").scalar_one()
    database.dispose()
    assert (prepared, mode) == ([], "auto")


@pytest.mark.parametrize("full", ["dead"], indirect=True)
def test_redelivery_of_a_full_ledger_is_quick(full: World) -> None:
    wanted = redeliveries.Wanted(channel_id=full.run("SELECT id::text FROM channels")[0][0])
    for number in range(2):
        started = time.monotonic()
        with full.owner.begin() as connection:
            ids = redeliveries.find(connection, org_id=full.org_id, wanted=wanted)
            assert len(ids) == redeliveries.MOST
            assert set(redeliveries.redeliver(connection, org_id=full.org_id, ids=ids).values()) == {None}
            read = _explained(connection, lambda: redeliveries.count(connection, org_id=full.org_id, wanted=wanted))
            assert read["o_1"] <= {"notifications_in_order", "notifications_by_incident"}
            left = redeliveries.count(connection, org_id=full.org_id, wanted=wanted)
        assert left == ROWS - (number + 1) * redeliveries.MOST
        assert time.monotonic() - started < PATIENCE_S
        _storm(full, lambda _connection: None)
