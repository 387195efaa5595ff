"""Alerts in the store: one incident per problem whatever is sent twice, at once or in halves (AR3)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from common.clock import utc_now
from common.domain.alerts import Alert, AlertStatus, Outcome
from common.domain.errors import Contended
from common.domain.incident import Severity
from common.store import alerts
from common.store.alerts import Offer
from common.store.engine import Connection, Database, DatabaseRole
from common.store.incidents import Deed
from tests.conftest import Databases
from tests.stack import Seed

AT = utc_now()
DEED = Deed("api-key:k", AT, "request-1")
DISK = Alert(
    "Disk full", "node", Severity.WARNING, AlertStatus.FIRING, "disk",
    summary="/ is at 97 %", description="since noon", labels={"host": "a"}, starts_at=AT,
)  # fmt: skip
OVER = replace(DISK, status=AlertStatus.RESOLVED)
CROWD = 8

OPENED, RESOLVED, DEDUPLICATED = Outcome.OPENED, Outcome.RESOLVED, Outcome.DEDUPLICATED


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


def take(databases: Databases, orgs: Seed | Sequence[Seed], *batch: Alert) -> list[Outcome]:
    """Each alert for each of these organizations, as the platform's inputs do."""
    seeds = [orgs] if isinstance(orgs, Seed) else orgs
    offers = [Offer(seed.org_id, place) for place in range(len(batch)) for seed in seeds]
    with databases.worker.begin() as connection:
        return alerts.take(connection, batch, offers, DEED)


def types(seed: Seed) -> list[str]:
    return [row[0] for row in seed.run("SELECT type FROM incident_events ORDER BY incident_id, version")]


def incident(seed: Seed, columns: str) -> Any:
    (row,) = seed.run(f"SELECT {columns} FROM incidents WHERE org_id = %s", seed.org_id)
    return row


def test_a_firing_alert_is_an_incident_an_event_an_outbox_row_and_an_identity(seed: Seed, databases: Databases) -> None:
    assert take(databases, seed, DISK) == [OPENED]
    assert incident(seed, "name, source, title, description, severity, priority, status, labels, dedup_key") == (
        "Disk full", "node", "/ is at 97 %", "since noon", "warning", "P3", "open", {"host": "a"}, "disk",
    )  # fmt: skip
    cause = incident(seed, "cause")[0]
    assert (cause["reason"], cause["message"], cause["starts_at"]) == ("alert", "/ is at 97 %", AT.isoformat())
    ((type_, actor, version, snapshot),) = seed.run("SELECT type, actor, version, snapshot FROM incident_events")
    assert (type_, actor, version) == ("opened", "api-key:k", 1)
    assert (snapshot["monitor"], snapshot["incident"]["title"]) == (None, "/ is at 97 %")
    assert seed.run("SELECT o.type, o.incident_id = i.id, o.event_id = e.id FROM outbox o, incidents i,"
                    " incident_events e") == [("opened", True, True)]  # fmt: skip
    assert seed.run("SELECT a.alert_id, a.status, a.incident_id = i.id FROM alerts a, incidents i") == [
        (DISK.identity, "firing", True)
    ]


def test_the_same_again_changes_nothing_and_a_new_start_meets_the_open_incident(
    seed: Seed, databases: Databases
) -> None:
    later = replace(DISK, starts_at=AT + timedelta(minutes=5))
    assert [take(databases, seed, alert) for alert in (DISK, DISK, later)] == [[OPENED], [DEDUPLICATED], [DEDUPLICATED]]
    assert types(seed) == ["opened"]
    assert seed.run("SELECT count(*), count(DISTINCT incident_id) FROM alerts") == [(2, 1)]


def test_a_resolved_alert_resolves_and_is_announced(seed: Seed, databases: Databases) -> None:
    take(databases, seed, DISK)
    assert take(databases, seed, OVER) == [RESOLVED]
    assert incident(seed, "status, resolved_at") == ("resolved", AT)
    assert types(seed) == ["opened", "resolved"]
    assert seed.run("SELECT type FROM outbox ORDER BY id") == [("opened",), ("resolved",)]


def test_after_its_end_a_repeat_is_known_by_its_identity_and_a_new_start_opens_anew(
    seed: Seed, databases: Databases
) -> None:
    take(databases, seed, DISK)
    take(databases, seed, OVER)
    assert take(databases, seed, DISK) == [DEDUPLICATED]
    assert take(databases, seed, OVER) == [DEDUPLICATED]
    assert take(databases, seed, replace(DISK, starts_at=AT + timedelta(hours=1))) == [OPENED]
    assert seed.count("incidents") == 2


def test_without_a_start_only_what_is_open_makes_a_repeat(seed: Seed, databases: Databases) -> None:
    disk, over = replace(DISK, starts_at=None), replace(OVER, starts_at=None)
    found = [take(databases, seed, alert)[0] for alert in (disk, disk, over, over, disk)]
    assert found == [OPENED, DEDUPLICATED, RESOLVED, DEDUPLICATED, OPENED]
    assert (seed.count("incidents"), seed.count("alerts")) == (2, 0)


def test_an_alert_id_that_was_taken_is_a_repeat_whatever_it_says_now(seed: Seed, databases: Databases) -> None:
    first = replace(DISK, alert_id="a1")
    assert take(databases, seed, first) == [OPENED]
    for repeat in (
        first,
        replace(OVER, alert_id="a1"),
        replace(first, dedup_key="cpu"),
        replace(first, starts_at=None),
    ):
        assert take(databases, seed, repeat) == [DEDUPLICATED]
    assert types(seed) == ["opened"]


def test_an_end_that_comes_before_its_beginning_may_come_again(seed: Seed, databases: Databases) -> None:
    assert [take(databases, seed, alert)[0] for alert in (OVER, DISK, OVER)] == [DEDUPLICATED, OPENED, RESOLVED]


def test_a_worse_alert_escalates_the_open_incident_and_a_milder_one_does_not(seed: Seed, databases: Databases) -> None:
    starts = (AT + timedelta(seconds=n) for n in range(9))
    severities = (Severity.WARNING, Severity.CRITICAL, Severity.INFO, Severity.CRITICAL)
    batch = [replace(DISK, severity=severity, starts_at=next(starts), summary=severity) for severity in severities]
    found = [take(databases, seed, alert)[0] for alert in batch]
    assert found == [OPENED, DEDUPLICATED, DEDUPLICATED, DEDUPLICATED]
    assert types(seed) == ["opened", "escalated"]
    assert incident(seed, "severity, priority, title, version") == ("critical", "P1", "critical", 2)
    assert seed.run("SELECT type FROM outbox ORDER BY id") == [("opened",), ("escalated",)]


def test_a_worse_severity_of_the_same_start_escalates_once(seed: Seed, databases: Databases) -> None:
    worse = replace(DISK, severity=Severity.CRITICAL)
    assert [take(databases, seed, alert) for alert in (DISK, worse, worse)] == [
        [OPENED],
        [DEDUPLICATED],
        [DEDUPLICATED],
    ]
    assert types(seed) == ["opened", "escalated"]
    # Somebody knows better: the repeats do not undo it.
    seed.run("UPDATE incidents SET severity = 'info'")
    for repeat in (DISK, worse):
        take(databases, seed, repeat)
    assert (incident(seed, "severity"), types(seed)) == (("info",), ["opened", "escalated"])


def test_both_severities_of_a_start_in_one_batch_open_the_worse(seed: Seed, databases: Databases) -> None:
    assert take(databases, seed, DISK, replace(DISK, severity=Severity.CRITICAL)) == [DEDUPLICATED, OPENED]
    assert incident(seed, "severity") == ("critical",)


@pytest.mark.parametrize("severity", Severity)
def test_what_is_over_is_not_opened_again_by_another_severity(
    seed: Seed, databases: Databases, severity: Severity
) -> None:
    other = replace(DISK, severity=severity)
    assert [take(databases, seed, alert)[0] for alert in (DISK, OVER)] == [OPENED, RESOLVED]
    again = replace(DISK, dedup_key="cpu")
    assert take(databases, seed, other, again, other) == [DEDUPLICATED, OPENED, DEDUPLICATED]
    assert take(databases, seed, replace(other, starts_at=AT + timedelta(seconds=1))) == [OPENED]
    assert seed.count("incidents") == 3


def test_an_acknowledged_incident_stays_acknowledged_while_it_fires_on(seed: Seed, databases: Databases) -> None:
    take(databases, seed, DISK)
    with databases.worker.begin() as connection:
        assert alerts.acknowledge(connection, org_id=seed.org_id, key="disk", deed=DEED) == 1
        assert alerts.acknowledge(connection, org_id=seed.org_id, key="disk", deed=DEED) == 0
    take(databases, seed, replace(DISK, starts_at=AT + timedelta(seconds=1), severity=Severity.CRITICAL))
    assert incident(seed, "status, severity") == ("acknowledged", "critical")
    assert types(seed) == ["opened", "acknowledged", "escalated"]


def test_alerts_of_one_problem_in_one_batch_are_one_incident_of_the_worst(seed: Seed, databases: Databases) -> None:
    batch = [
        replace(DISK, severity=severity, alert_id=f"a{n}")
        for n, severity in enumerate((Severity.INFO, Severity.CRITICAL, Severity.ERROR))
    ]
    assert take(databases, seed, *batch, batch[0]) == [DEDUPLICATED, OPENED, DEDUPLICATED, DEDUPLICATED]
    assert incident(seed, "severity") == ("critical",)
    assert seed.run("SELECT count(*), count(DISTINCT incident_id) FROM alerts") == [(3, 1)]


def test_an_alert_of_several_organizations_is_an_incident_of_each(seed: Seed, databases: Databases) -> None:
    other = Seed(seed.database_url)
    assert take(databases, [seed, other], DISK) == [OPENED, OPENED]
    assert take(databases, seed, OVER) == [RESOLVED]
    with databases.worker.begin() as connection:
        assert alerts.open_anywhere(connection, ["disk", "cpu"]) == {"disk": [other.org_id]}
    assert (incident(seed, "status"), incident(other, "status")) == (("resolved",), ("open",))


def test_an_organization_writes_its_own_and_touches_no_other(seed: Seed, databases: Databases) -> None:
    other = Seed(seed.database_url)
    take(databases, [seed, other], DISK)
    with databases.api.begin(seed.org_id) as connection:
        assert alerts.take(connection, [OVER], [Offer(seed.org_id, 0)], DEED) == [RESOLVED]
        assert alerts.acknowledge(connection, org_id=seed.org_id, key="disk", deed=DEED) == 0
        # Row-level security hides what is theirs, so there is nothing to end.
        assert alerts.take(connection, [OVER], [Offer(other.org_id, 0)], DEED) == [DEDUPLICATED]
        owners = connection.exec_driver_sql("SELECT DISTINCT org_id::text FROM alerts").scalars().all()
    assert owners == [seed.org_id]
    assert incident(other, "status") == ("open",)


def test_a_batch_that_breaks_off_leaves_nothing_and_its_repeat_takes_all(seed: Seed, databases: Databases) -> None:
    class PowerCut(Exception):
        pass

    batch = [replace(DISK, dedup_key=f"disk-{n}") for n in range(5)]
    offers = [Offer(seed.org_id, place) for place in range(5)]
    with pytest.raises(PowerCut), databases.worker.begin() as connection:  # noqa: PT012 - it breaks off in the middle
        assert alerts.take(connection, batch, offers, DEED) == [OPENED] * 5
        raise PowerCut
    assert [seed.count(table) for table in ("alerts", "incidents", "incident_events", "outbox")] == [0, 0, 0, 0]
    assert take(databases, seed, *batch) == [OPENED] * 5
    assert take(databases, seed, *batch) == [DEDUPLICATED] * 5
    assert [seed.count(table) for table in ("alerts", "incidents", "incident_events", "outbox")] == [5, 5, 5, 5]


def crowd(database_url: str, seed: Seed, batches: Sequence[Sequence[Alert]]) -> list[list[Outcome]]:
    """Everybody sends a batch at the same moment, and again where others got in between; what each was answered."""
    ready = threading.Barrier(len(batches))
    answers: list[list[Outcome]] = []

    def send(database: Database, batch: Sequence[Alert]) -> list[Outcome]:
        with database.begin() as connection:
            return alerts.take(connection, batch, [Offer(seed.org_id, n) for n in range(len(batch))], DEED)

    def one(batch: Sequence[Alert]) -> None:
        database = Database(database_url, DatabaseRole.WORKER, application="crowd", pool_size=1)
        with database.begin() as connection:
            connection.exec_driver_sql("SELECT 1")
        ready.wait()
        while True:
            try:
                answers.append(send(database, batch))
                break
            except Contended:
                continue
        database.dispose()

    threads = [threading.Thread(target=one, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    return answers


@pytest.mark.parametrize("starts_at", [AT, None])
def test_the_same_batch_from_a_crowd_opens_each_problem_once(seed: Seed, database_url: str, starts_at: Any) -> None:
    batch = [replace(DISK, dedup_key=f"disk-{n:02}", starts_at=starts_at) for n in range(40)]
    # Half of them send it backwards: the order of the senders must not matter.
    answers = crowd(database_url, seed, [batch if n % 2 else batch[::-1] for n in range(CROWD)])
    assert len(answers) == CROWD
    assert sum(answer.count(OPENED) for answer in answers) == 40
    assert [seed.count(table) for table in ("incidents", "incident_events", "outbox")] == [40, 40, 40]
    assert seed.run(
        "SELECT count(*) FROM alerts a LEFT JOIN incidents i ON i.id = a.incident_id WHERE i.id IS NULL"
    ) == [(0,)]


def test_openings_and_ends_of_a_crowd_leave_whole_timelines(seed: Seed, database_url: str) -> None:
    def at(n: int, status: AlertStatus) -> list[Alert]:
        start = AT + timedelta(seconds=n)
        return [replace(DISK, dedup_key=f"disk-{k}", starts_at=start, status=status) for k in range(10)]

    batches = [at(n, status) for n in range(CROWD) for status in AlertStatus]
    answers = crowd(database_url, seed, batches)
    assert len(answers) == len(batches)
    opened, ended = (sum(answer.count(kind) for answer in answers) for kind in (OPENED, RESOLVED))
    assert seed.run(
        "SELECT count(*) FILTER (WHERE TRUE), count(*) FILTER (WHERE status = 'resolved') FROM incidents"
    ) == [(opened, ended)]
    # Every timeline is opened and then, if at all, resolved; and a key has at most one open incident.
    timelines = seed.run("SELECT array_agg(type ORDER BY version) FROM incident_events GROUP BY incident_id")
    assert {tuple(row[0]) for row in timelines} <= {("opened",), ("opened", "resolved")}
    assert seed.run("SELECT max(n) FROM (SELECT count(*) AS n FROM incidents WHERE status <> 'resolved'"
                    " GROUP BY dedup_key) x")[0][0] in (None, 1)  # fmt: skip


def test_somebody_elses_incident_is_adopted_and_the_identity_leads_to_it(seed: Seed, databases: Databases) -> None:
    """The one who loses the race for the key: between its look and its insert the other one commits."""
    severe = replace(DISK, severity=Severity.CRITICAL, starts_at=AT + timedelta(seconds=1))
    with databases.worker.begin() as connection:
        meddler = _Meddler(connection, lambda: take(databases, seed, DISK))
        assert alerts.take(meddler, [severe], [Offer(seed.org_id, 0)], DEED) == [DEDUPLICATED]  # type: ignore[arg-type]
    assert incident(seed, "severity") == ("critical",)
    assert types(seed) == ["opened", "escalated"]
    assert seed.run("SELECT count(*) FROM alerts a JOIN incidents i ON i.id = a.incident_id") == [(2,)]


class _Meddler:
    """A connection before whose opening statement something else happens."""

    def __init__(self, connection: Connection, act: Any) -> None:
        self._connection, self._act = connection, act

    def exec_driver_sql(self, sql: str, parameters: Any = None) -> Any:
        if "INSERT INTO incidents" in sql:
            self._act()
        return self._connection.exec_driver_sql(sql, parameters)


def test_identities_are_forgotten_after_their_retention_and_no_sooner(seed: Seed, databases: Databases) -> None:
    take(databases, seed, *[replace(DISK, dedup_key=f"disk-{n}") for n in range(4)])
    for days, key in ((401, "disk-0"), (400.5, "disk-1"), (399, "disk-2")):
        seed.run(
            "UPDATE alerts SET received_at = now() - %s * interval '1 day'"
            " WHERE incident_id = (SELECT id FROM incidents WHERE dedup_key = %s)",
            days,
            key,
        )
    with databases.worker.begin() as connection:
        assert alerts.forget(connection, limit=1) == 1
    with databases.worker.begin() as connection:
        assert (alerts.forget(connection), alerts.forget(connection)) == (1, 0)
    assert (seed.count("alerts"), seed.count("incidents")) == (2, 4)


def test_what_is_open_is_found_in_time_whatever_the_planner_believes(seed: Seed, databases: Databases) -> None:
    """With statistics of a quiet time each batch was paired with everything that is open."""
    take(databases, seed, DISK)
    take(databases, seed, OVER)
    seed.run("ANALYZE")
    plans: list[str] = []

    def note(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if statement == alerts._OPEN:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.append(" ".join(row[0] for row in cursor.fetchall()))

    engine = databases.worker._engine
    event.listen(engine, "before_cursor_execute", note)
    batch = [replace(DISK, dedup_key=f"disk-{number}", starts_at=None) for number in range(500)]
    for _ in range(8):
        assert len(take(databases, seed, *batch)) == 500
    event.remove(engine, "before_cursor_execute", note)
    assert len(plans) == 8 and not any("Join" in plan or "Nested" in plan for plan in plans)
    assert seed.count("incidents") == 501
