"""PostgreSQL that crashes, loses backends, is locked, or has no disk left."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import psycopg

from tests.chaos.faults.site import Impossible, InVain, Site

#: What the roles are likely to want at any moment.
_TABLES = (
    "results", "votes", "monitor_states", "incidents", "outbox", "notifications", "channels", "leases", "alerts",
    "silences", "organizations",
)  # fmt: skip

#: More than the product leaves over: so many are taken from it.
_MANY = 60

#: With so little left (bytes) a disk is full: less than a page of the log.
_ROOM = 8191

_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND application_name LIKE 'tocsin %'
"""


def stop_immediately(site: Site) -> None:
    """`pg_ctl stop -m immediate`: it comes back by crash recovery."""
    os.kill(_postmaster(site), signal.SIGQUIT)
    site.moment("postgres-stop", "postgres")


def kill_backend(site: Site) -> None:
    """kill -9 of one of its processes: it throws all of them out and recovers."""
    try:
        children = psutil.Process(_postmaster(site)).children()
        backends = [child for child in children if "tocsin" in " ".join(child.cmdline())]
        if not backends:
            raise InVain("nobody is connected")
        site.chance.choice(backends).kill()
    except psutil.NoSuchProcess as error:
        raise InVain("it has just ended") from error
    site.moment("postgres-backend", "postgres")


def terminate_backends(site: Site) -> None:
    """pg_terminate_backend on everybody, twice a second."""
    ended = 0
    with site.during("postgres-terminate", "postgres"):
        for _ in site.until(site.span(), every_s=0.5):
            with suppress(psycopg.Error), site.world.database() as connection:
                ended += connection.execute(_TERMINATE).rowcount
        if not ended:
            raise InVain("nobody was connected")


def exhaust_connections(site: Site) -> None:
    """Somebody has taken every connection there is: those of the pools are ended, and none can be opened again."""
    was_full = False
    with site.during("postgres-connections", "postgres"), ExitStack() as held:
        taken: list[psycopg.Connection[Any]] = []
        for _ in site.until(site.span(), every_s=0.2):
            try:
                while True:
                    taken.append(held.enter_context(site.world.database()))
            except psycopg.OperationalError:
                was_full = was_full or len(taken) > _MANY
            if taken:
                taken[0].execute(_TERMINATE)
        if not was_full:
            raise InVain(f"{len(taken)} connections were not all")


def lock_table(site: Site) -> None:
    """LOCK TABLE, as a clumsy migration does."""
    table = site.chance.choice(_TABLES)
    span = site.chance.uniform(20.0, 30.0) if site.world.plan.profile == "full" else site.span(0.8)
    with (
        site.during("postgres-lock", "postgres", f"{table} for {span:.1f} s"),
        site.world.database() as connection,
        connection.transaction(),
    ):
        connection.execute("SET LOCAL lock_timeout = '5s'")
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        site.sleep(span)


def fill_disk(site: Site) -> None:
    """Not a byte left for data or log: PostgreSQL stops, or refuses to write, until there is room."""
    disk = site.world.disk
    if disk.problem:
        raise Impossible(f"no small disk: {disk.problem}")
    with site.during("disk-full", "postgres"):
        try:
            disk.fill()
            if disk.free() > _ROOM:
                raise InVain(f"{disk.free()} bytes are left")
            site.sleep(site.span())
        finally:
            disk.relieve()


def _postmaster(site: Site) -> int:
    pid = site.world.servers.pids().get("postgres")
    if pid is None:
        raise InVain("it does not run")
    return pid
