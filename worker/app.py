"""The worker's process: `python -m worker.app`. Stateless: any instance at a location can take any of its checks.

Threads: Dramatiq's consumers and workers, one event loop on which all probes run, one writer, one clock. The main
thread only watches.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import dramatiq

from common import log, telemetry
from common.broker import (
    PROBE_ACTOR,
    EventLoop,
    QueueBroker,
    UnreadableMessage,
    actor_name,
    consumers_alive,
    make_broker,
    probe_queue,
    queue_name,
    run_worker,
)
from common.clock import DatabaseClock
from common.domain.blindness import SIGN_EVERY_S
from common.domain.checks import Lane
from common.domain.errors import Unavailable
from common.domain.monitors import MonitorConfig
from common.expiries import Expiries
from common.http.wiring import way_out
from common.probe_requests import ProbeRequests
from common.process import main, require_urls, start_loop, wait_for_database
from common.settings import Settings, telemetry_variables
from common.stopping import handing_back, stop_worker
from common.store import locations, schema
from common.store.engine import Database, DatabaseRole, now_s
from common.tracing import open_tracing
from common.vault import Vault
from worker.asked import AskedProbes
from worker.canary import Canary
from worker.checks import CheckRunner, Parts
from worker.configs import ConfigCache
from worker.expiries import TELL_EVERY_S, ExpiryNotes
from worker.heartbeats import HeartbeatJudge, committer
from worker.probes.base import ProbeContext
from worker.signs import Signs, Tally
from worker.spans import CheckSpans
from worker.stall import LoopLag
from worker.suspicion import Suspicion
from worker.writer import Writer

#: After SIGTERM: when what still probes is given to the slow lane, and when what is not committed either is handed back
#: (seconds). The supervisor waits for 25.
_SPILL_AT_S = 20.0
_END_AT_S = 21.5

#: How often an idle worker looks for pings and deadlines.
_HEARTBEATS_S = 0.25

#: Every message that may be in work has up to 100 checks, each with a connection of its own.
_MAX_HANDLES = 12_800
_WANTED_FILES = 65_536


def run(settings: Settings, stop: threading.Event) -> int:
    """Wire the worker and run until asked to stop; 1 when a consumer thread died."""
    database_url, redis_url = require_urls(settings)
    _raise_file_limit()
    tracing = open_tracing("worker", telemetry_variables())
    vault = Vault(_encryption_keys(settings))
    clock = DatabaseClock()
    events = EventLoop()
    broker = make_broker(redis_url, middleware=[events])
    database = Database(database_url, DatabaseRole.WORKER, application="worker", pool_size=3)
    tally = Tally(time.monotonic)
    writer = Writer(
        Database(database_url, DatabaseRole.WORKER, application="writer", pool_size=1, durable=False),
        events.loop,
        tally=tally,
        spans=None if tracing is None else CheckSpans(tracing, clock.now_ms, settings.location),
    )
    location = _wait_for_location(database, clock, settings, stop)
    if location is None:
        return 0
    lag = LoopLag(time.monotonic)
    expiries = ExpiryNotes(Expiries(broker), time.monotonic)
    parts = Parts(
        configs=ConfigCache(database, vault, flap_turns=settings.flap_turns),
        probes=_probe_context(settings, expiries.wants),
        writer=writer,
        clock=clock,
        suspicion=Suspicion(time.monotonic),
        lag=lag,
        canary=Canary(settings.canary_list),
        broker=broker,
        blocking=ThreadPoolExecutor(max_workers=4, thread_name_prefix="blocking"),
        note_expiry=expiries.note,
    )
    runner = CheckRunner(parts, location=location, location_name=settings.location)
    for lane in Lane:
        _declare(broker, lane, settings.location, runner)
    asked = AskedProbes(ProbeRequests(broker, vault), parts.configs, vault, look=runner.look, blocking=parts.blocking)
    _declare_asked(broker, settings.location, asked)

    heartbeat_database = Database(database_url, DatabaseRole.WORKER, application="heartbeats", pool_size=1)
    heartbeats = HeartbeatJudge(heartbeat_database, parts.configs, committer(writer, events.loop))
    writer_stop = threading.Event()
    writing = start_loop("writer", writer.step, writer_stop, idle_s=0)
    signs = Signs(database, tally, location, monotonic=time.monotonic)
    # Until the end: who drains still sees.
    signing = start_loop("signs", signs.step, writer_stop, idle_s=SIGN_EVERY_S)
    start_loop("heartbeats", heartbeats.step, stop, idle_s=_HEARTBEATS_S)
    start_loop("expiries", expiries.step, stop, idle_s=TELL_EVERY_S)
    start_loop("clock", lambda: _sync(clock, database), stop, idle_s=5.0)
    asyncio.run_coroutine_threadsafe(lag.watch(), events.loop)
    asyncio.run_coroutine_threadsafe(parts.canary.alive(), events.loop)  # from here on we know our network
    lanes = [queue_name(lane, settings.location) for lane in Lane]
    worker = run_worker(broker, [*lanes, probe_queue(settings.location)])
    log.get_logger().info("worker_started", location=settings.location)
    status = _watch(worker, stop)
    spill = threading.Timer(_SPILL_AT_S, lambda: events.loop.call_soon_threadsafe(runner.drain))
    spill.daemon = True
    spill.start()
    stop_worker(broker, worker, _END_AT_S)
    spill.cancel()
    writer_stop.set()
    writing.join(timeout=2.0)
    _depart(signs, signing)
    if tracing is not None:
        tracing.close()
    log.get_logger().info("worker_stopped", uncommitted=writer.waiting)
    return status


def _depart(signs: Signs, signing: threading.Thread) -> None:
    """Be missed by nobody; a sign that is under way would bring us back."""
    signing.join(timeout=1.0)
    try:
        signs.depart()
    except Unavailable:
        log.get_logger().warning("departure_untold")


def _watch(worker: dramatiq.Worker, stop: threading.Event) -> int:
    """Wait for the end; a dead consumer thread would starve its queue in silence, so it ends the process."""
    while not stop.wait(0.5):
        if not consumers_alive(worker):
            log.get_logger().critical("consumer_thread_died")
            return 1
    return 0


def _declare(broker: QueueBroker, lane: Lane, location: str, runner: CheckRunner) -> None:
    @dramatiq.actor(
        broker=broker,
        actor_name=actor_name(lane),
        queue_name=queue_name(lane, location),
        throws=(UnreadableMessage,),
    )
    async def check(payload: Any) -> None:
        with handing_back():
            await runner.run(payload, lane)


def _declare_asked(broker: QueueBroker, location: str, asked: AskedProbes) -> None:
    @dramatiq.actor(
        broker=broker,
        actor_name=PROBE_ACTOR,
        queue_name=probe_queue(location),
        throws=(UnreadableMessage,),
        max_retries=0,
    )
    async def probe(payload: Any) -> None:
        # Cut off by our end: whoever waits may ask again.
        with suppress(asyncio.CancelledError):
            await asked.run(payload)


def _wait_for_location(
    database: Database, clock: DatabaseClock, settings: Settings, stop: threading.Event
) -> int | None:
    """Our location's number, as soon as the database answers; None when we are asked to stop before."""

    def ask() -> int:
        with database.begin() as connection:
            schema.require(connection)
            # The first message may come before the clock's own loop has measured.
            clock.sync(lambda: now_s(connection))
            return locations.ensure(connection, settings.location)

    return wait_for_database(ask, stop)


def _probe_context(settings: Settings, wants_certificate: Callable[[MonitorConfig], bool]) -> ProbeContext:
    out = way_out(settings, max_handles=_MAX_HANDLES)
    return ProbeContext(out.engine, out.resolver, out.rules, wants_certificate=wants_certificate)


def _encryption_keys(settings: Settings) -> str:
    return settings.encryption_keys.get_secret_value() if settings.encryption_keys else ""


def _sync(clock: DatabaseClock, database: Database) -> bool:
    """Measure how far our clock is from the database's, by which all slots go."""
    with database.begin() as connection:
        clock.sync(lambda: now_s(connection))
    telemetry.CLOCK_SKEW.labels("worker").set(clock.skew_s())
    return False


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main("worker", run))
