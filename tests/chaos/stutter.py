"""Writes down when the machine stutters: a CPU that stands still, a process of ours, a server that does not answer.

`python -m tests.chaos.stutter <history> <database> <queue>` watches each CPU, for a hypervisor may take one away and
leave the others, and both servers, past all proxies: a disk may keep PostgreSQL from committing. In the run's own
process, where proxies and receiver live, there is another watcher.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import redis

from tests.chaos.events import History
from tests.chaos.reasons import MACHINE, SERVER

_LOOK_EVERY_S = 0.1
#: What is shorter is noise: everybody has more patience than that (seconds).
_STILL_S, _SILENT_S = 0.4, 1.0
_ASK_EVERY_S = 0.25


def watch_ourselves(history: History, target: str, stop: threading.Event, cpu: int | None = None) -> None:
    """Note when this thread stood still, on this CPU alone if one is named."""
    if cpu is not None:
        with suppress(OSError):  # it is not ours any more
            os.sched_setaffinity(0, {cpu})
    while not stop.is_set():
        before, at = time.monotonic(), time.time()
        time.sleep(_LOOK_EVERY_S)
        still_s = time.monotonic() - before - _LOOK_EVERY_S
        if still_s > _STILL_S:
            history.stood_still(MACHINE, target, at, still_s)


def watch_server(history: History, target: str, stop: threading.Event, ask: Callable[[], None]) -> None:
    """Note when a server that is there took its time. That it is away is a fault's business, and written there."""
    while not stop.wait(_ASK_EVERY_S):
        before, at = time.monotonic(), time.time()
        with suppress(psycopg.Error, redis.RedisError):
            ask()
            silent_s = time.monotonic() - before
            if silent_s > _SILENT_S:
                history.stood_still(SERVER, target, at, silent_s)


class _Postgres:
    """Asks for a commit that waits for the disk."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def __call__(self) -> None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=60)
            self._connection.execute("SELECT pg_logical_emit_message(true, 'chaos', '')")
        except psycopg.Error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            raise


def main(history: History, database_url: str, redis_url: str) -> None:
    """Watch until somebody ends us."""
    stop, client = threading.Event(), redis.Redis.from_url(redis_url, socket_timeout=60)
    watchers = [
        threading.Thread(target=watch_ourselves, args=(history, f"cpu {cpu}", stop, cpu), daemon=True)
        for cpu in os.sched_getaffinity(0)
    ]
    servers = {"postgres": _Postgres(database_url), "redis": lambda: client.ping() and None}
    watchers += [
        threading.Thread(target=watch_server, args=(history, target, stop, ask), daemon=True)
        for target, ask in servers.items()
    ]
    for watcher in watchers:
        watcher.start()
    stop.wait()


if __name__ == "__main__":
    main(History(Path(sys.argv[1])), sys.argv[2], sys.argv[3])
