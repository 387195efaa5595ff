"""The notifier's process: `python -m notifier.app`. Several may run; the ledger's leases keep them apart.

Threads: Dramatiq's consumers and workers, one event loop on which all sends run, one thread each that claims and
settles, and the loops of relays, hints and sweeper. The main thread only watches.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import dramatiq

from common import log, telemetry
from common.broker import (
    DELIVER_ACTOR,
    NOTIFY_QUEUE,
    READABLE_VERSIONS,
    EventLoop,
    QueueBroker,
    UnreadableMessage,
    consumers_alive,
    guarded,
    make_broker,
    run_worker,
)
from common.channels.registry import CHANNELS
from common.channels.wiring import open_context
from common.clock import DatabaseClock, from_ms
from common.domain.errors import SettingsError, Unavailable
from common.domain.matching import LedgerStatus
from common.process import main, require_urls, start_loop, wait_for_database
from common.settings import Settings, telemetry_variables
from common.stopping import stop_worker
from common.store import schema
from common.store.engine import Database, DatabaseRole, Listener, now_s
from common.store.incidents import OUTBOX_CHANNEL
from common.store.route_books import RouteBooks
from common.tracing import open_tracing
from common.vault import Vault
from notifier.acknowledgements import LOOK_EVERY_S as EXPIRE_EVERY_S
from notifier.acknowledgements import Acknowledgements
from notifier.alert_ends import LOOK_EVERY_S as END_ALERTS_EVERY_S
from notifier.alert_ends import AlertEnds
from notifier.cooldowns import LOOK_EVERY_S as END_COOLDOWNS_EVERY_S
from notifier.cooldowns import CooldownEnds
from notifier.deadman import LOOK_EVERY_S as DEADMAN_EVERY_S
from notifier.deadman import DeadMan, pinger
from notifier.deliver import MAX_SENDS, Deliverer, Parts
from notifier.fallbacks import LOOK_EVERY_S as GIVE_EVERY_S
from notifier.fallbacks import Fallbacks
from notifier.hints import Hints
from notifier.maintenance import LOOK_EVERY_S as TURN_WINDOWS_EVERY_S
from notifier.maintenance import Maintenance
from notifier.parents import LOOK_EVERY_S as LOOK_AT_PARENTS_EVERY_S
from notifier.parents import Parents
from notifier.relay import Relay
from notifier.reminders import LOOK_EVERY_S as REMIND_EVERY_S
from notifier.reminders import Reminders
from notifier.settle import Settler
from notifier.silences import LOOK_EVERY_S as SETTLE_SILENCES_EVERY_S
from notifier.silences import SilenceEnds
from notifier.spans import DeliverySpans
from notifier.sweeper import Sweeper

#: After SIGTERM: how long sends that are under way may take, a whole attempt and its commit; then the queue's threads.
_DRAIN_S = 21.0
_STOP_QUEUE_S = 3.0

#: How long a start waits for windows that began meanwhile; what is left then, their loop does beside the relays.
_CATCH_UP_S = 10.0

#: Relays side by side: while one waits for PostgreSQL, the other decides.
_RELAYS = 2

_LISTEN_S = 0.5
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: A claim is eleven statements at most; it says itself what went wrong before its caller stops waiting.
_STATEMENT_S = 10.0
_CLAIM_S = 120.0


def run(settings: Settings, stop: threading.Event, deliverer_class: type[Deliverer] = Deliverer) -> int:
    """Wire the notifier and run until asked to stop; 1 when a consumer thread died."""
    database_url, redis_url = require_urls(settings)
    clock = DatabaseClock()
    events = EventLoop()
    broker = make_broker(redis_url, middleware=[events])
    # What is pending is nothing or very much: a plan for an average of that fits neither.
    database = Database(
        database_url, DatabaseRole.WORKER, application="notifier", pool_size=12, statement_timeout_s=_STATEMENT_S,
        custom_plans=True,
    )  # fmt: skip

    def now() -> datetime:
        return from_ms(clock.now_ms())

    if not _await_clock(database, clock, stop):
        return 0
    sweeper = Sweeper(database, clock, now)
    books = RouteBooks()
    parts = _parts(settings, database, now, sweeper.wake, books)
    tracing = open_tracing("notifier", telemetry_variables())
    if tracing is not None:
        parts = replace(parts, spans=DeliverySpans(tracing, now))
    deliverer = deliverer_class(parts)
    hints = Hints(broker, sweeper.wake, now)
    silences = SilenceEnds(database, hints.give, now, books=books)
    cooldowns = CooldownEnds(database, hints.give, now, books=books)
    _declare(broker, deliverer)

    worker = run_worker(broker, [NOTIFY_QUEUE])

    def start_due() -> int:
        with suppress(CancelledError):  # cut off by our end
            return asyncio.run_coroutine_threadsafe(deliverer.deliver(), events.loop).result(_CLAIM_S)
        return 0

    # Before anything is relayed: windows that began while nobody prepared them.
    keeper = Maintenance(database, now)
    _catch_up(keeper, stop)
    loops = [
        *(_start_relay(database, Relay(database, hints.give, now, books=books), stop) for _ in range(_RELAYS)),
        start_loop("silences", silences.step, stop, idle_s=SETTLE_SILENCES_EVERY_S),
        start_loop("cooldowns", cooldowns.step, stop, idle_s=END_COOLDOWNS_EVERY_S),
        start_loop("maintenance", keeper.step, stop, idle_s=TURN_WINDOWS_EVERY_S),
        start_loop("parents", Parents(database, now).step, stop, idle_s=LOOK_AT_PARENTS_EVERY_S),
        start_loop("fallbacks", Fallbacks(database, hints.give, now).step, stop, idle_s=GIVE_EVERY_S),
        start_loop("hints", hints.step, stop, idle_s=0),
        start_loop("sweeper", lambda: sweeper.step(start_due), stop, idle_s=0),
        start_loop("reminders", Reminders(database, now).step, stop, idle_s=REMIND_EVERY_S),
        start_loop("alert_ends", AlertEnds(database, now).step, stop, idle_s=END_ALERTS_EVERY_S),
        start_loop("acknowledgements", Acknowledgements(database, now).step, stop, idle_s=EXPIRE_EVERY_S),
    ]
    if settings.deadman_url is not None:
        dead_man = _dead_man(settings, settings.deadman_url.get_secret_value(), database, now, events.loop)
        loops.append(start_loop("deadman", dead_man.step, stop, idle_s=DEADMAN_EVERY_S))
    for type_ in CHANNELS:
        telemetry.NOTIFICATIONS.labels(type_, LedgerStatus.DEAD.value)  # from zero on: the first is an increase too
    log.get_logger().info("notifier_started", channel_types=sorted(CHANNELS))
    status = _watch(worker, stop)
    stop.set()
    broker.draining = True
    _end(deliverer, events.loop, broker, worker, loops)
    if tracing is not None:
        tracing.close()
    return status


def _await_clock(database: Database, clock: DatabaseClock, stop: threading.Event) -> bool:
    """Know the database's time before the first claim: by our own clock another's lease might seem to be over."""

    def ask() -> bool:
        with database.begin() as connection:
            schema.require(connection)
            clock.sync(lambda: now_s(connection))
        return True

    return wait_for_database(ask, stop) is not None


def _catch_up(keeper: Maintenance, stop: threading.Event) -> None:
    until = time.monotonic() + _CATCH_UP_S
    try:
        while not stop.is_set() and time.monotonic() < until and keeper.prepare():
            pass
    except Unavailable as error:
        log.get_logger().warning("maintenance_not_prepared", error=str(error.__cause__))


def _parts(
    settings: Settings, database: Database, now: Callable[[], datetime], wake: Callable[[], None], books: RouteBooks
) -> Parts:
    if settings.encryption_keys is None:
        raise SettingsError("TOCSIN_ENCRYPTION_KEYS must be set: channels' secrets cannot be read without")
    vault = Vault(settings.encryption_keys.get_secret_value())
    return Parts(
        database=database,
        settler=Settler(database, now),
        vault=vault,
        channels=CHANNELS,
        context=open_context(settings, vault, now, max_handles=2 * MAX_SENDS),
        wake=wake,
        books=books,
    )


def _dead_man(
    settings: Settings, url: str, database: Database, now: Callable[[], datetime], loop: asyncio.AbstractEventLoop
) -> DeadMan:
    holder = f"{socket.gethostname()}-{uuid4().hex[:8]}"
    ping = pinger(url, settings.dns_server_list, loop)
    return DeadMan(database, ping, now, holder=holder, interval_s=settings.deadman_interval_s)


def _watch(worker: dramatiq.Worker, stop: threading.Event) -> int:
    """Wait for the end; a dead consumer thread would starve the queue in silence, so it ends the process."""
    while not stop.wait(0.5):
        if not consumers_alive(worker):
            log.get_logger().critical("consumer_thread_died")
            return 1
    return 0


def _end(
    deliverer: Deliverer,
    loop: asyncio.AbstractEventLoop,
    broker: QueueBroker,
    worker: dramatiq.Worker,
    loops: list[threading.Thread],
) -> None:
    """Let what is under way end, then the loop it runs on; the ledger keeps the rest."""
    left = asyncio.run_coroutine_threadsafe(deliverer.drain(_DRAIN_S), loop).result()
    for thread in loops:
        thread.join(timeout=1.0)
    try:
        guarded(lambda: stop_worker(broker, worker, _STOP_QUEUE_S))
    except Unavailable:
        # The queue's hints are not worth waiting for; its loop would keep the process alive.
        loop.call_soon_threadsafe(loop.stop)
    log.get_logger().info("notifier_stopped", unfinished=left)


def _declare(broker: QueueBroker, deliverer: Deliverer) -> None:
    async def deliver(payload: Any) -> None:
        # Returns when they are claimed: the message has done its work then, and no hanging receiver keeps a thread.
        try:
            await deliverer.deliver(_ids(payload))
        except Unavailable as error:
            # The rows are in the ledger and the sweeper finds them; a retry of the hint would only repeat that.
            log.get_logger().warning("hint_dropped", error=str(error.__cause__))
        except asyncio.CancelledError:
            log.get_logger().warning("hint_dropped", error="the process ends")

    dramatiq.actor(broker=broker, actor_name=DELIVER_ACTOR, queue_name=NOTIFY_QUEUE, throws=(UnreadableMessage,))(
        deliver
    )


def _ids(payload: Any) -> list[str]:
    """The ids in a message; one that this version cannot read is counted and set aside."""
    ids = payload.get("n") if isinstance(payload, Mapping) and payload.get("v") in READABLE_VERSIONS else None
    if not isinstance(ids, list) or not all(isinstance(item, str) and _UUID.fullmatch(item) for item in ids):
        telemetry.MESSAGES_REFUSED.labels(NOTIFY_QUEUE).inc()
        raise UnreadableMessage("not a list of notifications that this version can read")
    return ids


def _start_relay(database: Database, relay: Relay, stop: threading.Event) -> threading.Thread:
    listener = Listener(database, (OUTBOX_CHANNEL,))
    return start_loop("relay", lambda: relay.step() or _await_outbox(listener, stop), stop, idle_s=0)


def _await_outbox(listener: Listener, stop: threading.Event) -> bool:
    """False, once an outbox row was committed or after a moment: there was nothing to do, whatever there is now."""
    try:
        listener.wait(_LISTEN_S)
    except Unavailable:
        # Without a listener we look by the clock; if the database is away, the relay's own step will say so.
        stop.wait(_LISTEN_S)
    return False


if __name__ == "__main__":
    sys.exit(main("notifier", run))
