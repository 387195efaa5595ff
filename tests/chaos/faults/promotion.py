"""A second Valkey takes the first one's place, as a failover does, and later gives it back.

The tail of what was written is lost (replication is asynchronous), clients of before go on talking to a server that
takes no writes any more, and then everybody is led to the new one: twice, for at the end all is as it was.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from tests.chaos.faults.site import InVain, Site
from tests.chaos.proxy import BLACKHOLE, PASS, Proxy

_SYNCED_WITHIN_S, _STOPS_WITHIN_S = 10.0, 5.0
#: What the replica does not get any more, and how long clients stay with the one that was (seconds).
_TAIL_S, _STALE_S = 0.5, 1.5
#: Until the two have left each other's proxies.
_PARTED_S = 0.2


def promote(site: Site) -> None:
    """Over to the replica, and back."""
    pid = site.world.servers.pids().get("valkey")
    if pid is None:
        raise InVain("it does not run")
    with site.world.queue() as first, _server(Path(f"/proc/{pid}/exe").resolve()) as (path, second):
        first_path = str(first.connection_pool.connection_kwargs["path"])
        with Proxy(first_path) as from_first, Proxy(path) as from_second:
            _follow(second, from_first)
            if not _synced(second):
                raise InVain("the replica never had it all")
            with site.during("redis-promote", "redis"):
                try:
                    _fail_over(site, first, second, path, from_first, from_second)
                    site.sleep(site.span())
                    _synced(first)
                finally:
                    # Whatever happened: the first one is what everybody knows.
                    first.execute_command("REPLICAOF", "NO", "ONE")
                    site.world.proxies["redis"].lead_to(first_path)
                    with suppress(redis.RedisError):
                        second.execute_command("REPLICAOF", "NO", "ONE")
                    time.sleep(_PARTED_S)


def _fail_over(site: Site, old: redis.Redis, new: redis.Redis, path: str, from_old: Proxy, from_new: Proxy) -> None:
    from_old.mode(BLACKHOLE)
    site.sleep(_TAIL_S)
    new.execute_command("REPLICAOF", "NO", "ONE")
    from_old.mode(PASS)
    _follow(old, from_new)
    site.sleep(_STALE_S)
    site.world.proxies["redis"].lead_to(path)


def _follow(replica: redis.Redis, primary: Proxy) -> None:
    replica.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))


def _synced(replica: redis.Redis) -> bool:
    """Whether it has what its primary has, which takes a moment."""
    deadline = time.monotonic() + _SYNCED_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(redis.BusyLoadingError):
            state: Any = replica.info("replication")
            if state.get("master_link_status") == "up":
                return True
        time.sleep(0.1)
    return False


def _await_answer(client: redis.Redis) -> None:
    deadline = time.monotonic() + _SYNCED_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(redis.ConnectionError):
            client.ping()
            return
        time.sleep(0.05)
    raise InVain("the replica did not start")


@contextmanager
def _server(program: Path) -> Iterator[tuple[str, redis.Redis]]:
    """Another Valkey, in memory alone: the path of its socket, and a client."""
    with tempfile.TemporaryDirectory(prefix="tocsin-replica-") as folder:
        path = f"{folder}/valkey.sock"
        options = {"port": "0", "unixsocket": path, "dir": folder, "save": "", "repl-diskless-sync-delay": "0",
                   "maxmemory-policy": "noeviction"}  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        # It ends with us, however we end.
        tied = [found, "--pdeathsig", "KILL"] if (found := shutil.which("setpriv")) else []
        with (
            subprocess.Popen(
                [*tied, str(program), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process,
            redis.Redis(unix_socket_path=path, socket_timeout=5) as client,
        ):
            try:
                _await_answer(client)
                yield path, client
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOPS_WITHIN_S)
                process.kill()
