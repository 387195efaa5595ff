"""PostgreSQL that crashes, loses backends, is locked, or has no disk left."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil
import psycopg

from tests.chaos.faults.site import Impossible, Site

#: What the roles are likely to want at any moment.
_TABLES = (
    "results", "votes", "monitor_states", "incidents", "outbox", "notifications", "channels", "leases", "alerts",
    "silences", "organizations",
)  # fmt: skip

_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND application_name LIKE 'tocsin %'
"""


def stop_immediately(site: Site) -> None:
    """`pg_ctl stop -m immediate`: it comes back by crash recovery."""
    if pid := site.world.servers.pids().get("postgres"):
        os.kill(pid, signal.SIGQUIT)
        site.moment("postgres-stop", "postgres")


def kill_backend(site: Site) -> None:
    """kill -9 of one of its processes: it throws all of them out and recovers."""
    postmaster = site.world.servers.pids().get("postgres")
    if postmaster is None:
        return
    with suppress(psutil.NoSuchProcess):
        backends = [child for child in psutil.Process(postmaster).children() if "tocsin" in " ".join(child.cmdline())]
        if backends:
            site.chance.choice(backends).kill()
            site.moment("postgres-backend", "postgres")


def terminate_backends(site: Site) -> None:
    """pg_terminate_backend on everybody, twice a second."""
    with site.during("postgres-terminate", "postgres"):
        for _ in site.until(site.span(), every_s=0.5):
            with suppress(psycopg.Error), site.world.database() as connection:
                connection.execute(_TERMINATE)


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
            site.sleep(site.span())
        finally:
            disk.relieve()
