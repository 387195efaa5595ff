"""The scheduler's process: `python -m scheduler.app`. Several may run, one leads.

Threads: the lease's renewal, the loader, the reaper, and the dispatcher in the main thread.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from uuid import uuid4

from common import log, telemetry
from common.broker import (
    NOTIFY_QUEUE,
    QueueBroker,
    backlog,
    dead_letters,
    make_broker,
    probe_queue,
    queue_name,
    reap_delayed,
)
from common.clock import DatabaseClock, from_ms
from common.domain.errors import Unavailable
from common.process import main, require_urls, run_steps, start_loop, wait_for_database
from common.settings import Settings
from common.store import accounts, alerts, audit_log, cooldowns, forgotten, idempotency_keys, readiness, schedule
from common.store.engine import Database, DatabaseRole
from scheduler.blindness import EVERY_S as LOOKOUT_EVERY_S
from scheduler.blindness import Lookout
from scheduler.dispatch import Dispatcher, watch_backlogs
from scheduler.figures import EVERY_S as LOOK_EVERY_S
from scheduler.figures import Figures
from scheduler.lease import Lease
from scheduler.loader import Loader
from scheduler.rollups import Indexer, Roller
from scheduler.wheel import TICK_MS, Wheel

_REAP_EVERY_S = 1.0
_PARTITIONS_EVERY_S = 3600.0
_FORGET_EVERY_S = 3600.0
_ROLL_EVERY_S = 5.0
#: A bucket of a very large installation on a slow disk; nobody waits for it.
_ROLL_TIMEOUT_S = 120.0
_INDEX_EVERY_S = 60.0
#: Reading a day of results of before there were rollups, once, on a slow disk. The present is made meanwhile.
_INDEX_TIMEOUT_S = 1800.0


def run(settings: Settings, stop: threading.Event) -> int:
    """Wire the scheduler and run until asked to stop."""
    database_url, redis_url = require_urls(settings)
    clock = DatabaseClock()
    lease_database = Database(
        database_url, DatabaseRole.WORKER, application="lease", pool_size=1, statement_timeout_s=2
    )
    database = Database(database_url, DatabaseRole.WORKER, application="scheduler", pool_size=2)
    if not wait_for_database(lambda: readiness.require(database), stop):
        return 0
    roller_database = Database(
        database_url, DatabaseRole.WORKER, application="rollups", pool_size=1, statement_timeout_s=_ROLL_TIMEOUT_S
    )
    index_database = Database(
        database_url, DatabaseRole.WORKER, application="index", pool_size=1, statement_timeout_s=_INDEX_TIMEOUT_S
    )
    lookout_database = Database(database_url, DatabaseRole.WORKER, application="lookout", pool_size=1)
    broker = make_broker(redis_url)
    reaper = make_broker(redis_url, reaper=True)
    holder = f"{socket.gethostname()}-{uuid4().hex[:8]}"
    lease = Lease(lease_database, clock, holder, monotonic=time.monotonic)
    dispatcher = Dispatcher(Wheel(), lease, broker, clock)
    loader = Loader(database, clock, dispatcher.changes.put)
    lookout = Lookout(lookout_database, lambda: lease.held() is not None, patience_s=settings.blind_after_s)
    roller = Roller(roller_database, settings, monotonic=time.monotonic)
    indexer = Indexer(index_database, settings)
    figures = Figures(roller_database, lambda: lease.held() is not None, lambda: from_ms(clock.now_ms()))

    start_loop("loader", loader.step, stop, idle_s=0)
    # A leader without its monitors would only hold up the others: it does not run for the lease before.
    renewing = start_loop("lease", lambda: loader.loaded.is_set() and lease.step(), stop, idle_s=lease.times.retry_s)
    start_loop("reaper", lambda: _reap(dispatcher, reaper, clock), stop, idle_s=_REAP_EVERY_S)
    start_loop("partitions", lambda: _keep_partitions(database, settings), stop, idle_s=_PARTITIONS_EVERY_S)
    start_loop("rollups", roller.step, stop, idle_s=_ROLL_EVERY_S)
    start_loop("rollup_indexes", indexer.step, stop, idle_s=_INDEX_EVERY_S)
    start_loop("figures", figures.step, stop, idle_s=LOOK_EVERY_S)
    start_loop("lookout", lookout.step, stop, idle_s=LOOKOUT_EVERY_S)
    start_loop("alert_retention", lambda: _forget_alerts(database), stop, idle_s=_FORGET_EVERY_S)
    start_loop("cooldown_retention", lambda: _forget_cooldowns(database), stop, idle_s=_FORGET_EVERY_S)
    start_loop("request_retention", lambda: _forget_requests(database), stop, idle_s=_FORGET_EVERY_S)
    start_loop("event_retention", lambda: _forget_incidents(database, settings, stop), stop, idle_s=_FORGET_EVERY_S)
    log.get_logger().info("scheduler_started", holder=holder)
    run_steps("dispatch", dispatcher.step, stop, idle_s=TICK_MS / 1000)
    # A renewal under way would take the lease again, for nobody.
    renewing.join(timeout=lease.times.deadline_s)
    try:
        lease.release()
    except Unavailable:
        log.get_logger().warning("lease_left_to_expire", holder=holder)
    log.get_logger().info("scheduler_stopped", holder=holder)
    return 0


def _reap(dispatcher: Dispatcher, reaper: QueueBroker, clock: DatabaseClock) -> bool:
    """Take over what dead workers and notifiers held, and measure every queue."""
    telemetry.CLOCK_SKEW.labels("scheduler").set(clock.skew_s())
    # Also for its own sake: a dead process that still holds something is looked for in all keys by every command.
    _waiting(reaper, NOTIFY_QUEUE)
    watch_backlogs(dispatcher, clock, lambda lane, location: _waiting(reaper, queue_name(lane, location)))
    for location in dispatcher.location_names().values():
        _waiting(reaper, probe_queue(location))
    return False


def _waiting(reaper: QueueBroker, queue: str) -> int:
    """How many messages wait in a queue, after what dead processes held was put back into it."""
    count = backlog(reaper, queue)
    reap_delayed(reaper, queue)
    telemetry.QUEUE_DEPTH.labels(queue).set(count)
    telemetry.DEAD_LETTERS.labels(queue).set(dead_letters(reaper, queue))
    return count


def _keep_partitions(database: Database, settings: Settings) -> bool:
    """Make the next days' partitions of results, and drop those whose time is over."""
    with database.begin() as connection:
        changed = schedule.keep_partitions(connection, settings.result_retention_days)
    if changed:
        log.get_logger().info("result_partitions_kept", changed=changed)
    return False


def _forget_alerts(database: Database) -> bool:
    """Forget the identities of alerts that are so old that no sender repeats them."""
    with database.begin() as connection:
        forgotten = alerts.forget(connection)
    if forgotten:
        log.get_logger().info("alert_identities_forgotten", count=forgotten)
    return forgotten > 0


def _forget_cooldowns(database: Database) -> bool:
    """Forget cooldowns that are over."""
    with database.begin() as connection:
        return cooldowns.forget(connection) > 0


def _forget_requests(database: Database) -> bool:
    """Forget idempotency keys, audit entries and sessions whose time is over."""
    with database.begin() as connection:
        keys = idempotency_keys.forget(connection)
    with database.begin() as connection:
        entries = audit_log.forget(connection)
    with database.begin() as connection:
        tokens = accounts.forget_tokens(connection)
    if keys or entries or tokens:
        log.get_logger().info("requests_forgotten", idempotency_keys=keys, audit_entries=entries, refresh_tokens=tokens)
    return keys + entries + tokens > 0


def _forget_incidents(database: Database, settings: Settings, stop: threading.Event) -> bool:
    """Forget resolved incidents whose time is over, with their events and notifications."""
    count, place, more = 0, None, True
    while more and not stop.is_set():
        with database.begin() as connection:
            step = forgotten.forget(connection, days=settings.event_retention_days, after=place)
        count, place, more = count + step.forgotten, step.place, step.place is not None
    if count:
        log.get_logger().info("incidents_forgotten", count=count)
    return False


if __name__ == "__main__":
    sys.exit(main("scheduler", run))
