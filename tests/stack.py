"""Roles as real processes and the rows that feed them, for tests of whole processes.

`Roles` starts `python -m <role>.app` and ends what it started; `Seed` writes what the API would write; `Queue` reads
and writes the queues as an outsider.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psycopg
import redis
from psycopg.types.json import Jsonb

from common.broker import BATCH_SIZE, QueueBroker, decode_batch, enqueue_checks, make_broker, queue_name
from common.clock import utc_now
from common.domain.checks import Check, Kind, Lane
from common.vault import generate_key

ROOT = Path(__file__).parents[1]
LOCATION = "local"

#: The reaper of these tests declares a silent worker dead sooner than the scheduler's (milliseconds).
REAP_AFTER_MS = 2_500


def wait_until(condition: Callable[[], object], within_s: float, what: str = "it") -> float:
    """Wait for a condition; how many seconds that took. Fails when it does not come true in time."""
    started = time.monotonic()
    while True:
        # Looked at before and after: who stood still himself looks once more before he gives up.
        is_late = time.monotonic() - started >= within_s
        if condition():
            return time.monotonic() - started
        assert not is_late, f"{what} did not happen within {within_s} s"
        time.sleep(0.02)


class RoleProcess:
    """One process of a role, with the lines it has logged."""

    def __init__(self, role: str, environ: dict[str, str]) -> None:
        self.role = role
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{role}.app"], cwd=ROOT, env=environ, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.lines.append({"event": "raw", "text": line.rstrip()})

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of an event so far."""
        return [line for line in list(self.lines) if line.get("event") == event]

    def wait_for(self, event: str, within_s: float = 60.0, *, times: int = 1) -> float:
        """Until the event was logged so often; how long that took."""
        return wait_until(lambda: len(self.logged(event)) >= times, within_s, f"{self.role}: {event}")

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.wait()

    def terminate(self, within_s: float = 60.0) -> int:
        """Ask it to stop; its exit status."""
        self.process.terminate()
        return self.wait(within_s)

    def wait(self, within_s: float = 60.0) -> int:
        """Its exit status, once it has ended and all that it said is read."""
        status = self.process.wait(within_s)
        self._reader.join(30)
        return status


class Roles:
    """Starts roles on one database and queue; at the end of `with` all of them are gone."""

    def __init__(self, database_url: str, redis_url: str, **environ: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
        inherited.pop("PROMETHEUS_MULTIPROC_DIR", None)
        self._environ = {
            **inherited,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "TOCSIN_ENCRYPTION_KEYS": generate_key(),
            "TOCSIN_LOG_FORMAT": "json",
            "TOCSIN_RATE_LIMIT_WRITES": "0",
            **environ,
        }
        self._started: list[RoleProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for role in self._started:
            if role.alive:
                role.process.kill()
        for role in self._started:
            role.process.wait(60)

    def start(self, role: str, **environ: str) -> RoleProcess:
        """Start a role, not waiting for it."""
        self._started.append(RoleProcess(role, {**self._environ, **environ}))
        return self._started[-1]

    def worker(self, **environ: str) -> RoleProcess:
        """A worker that takes messages."""
        worker = self.start("worker", **environ)
        worker.wait_for("worker_started")
        return worker

    def leader(self) -> RoleProcess:
        """A scheduler that leads."""
        leader = self.start("scheduler")
        leader.wait_for("leading")
        return leader

    def standby(self) -> RoleProcess:
        """A scheduler beside one that leads."""
        standby = self.start("scheduler")
        standby.wait_for("scheduler_started")
        return standby


@dataclass
class Seed:
    """What the API would write, and what tests read, through a connection per call."""

    database_url: str
    org_id: str = field(default_factory=lambda: str(uuid4()))

    def __post_init__(self) -> None:
        self.run("INSERT INTO organizations (id, name) VALUES (%s, 'Shop')", self.org_id)
        self.location()

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Any statement, as the server's own user; its rows."""
        with psycopg.connect(self.database_url) as connection:
            cursor = connection.execute(sql, values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def location(self, name: str = LOCATION) -> int:
        """A location's number, made if it is new."""
        self.run("INSERT INTO locations (name) VALUES (%s) ON CONFLICT DO NOTHING", name)
        return int(self.run("SELECT id FROM locations WHERE name = %s", name)[0][0])

    def monitors(self, targets: Sequence[str], **columns: Any) -> list[int]:
        """Monitors of these targets, due at once; their numbers. `columns` are the table's, with small thresholds."""
        values = {
            "type": "http", "interval_s": 30, "timeout_s": 10.0, "failure_threshold": 1, "recovery_threshold": 1,
            "retry_interval_s": 5, "severity": "error", "location_ids": [self.location()], "options": Jsonb({}),
            "check_from": utc_now(), **columns,
        }  # fmt: skip
        names = ", ".join(values)
        places = ", ".join(f"%({name})s" for name in values)
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute(
                f"INSERT INTO monitors (id, org_id, name, target, {names})"
                f" SELECT gen_random_uuid(), %(org)s, target, target, {places}"
                "   FROM unnest(%(targets)s::text[]) WITH ORDINALITY AS u(target, n) ORDER BY n"
                " RETURNING monitor_no",
                {**values, "org": self.org_id, "targets": list(targets)},
            ).fetchall()
            numbers = [row[0] for row in rows]
            connection.execute(
                "INSERT INTO monitor_states (monitor_no, org_id) SELECT no, %s FROM unnest(%s::int[]) AS u(no)",
                (self.org_id, numbers),
            )
            connection.execute(
                "INSERT INTO votes (monitor_no, location) SELECT m.monitor_no, unnest(m.location_ids)"
                "  FROM monitors m WHERE m.monitor_no = ANY(%s)",
                (numbers,),
            )
            connection.execute("NOTIFY tocsin_monitors")
        return sorted(numbers)

    def monitor(self, target: str, **columns: Any) -> int:
        """One monitor."""
        return self.monitors([target], **columns)[0]

    def now_ms(self) -> int:
        """The database's time."""
        return int(self.run("SELECT extract(epoch FROM clock_timestamp()) * 1000")[0][0])

    def results(self, monitor_no: int | None = None) -> list[tuple[int, int, str, str]]:
        """(monitor_no, slot in milliseconds, verdict, kind), by monitor and slot; verdict and kind as stored digits."""
        return [
            (row[0], int(row[1]), row[2], row[3])
            for row in self.run(
                "SELECT monitor_no, extract(epoch FROM scheduled_at) * 1000, verdict::text, kind::text FROM results"
                " WHERE %s::int IS NULL OR monitor_no = %s ORDER BY monitor_no, scheduled_at",
                monitor_no,
                monitor_no,
            )
        ]

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.run(f"SELECT count(*) FROM {table}")[0][0])


class Queue:
    """The queues of one location, seen from outside."""

    def __init__(self, redis_url: str) -> None:
        self.redis = redis.Redis.from_url(redis_url)
        self.broker: QueueBroker = make_broker(redis_url)
        self.reaper: QueueBroker = make_broker(redis_url, reaper=True)
        self.reaper.heartbeat_timeout = REAP_AFTER_MS

    def push(self, checks: Sequence[Check], lane: Lane = Lane.FAST) -> None:
        """Put checks into a lane as the leader would."""
        for start in range(0, len(checks), BATCH_SIZE):
            enqueue_checks(self.broker, lane, LOCATION, checks[start : start + BATCH_SIZE], epoch=1)

    def push_raw(self, body: bytes, lane: Lane = Lane.FAST) -> None:
        """Put any bytes where a message should be; `ID` in them becomes the id that they are stored by."""
        message_id, name = uuid4().hex, queue_name(lane, LOCATION)
        self.redis.hset(f"tocsin:{name}.msgs", message_id, body.replace(b"ID", message_id.encode()))
        self.redis.rpush(f"tocsin:{name}", message_id)

    def waiting(self, lane: Lane = Lane.FAST) -> list[Check]:
        """The checks of all messages that wait to be fetched."""
        name = queue_name(lane, LOCATION)
        bodies = [self.redis.hget(f"tocsin:{name}.msgs", message_id) for message_id in self._ids(name)]
        return [
            check for body in bodies if body is not None for check in decode_batch(json.loads(body)["args"][0]).checks
        ]

    def held(self, lane: Lane = Lane.FAST) -> int:
        """Messages that were fetched and not acknowledged yet."""
        name = queue_name(lane, LOCATION)
        return sum(int(self.redis.scard(key)) for key in self.redis.keys(f"tocsin:__acks__.*.{name}"))

    def set_aside(self, lane: Lane = Lane.FAST) -> int:
        """Messages in the dead-letter queue."""
        return int(self.redis.zcard(f"tocsin:{queue_name(lane, LOCATION)}.XQ"))

    def reap(self) -> None:
        """Take over what dead workers held, as the scheduler does each second."""
        for lane in Lane:
            self.reaper.do_qsize(queue_name(lane, LOCATION))

    def _ids(self, name: str) -> list[bytes]:
        return list(self.redis.lrange(f"tocsin:{name}", 0, -1))


def scheduled(monitor_no: int, at_ms: int, *, version: int = 1, kind: Kind = Kind.SCHEDULED) -> Check:
    """A check of a slot."""
    return Check(monitor_no, version, at_ms, kind)
