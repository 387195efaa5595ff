"""The dead-man ping: sent while the whole path proves alive, by one notifier at a time, and silence otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest

from common import telemetry
from common.clock import utc_now
from common.domain.errors import SettingsError
from common.settings import load_settings
from common.store import vitals
from common.store.vitals import Stuck
from notifier.deadman import DeadMan, Ping
from tests.conftest import Databases
from tests.integration.test_notifier_process import Notifiers
from tests.sink import Answer, Sink
from tests.world import World


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@dataclass
class Watcher:
    """Counts the pings; answers with `outcome`."""

    outcome: Ping = Ping.SENT
    pings: list[float] = field(default_factory=list)

    def __call__(self) -> Ping:
        self.pings.append(time.monotonic())
        return self.outcome


def _lead(world: World, *, seconds: int = 3600) -> None:
    world.run("DELETE FROM leases WHERE name = 'scheduler'")
    world.run(
        "INSERT INTO leases (name, holder, epoch, expires_at, dispatched_to)"
        " VALUES ('scheduler', 'me', 1, clock_timestamp() + %(s)s * interval '1 second', now())",
        s=seconds,
    )


def _monitor(world: World, *, interval_s: int = 30, age_s: int = 600) -> int:
    id_ = str(uuid4())
    world.run("INSERT INTO locations (name) VALUES ('local') ON CONFLICT DO NOTHING")
    rows = world.run(
        "INSERT INTO monitors (id, org_id, name, type, target, interval_s, timeout_s, failure_threshold,"
        " recovery_threshold, retry_interval_s, severity, location_ids, check_from)"
        " VALUES (%(id)s, %(org)s, 'm', 'http', 'http://127.0.0.1:9/', %(interval)s, 1, 2, 1, 5, 'error',"
        " (SELECT array_agg(id) FROM locations), now() - %(age)s * interval '1 second') RETURNING monitor_no",
        id=id_,
        org=world.org_id,
        interval=interval_s,
        age=age_s,
    )
    return int(rows[0][0])


def _result(world: World, monitor: int, *, age_s: int, kind: str = "0") -> None:
    world.run("SELECT keep_result_partitions(1, 30)")
    world.run(
        "INSERT INTO results (scheduled_at, monitor_no, config_version, dns_ms, connect_ms, tls_ms, ttfb_ms, total_ms,"
        " location, reason, code, verdict, kind) SELECT now() - %(age)s * interval '1 second', %(no)s, 1, 0, 0, 0, 0,"
        " 0, id, 0, 200, '1', %(kind)s FROM locations",
        no=monitor,
        age=age_s,
        kind=kind,
    )


def _stuck(world: World) -> set[Stuck]:
    with world.worker.begin() as connection:
        return set(vitals.stuck(connection, utc_now()))


def _age(world: World, table: str, column: str, seconds: int = 61) -> None:
    world.run(f"UPDATE {table} SET {column} = {column} - {seconds} * interval '1 second'")


def test_without_a_leader_nothing_is_alive(world: World) -> None:
    assert _stuck(world) == {Stuck.SCHEDULER}
    _lead(world, seconds=-1)
    assert _stuck(world) == {Stuck.SCHEDULER}
    _lead(world)
    assert _stuck(world) == set()


def test_monitors_that_are_due_have_to_have_a_scheduled_result(world: World) -> None:
    _lead(world)
    young = _monitor(world, age_s=30)
    assert _stuck(world) == set(), "it has had no time yet"
    seldom = _monitor(world, interval_s=3600)
    assert _stuck(world) == set()
    often = _monitor(world)
    assert _stuck(world) == {Stuck.CHECKS}
    _result(world, often, age_s=120)
    assert _stuck(world) == {Stuck.CHECKS}, "too long ago"
    _result(world, often, age_s=20, kind="2")
    assert _stuck(world) == {Stuck.CHECKS}, "only by hand"
    _result(world, often, age_s=10)
    assert _stuck(world) == set()
    world.run("UPDATE monitors SET enabled = false WHERE monitor_no <> ALL(%(no)s)", no=[young, seldom])
    assert _stuck(world) == set()


def test_an_event_that_nobody_relays_is_stuck(world: World, sink: Sink) -> None:
    _lead(world)
    world.channel(sink.url())
    world.open()
    assert _stuck(world) == set()
    _age(world, "outbox", "created_at")
    assert _stuck(world) == {Stuck.RELAY}


@pytest.mark.parametrize(
    ("excuse", "stuck"),
    [
        # Due for more than a minute, at a healthy channel, and nobody takes it.
        ("", {Stuck.DELIVERY}),
        # A lease that ended long ago is no excuse.
        ("UPDATE notifications SET leased_until = now() - interval '70 seconds'", {Stuck.DELIVERY}),
        # Somebody is sending to that channel, the channel fails, it is off: that is not our fault.
        ("UPDATE notifications SET leased_until = now() + interval '5 seconds'", set()),
        ("UPDATE channels SET failures = 3", set()),
        ("UPDATE channels SET enabled = false", set()),
        # Its cap holds it back; one whose window is long over does not.
        ("UPDATE channels SET cap_count = 1, cap_window_s = 600, cap_started_at = now(), cap_used = 1", set()),
        (
            "UPDATE channels SET cap_count = 1, cap_window_s = 9, cap_used = 1, cap_started_at = now() - interval '5m'",
            {Stuck.DELIVERY},
        ),
    ],
)
def test_a_notification_that_nobody_takes_is_stuck(world: World, sink: Sink, excuse: str, stuck: set[Stuck]) -> None:
    _lead(world)
    world.channel(sink.url())
    world.open()
    world.relay_all()
    assert _stuck(world) == set()
    _age(world, "notifications", "next_attempt_at")
    if excuse:
        world.run(excuse)
    assert _stuck(world) == stuck


def _dead_man(world: World, watcher: Watcher, *, interval_s: float = 60) -> DeadMan:
    return DeadMan(world.worker, watcher, utc_now, holder=uuid4().hex, interval_s=interval_s)


def _count(outcome: Ping) -> float:
    return telemetry.DEADMAN_PINGS.labels(outcome.value)._value.get()


def test_of_several_notifiers_one_pings_per_interval(world: World) -> None:
    _lead(world)
    watcher = Watcher()
    dead_men = [_dead_man(world, watcher) for _ in range(3)]
    before = _count(Ping.SENT)
    for _ in range(4):
        for dead_man in dead_men:
            dead_man.step()
    assert len(watcher.pings) == 1
    assert _count(Ping.SENT) == before + 1
    world.run("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second' WHERE name = 'deadman'")
    _lead(world)
    dead_men[2].step()
    assert len(watcher.pings) == 2


def test_the_turn_ends_just_before_the_interval_does(world: World) -> None:
    _lead(world)
    _dead_man(world, Watcher(), interval_s=3600).step()
    ((left_s,),) = world.run(
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::float FROM leases WHERE name = 'deadman'"
    )
    assert 3_500 < left_s <= 3_598


def test_while_something_is_stuck_nobody_pings_and_it_is_said_once(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher, before = Watcher(), _count(Ping.WITHHELD)
    dead_man = _dead_man(world, watcher)
    for _ in range(3):
        dead_man.step()
    assert watcher.pings == []
    assert _count(Ping.WITHHELD) == before + 3, "it looks again in a moment, not in an interval"
    _lead(world)
    dead_man.step()
    assert len(watcher.pings) == 1
    said = capsys.readouterr()
    assert (said.out + said.err).count("deadman_silent") == 1
    assert Stuck.SCHEDULER.value in said.out + said.err
    assert (said.out + said.err).count("deadman_heard_again") == 1


def test_a_ping_that_is_not_taken_is_tried_again_soon(world: World) -> None:
    _lead(world)
    watcher = Watcher(Ping.REFUSED)
    dead_man = _dead_man(world, watcher)
    dead_man.step()
    dead_man.step()
    watcher.outcome = Ping.SENT
    dead_man.step()
    dead_man.step()
    assert len(watcher.pings) == 3


def test_a_notifier_pings_while_all_is_well_stops_when_it_is_not_and_logs_no_url(
    world: World, sink: Sink, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    _lead(world)
    sink.default["/ping/s3cr3t"] = Answer()
    notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
    try:
        notifiers.start(TOCSIN_DEADMAN_URL=sink.url("/ping/s3cr3t?t=t0k3n"), TOCSIN_DEADMAN_INTERVAL="5")
        sink.default["/ping/s3cr3t?t=t0k3n"] = Answer()
        # Not one after the other: where we have stood still, the first two come at once, and not those that follow.
        assert sink.wait_for(lambda: any(later.at - earlier.at > 2 for earlier, later in pairwise(list(sink.received))))
        assert all(not r.body for r in sink.received)
        _lead(world, seconds=-1)
        assert sink.wait_for(lambda: bool(notifiers.logged("deadman_silent")))
        pings = len(sink.received)
        threading.Event().wait(4)
        assert len(sink.received) == pings
        sink.default["/ping/s3cr3t?t=t0k3n"] = Answer(302, {"Location": sink.url("/elsewhere")})
        _lead(world)
        assert sink.wait_for(lambda: len(notifiers.logged("deadman_silent")) == 2)
        assert [entry["outcome"] for entry in notifiers.logged("deadman_silent")] == ["withheld", "refused"]
        assert "/elsewhere" not in {r.path for r in sink.received}
        log = notifiers.log_path.read_text()
        assert "s3cr3t" not in log
        assert "t0k3n" not in log
    finally:
        notifiers.close()


@pytest.mark.parametrize("url", ["ftp://x/", "watcher.example/ping", "https://", "http://watcher:port/"])
def test_what_is_no_web_address_stops_the_start_without_being_shown(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"TOCSIN_DEADMAN_URL": url})
    assert "TOCSIN_DEADMAN_URL" in caught.value.message
    assert url not in caught.value.message.replace("http://", "")
