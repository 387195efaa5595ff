"""Alerts that end unless they are repeated: once, in time, and never because we let nobody repeat them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.clock import utc_now
from common.domain.alerts import Alert, AlertStatus, Lifetime, Outcome
from common.domain.errors import Contended
from common.domain.incident import Severity, Status
from common.store import alert_ends, alerts, incident_changes
from common.store.alerts import Offer
from common.store.engine import Connection
from common.store.incidents import Deed
from notifier.alert_ends import AlertEnds
from tests.conftest import Databases
from tests.integration.test_alertmanager_peer import free_ports
from tests.integration.test_notifier_process import Notifiers
from tests.stack import Roles, Seed, wait_until
from tests.world import World

NOW = utc_now()
OPENED, RESOLVED, DEDUPLICATED = Outcome.OPENED, Outcome.RESOLVED, Outcome.DEDUPLICATED


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


DISK = Alert(
    "Disk full", "prometheus", Severity.WARNING, AlertStatus.FIRING, "disk",
    starts_at=at(-60), lifetime=Lifetime(at(4)),
)  # fmt: skip
OVER = replace(DISK, status=AlertStatus.RESOLVED)


def lasting(minutes: float | None) -> Alert:
    return replace(DISK, lifetime=Lifetime(None if minutes is None else at(minutes)))


class Intake:
    """Alerts come in at the minute that is told, and so does the notifier's look."""

    def __init__(self, databases: Databases, seed: Seed) -> None:
        self.databases, self.seed = databases, seed
        # Far ahead: the whole run may come between the beginning of time here and a test that asks what time it is.
        self.open(since=-60, seen=1_440)

    def open(self, *, since: float, seen: float) -> None:
        """API processes have taken alerts in from then until then."""
        self.seed.run(
            "INSERT INTO alert_intake (since, seen_at) VALUES (%s, %s)"
            " ON CONFLICT (one) DO UPDATE SET since = excluded.since, seen_at = excluded.seen_at",
            at(since), at(seen),
        )  # fmt: skip

    def take(self, alert: Alert, minute: float = 0) -> Outcome:
        with self.databases.api.begin(self.seed.org_id) as connection:
            deed = Deed("api-key:k", at(minute), "r")
            return alerts.take(connection, [alert], [Offer(self.seed.org_id, 0)], deed)[0]

    def look(self, minute: float, *, batch: int = 500) -> None:
        ends = AlertEnds(self.databases.worker, lambda: at(minute), batch=batch)
        while ends.step():
            pass

    def resolve_by_hand(self, minute: float) -> None:
        (id_,) = self.open_now()
        with self.databases.api.begin(self.seed.org_id) as connection:
            incident_changes.set_status(
                connection, org_id=self.seed.org_id, incident_id=id_, wanted=Status.RESOLVED,
                deed=Deed("user:u", at(minute), "r"),
            )  # fmt: skip

    def open_now(self) -> list[str]:
        return [row[0] for row in self.seed.run("SELECT id::text FROM incidents WHERE status <> 'resolved'")]

    def events(self) -> list[tuple[str, str | None]]:
        rows = self.seed.run("SELECT type, data ->> 'reason' FROM incident_events ORDER BY at, incident_id, version")
        return [(type_, None if reason == "alert" else reason) for type_, reason in rows]

    def ends(self) -> list[float]:
        rows = self.seed.run("SELECT ends_at FROM alert_ends ORDER BY incident_id")
        return [round((row[0] - NOW).total_seconds() / 60, 3) for row in rows]


@pytest.fixture
def seed(database_url: str) -> Seed:
    return Seed(database_url)


@pytest.fixture
def intake(databases: Databases, seed: Seed) -> Intake:
    return Intake(databases, seed)


EXPIRED = ("resolved", "alert_expired")

WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


def test_what_is_not_repeated_ends_at_its_end_once_and_is_announced(intake: Intake) -> None:
    intake.take(DISK)
    intake.look(3.999)
    assert len(intake.open_now()) == 1
    for _ in range(2):
        intake.look(4)
    assert intake.events() == [("opened", None), EXPIRED]
    assert intake.seed.run("SELECT type FROM outbox ORDER BY id") == [("opened",), ("resolved",)]
    assert intake.seed.run("SELECT actor, data ->> 'ends_at' FROM incident_events WHERE type = 'resolved'") == [
        ("tocsin", at(4).isoformat())
    ]
    assert intake.seed.run("SELECT status, resolved_at FROM incidents") == [("resolved", at(4))]
    assert intake.ends() == []


#: (what is sent at which minute, when it ends): a stated end holds, a timeout counts anew, as Alertmanager has it
REPEATS: list[tuple[Sequence[tuple[float, float | None]], float]] = [
    ([(0, 4), (1, 5)], 5),
    ([(0, 9), (1, 5)], 9),  # an earlier end takes nothing back
    ([(0, None)], 5),
    ([(0, None), (3, None)], 8),
    ([(0, None), (1, 2)], 2),  # who said nothing before says now
    ([(0, 20), (1, None)], 20),
    ([(0, 2), (1, None)], 6),
]


@pytest.mark.parametrize(("sent", "end"), REPEATS)
def test_a_repeat_prolongs(intake: Intake, sent: Sequence[tuple[float, float | None]], end: float) -> None:
    found = [intake.take(lasting(until), minute) for minute, until in sent]
    assert found == [OPENED] + [DEDUPLICATED] * (len(sent) - 1)
    assert intake.ends() == [end]
    intake.look(end - 0.001)
    assert len(intake.open_now()) == 1
    intake.look(end)
    assert intake.open_now() == []


def test_the_last_of_a_batch_counts_and_another_severity_is_a_repeat_too(intake: Intake) -> None:
    batch = [lasting(4), lasting(6), replace(lasting(7), severity=Severity.CRITICAL)]
    with intake.databases.worker.begin() as connection:
        offers = [Offer(intake.seed.org_id, place) for place in range(3)]
        alerts.take(connection, batch, offers, Deed("k", NOW, "r"))
    assert intake.ends() == [7]


def test_without_a_lifetime_nothing_ends_and_nothing_is_prolonged(intake: Intake) -> None:
    endless = replace(DISK, lifetime=None)
    intake.take(endless)
    assert intake.ends() == []
    intake.look(600)
    assert len(intake.open_now()) == 1
    # Prometheus sends the same: from now on it ends unless that repeats it.
    assert intake.take(lasting(4)) is DEDUPLICATED
    assert intake.take(endless, 3) is DEDUPLICATED
    assert intake.ends() == [4]


@pytest.mark.parametrize("how", ["its sender", "a person"])
def test_what_is_resolved_otherwise_ends_no_second_time(intake: Intake, how: str) -> None:
    intake.take(DISK)
    if how == "a person":
        intake.resolve_by_hand(1)
    else:
        assert intake.take(OVER, 1) is RESOLVED
    before = intake.events()
    intake.look(4)
    assert intake.events() == before
    assert intake.ends() == []


def test_a_repeat_after_the_end_opens_another_incident_at_once(intake: Intake) -> None:
    intake.take(DISK)
    (first,) = intake.open_now()
    intake.look(4)
    assert intake.take(lasting(9), 5) is OPENED
    assert intake.seed.run("SELECT reopened_from::text FROM incidents WHERE status = 'open'") == [(first,)]
    assert intake.ends() == [9]
    assert intake.take(lasting(10), 6) is DEDUPLICATED
    assert intake.take(OVER, 7) is RESOLVED
    # Now its sender has said so: a late copy of the beginning is a copy.
    assert intake.take(lasting(14), 60) is DEDUPLICATED
    assert intake.open_now() == []


#: (since when alerts come in, until when; whether what is due at minute 10 ends)
GAPS = [
    ((-60, 10), True),
    ((5, 10), True),  # five minutes are enough to repeat what still fires
    ((5.1, 10), False),
    ((-60, 9.6), True),  # an API process says so every ten seconds
    ((-60, 9.4), False),  # nobody can repeat anything
]


@pytest.mark.parametrize(("open_", "ends"), GAPS)
def test_nothing_ends_while_or_soon_after_nobody_could_repeat_it(
    intake: Intake, open_: tuple[float, float], ends: bool
) -> None:
    intake.take(DISK)
    intake.open(since=open_[0], seen=open_[1])
    intake.look(10)
    assert intake.open_now() == [] if ends else intake.open_now()


def test_a_gap_in_the_intake_begins_its_time_anew(databases: Databases, seed: Seed) -> None:
    def note() -> tuple[float, float]:
        with databases.api.begin() as connection:
            alert_ends.note_intake(connection)
        ((since_s, seen_s),) = seed.run(
            "SELECT extract(epoch FROM now() - since)::float, extract(epoch FROM now() - seen_at)::float"
            "  FROM alert_intake"
        )
        return since_s, seen_s

    assert max(note()) < 60
    # Half a minute is a gap; we may stand still ourselves between the two statements.
    seed.run("UPDATE alert_intake SET since = now() - interval '1 hour', seen_at = now() - interval '18 seconds'")
    since_s, seen_s = note()
    assert since_s > 3_599 and seen_s < 18
    seed.run("UPDATE alert_intake SET since = now() - interval '1 hour', seen_at = now() - interval '31 seconds'")
    assert max(note()) < 60


def test_very_many_end_in_parts_and_those_that_others_hold_later(intake: Intake) -> None:
    for number in range(25):
        intake.take(replace(DISK, dedup_key=f"disk-{number}"))
    held = intake.open_now()[0]
    with intake.databases.worker.begin() as connection:
        connection.exec_driver_sql("SELECT 1 FROM incidents WHERE id = %(id)s FOR UPDATE", {"id": held})
        intake.look(4, batch=10)
        assert intake.open_now() == [held]
    intake.look(4, batch=10)
    assert intake.open_now() == []
    assert intake.events().count(EXPIRED) == 25


def test_a_look_that_dies_on_the_way_leaves_it_to_the_next(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    intake.take(DISK)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("common.store.incidents.record", die)
        with pytest.raises(KeyboardInterrupt):
            intake.look(4)
    assert len(intake.open_now()) == 1 and intake.ends() == [4]
    intake.look(4)
    assert intake.events() == [("opened", None), EXPIRED]


def test_an_alert_that_ends_while_it_is_repeated_is_opened_again(intake: Intake) -> None:
    intake.take(DISK)
    ended, outcomes = threading.Event(), []

    def repeat(connection: Connection) -> list[Outcome]:
        return alerts.take(connection, [lasting(9)], [Offer(intake.seed.org_id, 0)], Deed("k", at(4), "r"))

    with intake.databases.worker.begin() as ending:
        alert_ends.expire(ending, at(4), limit=10)

        def send() -> None:
            for _ in range(2):
                try:
                    with intake.databases.api.begin(intake.seed.org_id) as connection:
                        outcomes.append(repeat(connection))
                except Contended:
                    outcomes.append([])
            ended.set()

        sender = threading.Thread(target=send)
        sender.start()
        wait_until(lambda: intake.seed.run(WAITING), 60, "its turn")  # it waits to see what becomes of it
        assert not ended.is_set()
    sender.join(60)
    assert outcomes == [[], [OPENED]]
    assert intake.ends() == [9]


def test_an_alert_that_is_repeated_while_it_would_end_does_not(intake: Intake) -> None:
    intake.take(DISK)
    with intake.databases.api.begin(intake.seed.org_id) as connection:
        alerts.take(connection, [lasting(9)], [Offer(intake.seed.org_id, 0)], Deed("k", at(4), "r"))
        intake.look(4)
        assert len(intake.open_now()) == 1
    intake.look(4)
    assert len(intake.open_now()) == 1


def test_repeats_ends_and_looks_at_once_leave_one_open_incident_and_a_whole_timeline(intake: Intake) -> None:
    """Senders repeat, alerts expire under them: never two open, never an end without a beginning."""
    stop, errors = threading.Event(), list[BaseException]()

    def loop(work: Any) -> None:
        try:
            while not stop.is_set():
                try:
                    work()
                except Contended:
                    continue
        except BaseException as error:
            errors.append(error)

    def repeat() -> None:
        now = utc_now()
        alert = replace(DISK, lifetime=Lifetime(now + timedelta(milliseconds=8)))
        with intake.databases.api.begin(intake.seed.org_id) as connection:
            alerts.take(connection, [alert], [Offer(intake.seed.org_id, 0)], Deed("k", now, "r"))
        time.sleep(dice.random() * 0.02)

    dice = random.Random(4)
    look = AlertEnds(intake.databases.worker, utc_now).step
    threads = [threading.Thread(target=loop, args=(work,)) for work in (repeat, repeat, look, look)]
    for thread in threads:
        thread.start()
    wait_until(lambda: errors or intake.seed.count("incidents") >= 20, 60, "enough of them to expire")
    stop.set()
    for thread in threads:
        thread.join(40)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    for events in intake.seed.run("SELECT array_agg(type ORDER BY version) FROM incident_events GROUP BY incident_id"):
        assert events[0] in (["opened"], ["opened", "resolved"])
    assert len(intake.open_now()) <= 1


def test_a_running_api_says_that_alerts_come_in(database_url: str, redis_url: str, seed: Seed) -> None:
    (port,) = free_ports(1)
    with Roles(database_url, redis_url, TOCSIN_JWT_KEY="k" * 40, TOCSIN_PORT=str(port)) as roles:
        roles.start("api")
        wait_until(lambda: seed.count("alert_intake") == 1, 60, "its first word")
    assert seed.run("SELECT since <= seen_at AND seen_at > now() - interval '5 minutes' FROM alert_intake") == [(True,)]


def test_a_running_notifier_ends_it_by_the_databases_clock_and_a_killed_one_leaves_it_to_the_next(
    databases: Databases, database_url: str, redis_url: str, seed: Seed, tmp_path: Path
) -> None:
    intake = Intake(databases, seed)
    intake.take(lasting(0.03))
    intake.take(replace(lasting(600), dedup_key="other"))
    notifiers = Notifiers(World(databases.owner, databases.worker), database_url, redis_url, tmp_path / "log")
    try:
        notifiers.start().kill()
        notifiers.start()
        wait_until(lambda: intake.events().count(EXPIRED) == 1, 60, "the end")
        assert len(intake.open_now()) == 1
    finally:
        notifiers.close()
    assert intake.ends() == [600]
