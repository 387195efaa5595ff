"""The notifier as a process: from the outbox to the receiver, through kills, a lost queue and a late database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.engine import make_url

from common.broker import UnreadableMessage, enqueue_notifications, make_broker
from notifier import app
from tests.conftest import Databases
from tests.sink import Answer, Sink
from tests.world import World

_ROOT = Path(__file__).parents[2]

#: A receiver that hangs is given up after twenty seconds: who waits for one takes longer than this.
HUNG_S = 15.0


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


class Notifiers:
    """Starts notifiers and ends those that it started."""

    def __init__(self, world: World, database_url: str, redis_url: str, log_path: Path) -> None:
        self.log_path = log_path
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")},
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "TOCSIN_ENCRYPTION_KEYS": world.key,
            "TOCSIN_LOG_FORMAT": "json",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *(arguments or ("notifier.app",))],
                cwd=_ROOT, env={**self._environment, **environment}, stdout=log, stderr=log,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log_path.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry.get("event") == event]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def notifiers(world: World, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Notifiers]:
    notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
    yield notifiers
    notifiers.close()


class Patient(Sink):
    """Answers nobody before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.to_thread(self.told.wait, 60)
        await super()._answer(reader, writer)


def _sent(world: World) -> int:
    return sum(status == "sent" for _, status, _ in world.statuses())


def test_events_travel_from_the_outbox_to_the_receiver_and_leave_a_log_line(
    world: World, sink: Sink, notifiers: Notifiers
) -> None:
    world.channel(sink.url("/services/s3cr3t"))
    process = notifiers.start()
    assert sink.wait_for(lambda: bool(notifiers.logged("notifier_started")))
    (incident,) = world.open(correlation_id="c" * 32)
    assert sink.wait_for(lambda: len(sink.received) == 1)
    world.resolve(incident)
    assert sink.wait_for(lambda: _sent(world) == 2)

    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert [r.type for r in sink.received] == ["opened", "resolved"]
    line = notifiers.logged("notification_sent")[0]
    assert line["correlation_id"] == "c" * 32
    assert line["incident_id"] == incident
    wanted = {"notification_id", "channel_id", "channel_type", "outcome", "status_code", "attempt", "latency_s"}
    assert wanted <= line.keys()
    log = notifiers.log_path.read_text()
    assert "s3cr3t" not in log
    assert "whsec" not in log


@pytest.mark.parametrize(
    ("failpoint", "most"),
    [
        # Nothing had been sent: the receiver sees it once.
        ("before_claim", 1),
        ("after_claim", 1),
        # Sent and not settled: it may come twice, with the same id.
        ("after_send", 2),
        ("before_settle", 2),
        # Settled: it was over.
        ("after_settle", 1),
    ],
)
def test_a_notifier_killed_at_any_point_loses_nothing_and_repeats_only_what_it_had_sent(
    world: World, sink: Sink, notifiers: Notifiers, tmp_path: Path, failpoint: str, most: int
) -> None:
    world.channel(sink.url())
    (incident,) = world.open()
    wounded = notifiers.start("tests.notifier_driver", failpoint, str(tmp_path / "mark"))
    if failpoint == "before_claim":
        # The sweeper may be faster than the relay's hint; a hint of our own meets the failpoint in any case.
        _hint_until_dead(world, notifiers, wounded)
    assert wounded.wait(60) == -signal.SIGKILL
    world.resolve(incident)
    # In life this takes the lease's 26 seconds.
    world.run("UPDATE notifications SET leased_until = now() - interval '1 second' WHERE leased_until IS NOT NULL")

    notifiers.start("tests.notifier_driver", failpoint, str(tmp_path / "mark"))

    assert sink.wait_for(lambda: _sent(world) == 2)
    openings = [r for r in sink.received if r.type == "opened"]
    assert 1 <= len(openings) <= most
    assert len({r.headers["webhook-id"] for r in openings}) == 1
    assert [r.type for r in sink.received] == ["opened"] * len(openings) + ["resolved"]
    if most == 2:
        assert len(openings) == 2


def _hint_until_dead(world: World, notifiers: Notifiers, process: subprocess.Popen[bytes]) -> None:
    broker = make_broker(notifiers._environment["REDIS_URL"])
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        enqueue_notifications(broker, [row[0] for row in world.run("SELECT id::text FROM notifications")])
        time.sleep(0.2)


def test_without_redis_everything_is_delivered_all_the_same(world: World, sink: Sink, notifiers: Notifiers) -> None:
    world.channel(sink.url())
    process = notifiers.start(REDIS_URL="redis://127.0.0.1:1/0")  # where nobody ever listens
    assert sink.wait_for(lambda: bool(notifiers.logged("notifier_started")))
    for incident in world.open(5):
        world.resolve(incident)

    assert sink.wait_for(lambda: _sent(world) == 10)

    assert len(sink.received) == 10
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_two_notifiers_and_a_receiver_that_hangs_deliver_everything_else_once_and_soon(
    world: World, sink: Sink, notifiers: Notifiers
) -> None:
    world.channel(sink.url("/hangs"))
    world.channel(sink.url("/quick"))
    sink.default["/hangs"] = Answer(wait_s=30)
    for _ in range(2):
        notifiers.start()
    assert sink.wait_for(lambda: len(notifiers.logged("notifier_started")) == 2)
    for _ in range(10):
        for incident in world.open(10):
            world.resolve(incident)

    assert sink.wait_for(lambda: len(sink.accepted("/quick")) >= 200, HUNG_S)
    time.sleep(0.3)
    ids = [r.headers["webhook-id"] for r in sink.accepted("/quick")]
    assert len(ids) == len(set(ids)) == 200


def test_sigterm_lets_what_is_under_way_end_and_leaves_the_rest_in_the_ledger(
    world: World, notifiers: Notifiers
) -> None:
    with Patient() as sink:
        world.channel(sink.url())
        (incident,) = world.open()
        world.resolve(incident)
        process = notifiers.start()
        leased = "SELECT 1 FROM notifications WHERE leased_until IS NOT NULL"
        assert sink.wait_for(lambda: bool(world.run(leased)))
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)  # so that it has heard
        sink.told.set()
        assert process.wait(60) == 0
        assert world.statuses() == [("opened", "sent", None), ("resolved", "pending", None)]
        assert len(sink.received) == 1


def test_a_notifier_waits_for_a_database_that_comes_late(
    world: World, sink: Sink, notifiers: Notifiers, database_url: str
) -> None:
    world.channel(sink.url())
    world.open()
    url = make_url(database_url)
    late = Forwarder(f"{url.query['host']}/.s.PGSQL.{url.query['port']}")
    process = notifiers.start(DATABASE_URL=f"postgresql://{url.username}@127.0.0.1:{late.port}/{url.database}")
    assert sink.wait_for(lambda: bool(notifiers.logged("waiting_for_database")))
    assert process.poll() is None

    with late:
        assert sink.wait_for(lambda: _sent(world) == 1)


class Forwarder:
    """A TCP port that leads to a Unix socket; ours from the beginning, it takes connections in `with`."""

    def __init__(self, path: str) -> None:
        outer = path

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.socket(socket.AF_UNIX) as inner:
                    inner.connect(outer)
                    back = threading.Thread(target=_copy, args=(inner, self.request), daemon=True)
                    back.start()
                    _copy(self.request, inner)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.server_bind()
        self.port = int(self._server.socket.getsockname()[1])

    def __enter__(self) -> None:
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


@pytest.mark.parametrize(
    "payload", [None, {}, {"v": 99, "n": []}, {"v": 1}, {"v": 1, "n": ["x"]}, {"v": 1, "n": [7]}, {"v": 1, "n": "x"}]
)
def test_a_hint_of_another_version_or_form_is_refused(payload: Any) -> None:
    with pytest.raises(UnreadableMessage):
        app._ids(payload)


def test_a_dead_consumer_thread_ends_the_process_with_a_failure() -> None:
    dead = threading.Thread(target=lambda: None)
    worker = SimpleNamespace(consumers={"notify": dead})
    assert app._watch(cast("Any", worker), threading.Event()) == 1


def test_a_notifier_without_keys_says_so_in_one_line(notifiers: Notifiers) -> None:
    process = notifiers.start(TOCSIN_ENCRYPTION_KEYS="")
    assert process.wait(60) == 2
    (line,) = notifiers.log_path.read_text().splitlines()
    assert "TOCSIN_ENCRYPTION_KEYS" in line
