"""From a message to committed results: probe a batch at once, let nobody wait for the slowest.

A fast or urgent batch ends after two seconds: what still probes then moves to the slow lane, with the same slot,
before the message is acknowledged; after up to ten, while it is this process that has no time for it. What is probed
and waits for its commit is never given up.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import Counter, Histogram

from common import log, telemetry
from common.broker import Batch, QueueBroker, decode_batch, enqueue_checks
from common.clock import DatabaseClock
from common.domain.checks import (
    GONE_CLASS,
    NETWORK_CLASS,
    Check,
    Lane,
    Observation,
    Phases,
    Reason,
    Result,
    Verdict,
)
from common.domain.errors import Unavailable
from common.domain.monitors import MonitorConfig
from common.domain.redaction import redacted
from common.domain.slots import deadline_ms
from common.domain.traces import check_id
from worker.admission import Admission
from worker.canary import Canary
from worker.configs import ConfigCache
from worker.judge import Judged
from worker.probes.base import ProbeContext, failed
from worker.probes.registry import PROBES
from worker.spans import Came
from worker.stall import STALL_CLASS, LoopLag
from worker.suspicion import Suspicion
from worker.writer import Ticket, Writer

_Tasks = dict[asyncio.Task[None], tuple[Check, MonitorConfig]]

#: So many probes of the quick lanes run at once in one process; the slow lane's mostly wait and need no limit.
MAX_QUICK_PROBES = 1_000

#: How long a batch of these lanes may hold its message (seconds); the slow lane waits for every timeout.
SPILL_AFTER_S = 2.0
#: For so many times as long it goes on with what is late because of us. There may be another reason for our lag than
#: what it probes, and then the lane would wait for every target that hangs.
_MOST_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Parts:
    """What a runner works with; all of it belongs to this process."""

    configs: ConfigCache
    probes: ProbeContext
    writer: Writer
    clock: DatabaseClock
    suspicion: Suspicion
    lag: LoopLag
    canary: Canary
    broker: QueueBroker
    blocking: Executor
    #: Told when a monitor's certificate expires (Unix time), by the checks that looked.
    note_expiry: Callable[[MonitorConfig, int], None] = lambda _config, _expires_s: None


class CheckRunner:
    """Runs batches on the event loop. One per process."""

    def __init__(self, parts: Parts, *, location: int, location_name: str) -> None:
        self._parts = parts
        self._location = location
        self._location_name = location_name
        self._draining: asyncio.Event = asyncio.Event()
        self._admission = Admission(MAX_QUICK_PROBES)
        for type_ in PROBES:
            _duration(type_)  # from zero on, so that the first one is seen as an increase
        self._logger = log.get_logger()

    def drain(self) -> None:
        """End all batches now: what still probes goes to the slow lane. Event loop only."""
        self._draining.set()

    async def run(self, payload: Any, lane: Lane) -> None:
        """One message, from decoding to commit. Raises UnreadableMessage, or Unavailable for an internal retry."""
        batch, received_ms = decode_batch(payload), self._parts.clock.now_ms()
        quick = lane is not Lane.SLOW
        due = await (self._admit(batch.checks) if quick else self._due(batch.checks))
        if self._logger.is_enabled_for(logging.DEBUG):
            self._tell(batch, lane, due)
        loop = asyncio.get_running_loop()
        ticket = Ticket(loop, batch.id, Came(lane, batch.epoch, batch.sent_ms, received_ms))
        tasks = {loop.create_task(self._run_one(*each, lane, ticket)): each for each in due}
        if quick:
            for task in tasks:
                task.add_done_callback(self._left)
        if tasks:
            await self._finish(tasks, lane, batch.id)
        for task, (check, config) in tasks.items():
            if not task.cancelled() and (error := task.exception()):
                self._own_fault(check, config, ticket, error)
        await ticket.wait()

    def _tell(self, batch: Batch, lane: Lane, due: Sequence[tuple[Check, MonitorConfig]]) -> None:
        """What leads from a batch to the ids of its checks, and back; too much for every batch."""
        listed = [(config.monitor_id, check.scheduled_at_ms) for check, config in due]
        self._logger.debug(
            "batch_started",
            batch_id=batch.id,
            lane=lane.label,
            checks=len(due),
            due=[[monitor_id, at_ms, check_id(monitor_id, self._location, at_ms)] for monitor_id, at_ms in listed],
        )

    async def _admit(self, checks: Sequence[Check]) -> list[tuple[Check, MonitorConfig]]:
        """What is due of a quick lane's batch, once there is room to probe it all."""
        await self._admission.enter(len(checks))
        due: list[tuple[Check, MonitorConfig]] = []
        try:
            due = await self._due(checks)
        finally:
            self._admission.leave(len(checks) - len(due))
        return due

    def _left(self, _task: asyncio.Task[None]) -> None:
        self._admission.leave()

    async def _due(self, checks: Sequence[Check]) -> list[tuple[Check, MonitorConfig]]:
        """Checks that are still worth running, with their configurations; misses are fetched in one query."""
        configs = self._parts.configs
        missing = [check for check in checks if configs.get(check) is None]
        if missing:
            configs.keep(await self._fetch(missing))
        now_ms = self._parts.clock.now_ms()
        due: list[tuple[Check, MonitorConfig]] = []
        for check in checks:
            config = configs.get(check)
            if config is None or config.type == "heartbeat":
                continue  # paused or deleted since it was dispatched; or nobody's to probe, sent by an older leader
            if now_ms > deadline_ms(check.scheduled_at_ms, config.interval_s):
                telemetry.CHECKS_LATE.inc()
                continue
            due.append((check, config))
        return due

    async def _fetch(self, missing: Sequence[Check]) -> list[MonitorConfig]:
        """Configurations of these checks' monitors; while the database is away we wait, and do not fail the batch."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(self._parts.blocking, self._parts.configs.fetch, missing)
            except Unavailable:
                if self._draining.is_set():
                    raise  # Dramatiq will bring the message back to somebody who stays
                await asyncio.sleep(1.0)

    async def _finish(self, tasks: _Tasks, lane: Lane, batch_id: str) -> None:
        """Wait for the probes; in a quick lane only so long, then move the rest over."""
        drained = asyncio.get_running_loop().create_task(self._draining.wait())
        try:
            if lane is Lane.SLOW:
                pending = await _wait_or_drain(tasks, drained, None)
            else:
                pending = await self._wait_quickly(tasks, drained)
            if pending:
                await self._spill({task: tasks[task] for task in pending}, batch_id)
        finally:
            drained.cancel()

    async def _wait_quickly(self, tasks: _Tasks, drained: asyncio.Task[Any]) -> set[asyncio.Task[None]]:
        """What is not done in a quick lane's time; but begun anew, what is only slow because of us gets slower yet."""
        lag, pending = self._parts.lag, set(tasks)
        for _ in range(_MOST_ROUNDS):
            before_s = lag.total_s()
            pending = await _wait_or_drain(tasks, drained, SPILL_AFTER_S)
            if not pending or drained.done() or not lag.blames_us(before_s, SPILL_AFTER_S):
                break
        return pending

    def _own_fault(self, check: Check, config: MonitorConfig, ticket: Ticket, error: BaseException) -> None:
        """A probe never raises for its target. What does is a bug of ours: unknown for this check, no other suffers."""
        trace_id = check_id(config.monitor_id, self._location, check.scheduled_at_ms)
        self._logger.error(
            "probe_failed",
            monitor_id=config.monitor_id,
            correlation_id=trace_id,
            batch_id=ticket.batch_id,
            exc_info=error,
        )
        observation = failed(Reason.INTERNAL, "not judged, the check failed inside Tocsin", Phases())
        result = Result(check, self._location, observation, self._parts.clock.now_ms())
        self._parts.writer.submit(Judged(result, config, ticket.batch_id), ticket)
        _count(config.type, observation.verdict, observation.reason).inc()

    async def _spill(self, pending: _Tasks, batch_id: str) -> None:
        loop = asyncio.get_running_loop()
        checks = [check for check, _config in pending.values()]
        try:
            await loop.run_in_executor(self._parts.blocking, self._enqueue_slow, checks, batch_id)
        except Unavailable:
            # The queue is away: rather finish here, late, than lose them.
            await asyncio.wait(pending)
            return
        telemetry.CHECKS_SPILLED.inc(len(checks))
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)

    def _enqueue_slow(self, checks: Sequence[Check], batch_id: str) -> None:
        now_ms = self._parts.clock.now_ms()
        enqueue_checks(self._parts.broker, Lane.SLOW, self._location_name, checks, batch_id=batch_id, sent_ms=now_ms)

    async def _run_one(self, check: Check, config: MonitorConfig, lane: Lane, ticket: Ticket) -> None:
        parts = self._parts
        started_ms, lag_before_s = parts.clock.now_ms(), parts.lag.total_s()
        began_s = time.monotonic()
        if lane is not Lane.SLOW:
            telemetry.SCHEDULING_LAG.observe(max(0, started_ms - check.scheduled_at_ms) / 1000)
        trace_id = check_id(config.monitor_id, self._location, check.scheduled_at_ms)
        observation = await PROBES[config.type](config, config.timeout_s, parts.probes, trace_id)
        observation = await self._doubt(config, observation, lag_before_s, began_s)
        finished_ms = parts.clock.now_ms()
        slow = finished_ms - started_ms > SPILL_AFTER_S * 1000
        result = Result(check, self._location, observation, finished_ms, slow)
        parts.writer.submit(Judged(result, config, ticket.batch_id, started_ms), ticket)
        if observation.expires_s is not None:
            parts.note_expiry(config, observation.expires_s)
        _count(config.type, observation.verdict, observation.reason).inc()
        _duration(config.type).observe((finished_ms - started_ms) / 1000)

    async def look(self, config: MonitorConfig) -> Observation:
        """Probe once, outside of every lane: doubted like a check, and no evidence itself, for anybody may ask."""
        lag_before_s, began_s = self._parts.lag.total_s(), time.monotonic()
        observation = await PROBES[config.type](config, config.timeout_s, self._parts.probes, None)
        return await self._doubt(config, observation, lag_before_s, began_s, evidence=False)

    async def _doubt(
        self,
        config: MonitorConfig,
        observation: Observation,
        lag_before_s: float,
        began_s: float,
        *,
        evidence: bool = True,
    ) -> Observation:
        """Turn a failure into `unknown` when it is more likely ours: we stood still, or our network fails."""
        parts, reason = self._parts, observation.reason
        if config.secrets and observation.message:
            observation = redacted(observation, config.secrets)
        if reason in STALL_CLASS and parts.lag.blames_us(lag_before_s, config.timeout_s):
            return _unknown(observation, Reason.WORKER_STALLED, "this worker stood still")
        if evidence:
            parts.suspicion.note(observation.address or config.target, reason)
        lost = reason in NETWORK_CLASS and parts.suspicion.suspects_us()
        if lost or (reason in GONE_CLASS and not await parts.canary.alive(began_s)):
            return _unknown(observation, Reason.WORKER_NETWORK, "our own network fails")
        return observation


def _unknown(observation: Observation, reason: Reason, why: str) -> Observation:
    return replace(
        observation,
        verdict=Verdict.UNKNOWN,
        reason=reason,
        message=f"not judged, {why}: {observation.message}",
        failed_assertion=None,
    )


@functools.cache
def _count(kind: str, verdict: Verdict, reason: Reason) -> Counter:
    """The counter of one kind of outcome: there are few, and finding one by its labels takes a lock each time."""
    return telemetry.CHECKS.labels(kind, verdict.label, reason.label)


@functools.cache
def _duration(kind: str) -> Histogram:
    return telemetry.CHECK_DURATION.labels(kind)


async def _wait_or_drain(
    tasks: Iterable[asyncio.Task[None]], drained: asyncio.Task[Any], timeout_s: float | None
) -> set[asyncio.Task[None]]:
    """Wait for all tasks, at most `timeout_s`, or until we drain; the tasks that are not done."""
    loop = asyncio.get_running_loop()
    all_done = loop.create_task(_all_done(tasks))
    try:
        await asyncio.wait({all_done, drained}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        all_done.cancel()
    return {task for task in tasks if not task.done()}


async def _all_done(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(list(tasks))
