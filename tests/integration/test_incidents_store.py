"""Incidents in the store: one open per key under any race, no gap in a timeline, events and outbox together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from common.clock import utc_now
from common.domain.errors import InvalidTransition, NotFound
from common.domain.incident import ANNOUNCED, TOLD_AS, EventType, Severity, Status
from common.store import incident_changes, incidents, incidents_read
from common.store.engine import Connection, Database, DatabaseRole
from common.store.incidents import Alteration, Deed, Opening
from tests.conftest import Databases
from tests.stack import Seed, wait_until

CROWD = 8
KEYS = [f"disk-{number:03}" for number in range(20)]


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


def opening(seed: Seed, key: str = "disk", **fields: Any) -> Opening:
    cause = {"reason": "full"}
    return Opening(seed.org_id, None, "test", key, "Disk is full", Severity.CRITICAL, cause, utc_now(), "c", **fields)


def open_one(databases: Databases, item: Opening) -> str:
    with databases.worker.begin() as connection:
        return incidents.open_all(connection, [item])[item.org_id, item.dedup_key]


def alter(databases: Databases, *items: Alteration) -> set[str]:
    with databases.worker.begin() as connection:
        return incidents.alter_all(connection, items)


def set_status(databases: Databases, seed: Seed, incident: str, wanted: Status) -> dict[str, Any]:
    with databases.api.begin(seed.org_id) as connection:
        incident_changes.set_status(
            connection, org_id=seed.org_id, incident_id=incident, wanted=wanted, deed=Deed("user:alice", utc_now(), "r")
        )
        return incidents_read.get(connection, org_id=seed.org_id, incident_id=incident)


def timeline(seed: Seed, incident: str) -> list[tuple[int, str]]:
    rows = seed.run("SELECT version, type FROM incident_events WHERE incident_id = %s ORDER BY version", incident)
    return [(row[0], row[1]) for row in rows]


def crowd(database_url: str, act: Callable[[Connection, int], None]) -> list[Exception]:
    """Everybody does it at the same moment, each in a transaction of its own; what went wrong."""
    ready, failures = threading.Barrier(CROWD), []

    def one(number: int) -> None:
        database = Database(database_url, DatabaseRole.WORKER, application=f"crowd {number}", pool_size=1)
        try:
            with database.begin() as connection:
                connection.exec_driver_sql("SELECT 1")
                ready.wait()
                act(connection, number)
        except Exception as error:
            failures.append(error)
        database.dispose()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_a_crowd_that_opens_the_same_keys_opens_each_once_and_all_learn_which(seed: Seed, database_url: str) -> None:
    answers: list[dict[tuple[str, str], str]] = []

    def act(connection: Connection, number: int) -> None:
        keys = KEYS if number % 2 else reversed(KEYS)  # the order of the callers must not matter
        answers.append(incidents.open_all(connection, [opening(seed, key) for key in keys]))

    assert crowd(database_url, act) == []
    assert [row[0] for row in seed.run("SELECT dedup_key FROM incidents ORDER BY 1")] == KEYS
    assert all(answer == answers[0] for answer in answers)
    assert set(answers[0].values()) == {row[0] for row in seed.run("SELECT id::text FROM incidents")}
    assert seed.count("incident_events") == seed.count("outbox") == len(KEYS)


def test_an_open_incident_is_adopted_and_hears_nothing_new(seed: Seed, databases: Databases) -> None:
    first = open_one(databases, opening(seed))
    assert open_one(databases, opening(seed)) == first
    assert timeline(seed, first) == [(1, "opened")]
    assert seed.count("outbox") == 1


def test_twice_the_same_key_in_one_call_is_one_incident(seed: Seed, databases: Databases) -> None:
    with databases.worker.begin() as connection:
        ids = incidents.open_all(connection, [opening(seed), opening(seed), opening(seed, "cpu")])
    assert len(ids) == 2 == seed.count("incidents")


def test_the_same_key_of_another_organization_is_another_incident(seed: Seed, databases: Databases) -> None:
    other = Seed(seed.database_url)
    assert open_one(databases, opening(seed)) != open_one(databases, opening(other))


def test_a_resolved_incident_makes_room_for_the_next(seed: Seed, databases: Databases) -> None:
    first = open_one(databases, opening(seed))
    set_status(databases, seed, first, Status.RESOLVED)
    second = open_one(databases, opening(seed, reopened_from=first))
    assert second != first
    assert seed.run("SELECT reopened_from::text FROM incidents WHERE id = %s", second) == [(first,)]


def test_versions_are_contiguous_whoever_writes_at_the_same_time(
    seed: Seed, databases: Databases, database_url: str
) -> None:
    incident = open_one(databases, opening(seed))

    def act(connection: Connection, number: int) -> None:
        if number % 2:
            incident_changes.comment(
                connection, org_id=seed.org_id, incident_id=incident, body="hm", deed=Deed("a", utc_now(), "r")
            )
        else:
            incidents.alter_all(connection, [Alteration(incident, EventType.EASED, utc_now(), "c")])

    assert crowd(database_url, act) == []
    assert [version for version, _ in timeline(seed, incident)] == list(range(1, CROWD + 2))
    assert seed.run("SELECT version FROM incidents") == [(CROWD + 1,)]


def test_of_a_crowd_that_resolves_one_succeeds(seed: Seed, databases: Databases, database_url: str) -> None:
    incident = open_one(databases, opening(seed))
    won: list[set[str]] = []

    def act(connection: Connection, _number: int) -> None:
        change = Alteration(incident, EventType.RESOLVED, utc_now(), "c", status=Status.RESOLVED)
        won.append(incidents.alter_all(connection, [change]))

    assert crowd(database_url, act) == []
    assert sorted(map(len, won)) == [0] * (CROWD - 1) + [1]
    assert timeline(seed, incident) == [(1, "opened"), (2, "resolved")]
    assert seed.count("outbox") == 2


def test_exactly_what_is_announced_has_a_snapshot_and_an_outbox_row(seed: Seed, databases: Databases) -> None:
    incident = open_one(databases, opening(seed))
    by_itself = set(EventType) - {EventType.OPENED, EventType.ACKNOWLEDGED, EventType.RESOLVED}
    for type_ in sorted(by_itself):
        alter(databases, Alteration(incident, type_, utc_now(), "c"))
    set_status(databases, seed, incident, Status.ACKNOWLEDGED)
    set_status(databases, seed, incident, Status.RESOLVED)

    rows = seed.run("SELECT id, type, snapshot IS NOT NULL FROM incident_events ORDER BY version")
    assert {row[1]: row[2] for row in rows} == {type_.value: type_ in ANNOUNCED for type_ in EventType}
    told = seed.run("SELECT event_id, type FROM outbox ORDER BY id")
    assert told == [(row[0], TOLD_AS.get(row[1], row[1])) for row in rows if row[2]]


def test_a_snapshot_shows_the_incident_after_its_event_and_its_monitor(seed: Seed, databases: Databases) -> None:
    number = seed.monitor("http://shop")
    monitor = str(seed.run("SELECT id FROM monitors WHERE monitor_no = %s", number)[0][0])
    item = Opening(
        seed.org_id, monitor, "monitor", f"monitor:{monitor}", "Shop is degraded", Severity.WARNING, {}, utc_now(), "c"
    )
    incident = open_one(databases, item)
    alter(
        databases,
        Alteration(
            incident, EventType.ESCALATED, utc_now(), "c", severity=Severity.CRITICAL, title="Shop is down",
            cause={"reason": "timeout"},
        ),
    )  # fmt: skip
    shots = [row[0] for row in seed.run("SELECT snapshot FROM incident_events ORDER BY version")]
    assert [shot["incident"]["version"] for shot in shots] == [1, 2]
    assert [shot["incident"]["title"] for shot in shots] == ["Shop is degraded", "Shop is down"]
    assert [(shot["incident"]["severity"], shot["incident"]["priority"]) for shot in shots] == [
        ("warning", "P3"), ("critical", "P1"),
    ]  # fmt: skip
    assert shots[1]["incident"]["cause"] == {"reason": "timeout"}
    assert {shot["monitor"]["id"] for shot in shots} == {monitor}


def test_an_event_and_its_outbox_row_are_there_together_or_not_at_all(
    seed: Seed, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "_NOTIFY", "SELECT 1 / 0")  # the last statement of all
    with pytest.raises(Exception, match="division by zero"):
        open_one(databases, opening(seed))
    assert [seed.count(table) for table in ("incidents", "incident_events", "outbox")] == [0, 0, 0]


def test_the_same_status_again_is_no_event_and_a_way_back_is_refused(seed: Seed, databases: Databases) -> None:
    incident = open_one(databases, opening(seed))
    for wanted in (Status.ACKNOWLEDGED, Status.ACKNOWLEDGED, Status.RESOLVED, Status.RESOLVED):
        assert set_status(databases, seed, incident, wanted)["status"] == wanted
    with pytest.raises(InvalidTransition):
        set_status(databases, seed, incident, Status.OPEN)
    assert timeline(seed, incident) == [(1, "opened"), (2, "acknowledged"), (3, "resolved")]
    alter(databases, Alteration(incident, EventType.ESCALATED, utc_now(), "c"))  # too late: it is final
    assert len(timeline(seed, incident)) == 3


def test_acknowledging_keeps_its_time_when_the_incident_is_resolved(seed: Seed, databases: Databases) -> None:
    incident = open_one(databases, opening(seed))
    acknowledged = set_status(databases, seed, incident, Status.ACKNOWLEDGED)["acknowledged_at"]
    document = set_status(databases, seed, incident, Status.RESOLVED)
    assert acknowledged is not None
    assert document["acknowledged_at"] == acknowledged
    assert document["resolved_at"] is not None


def test_another_organizations_incident_does_not_exist(seed: Seed, databases: Databases) -> None:
    incident = open_one(databases, opening(seed))
    stranger = Seed(seed.database_url)
    for id_ in (incident, str(uuid4())):
        with pytest.raises(NotFound):
            set_status(databases, stranger, id_, Status.RESOLVED)
    assert timeline(seed, incident) == [(1, "opened")]


def test_resolving_by_hand_while_checks_are_written_never_deadlocks(seed: Seed, databases: Databases) -> None:
    # The API locks votes, then the state, then the incident; so does the writer. Here: all at once on one monitor.
    number = seed.monitor("http://shop")
    monitor = str(seed.run("SELECT id FROM monitors WHERE monitor_no = %s", number)[0][0])
    item = Opening(seed.org_id, monitor, "monitor", f"monitor:{monitor}", "down", Severity.ERROR, {}, utc_now(), "c")
    incident = open_one(databases, item)
    seed.run("UPDATE monitor_states SET open_incident = %s, health = 3, incident_worst = 3", incident)
    seed.run("UPDATE votes SET health = 3, down = 9, not_up = 9")

    set_status(databases, seed, incident, Status.RESOLVED)

    state = seed.run("SELECT health, incident_worst, open_incident, last_resolved::text FROM monitor_states")
    assert state == [(3, None, None, incident)]
    assert seed.run("SELECT health, down, not_up, confirm_at FROM votes") == [(4, 0, 0, None)]  # released


def test_who_changes_many_at_once_locks_them_in_one_order(databases: Databases, seed: Seed, database_url: str) -> None:
    """Two who change the same ones in different orders wait for each other at the first, and never in a circle."""
    first, last = sorted(open_one(databases, opening(seed, key)) for key in KEYS[:2])
    backwards = [Alteration(id_, EventType.EASED, utc_now(), "c") for id_ in (last, first)]
    waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'backwards' AND wait_event_type = 'Lock'"

    def change() -> None:
        database = Database(database_url, DatabaseRole.WORKER, application="backwards", pool_size=1)
        with database.begin() as connection:
            # The plan that takes them one by one, as they are given.
            connection.exec_driver_sql(
                "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off"
            )
            incidents.alter_all(connection, backwards)
        database.dispose()

    thread = threading.Thread(target=change)
    with databases.worker.begin() as stranger:
        stranger.exec_driver_sql("SELECT 1 FROM incidents WHERE id = %(id)s FOR UPDATE", {"id": last})
        thread.start()
        wait_until(lambda: seed.run(waits) == [(1,)], 60, "it to wait for the last one")
        free = "SELECT id::text FROM incidents WHERE id = ANY(%s::uuid[]) FOR UPDATE SKIP LOCKED"
        assert seed.run(free, [first, last]) == [], "it waits for the last one without having the first"
    thread.join(60)
    assert [timeline(seed, id_)[-1] for id_ in (first, last)] == [(2, "eased")] * 2
