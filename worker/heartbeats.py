"""The loop that judges heartbeats: pings and deadlines become results, and go the way of all results.

Any worker judges any heartbeat; a heartbeat's row, locked, says whose turn it is. Verdicts are committed by the writer
before the inbox is emptied: whoever dies in between leaves it to another, who comes to the same results at the same
moments, which are stored and counted once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field, replace

from common import log
from common.domain.checks import Check, Observation, Phases, Result
from common.domain.errors import Unavailable
from common.domain.heartbeat_schedules import schedule_of
from common.domain.heartbeats import Course, PingKind, Said, Setting, Standing, follow
from common.domain.monitors import MonitorConfig
from common.domain.options import HeartbeatOptions
from common.domain.slots import phase_ms
from common.store import heartbeats, monitor_configs
from common.store.engine import Connection, Database
from common.store.heartbeats import Claimed, Hearing, Kept, Received, Saved
from worker.configs import ConfigCache
from worker.judge import Judged
from worker.writer import Ticket, Writer

#: So many heartbeats and pings are judged together; of each heartbeat at least a few.
BATCH = 500
_MAX_PINGS = 2_000
_MIN_PINGS = 4
#: How long two signs of an API may be apart before we are deaf (as api/heartbeats_intake.py sees it).
PATIENCE_MS = 2_000
#: The writer commits within milliseconds, or when the database is back; then it is all judged again.
_COMMIT_S = 30.0
_SWEEP_EVERY = 200

Commit = Callable[[Sequence[Judged]], None]
"""Commit results; returns when they are."""


class HeartbeatJudge:
    """`step` runs in one thread; several processes may run one."""

    def __init__(self, database: Database, configs: ConfigCache, commit: Commit) -> None:
        self._database = database
        self._configs = configs
        self._commit = commit
        self._idle = 0
        self._logger = log.get_logger()

    def step(self) -> bool:
        """Judge what there is to judge; False when there is nothing."""
        with self._database.begin() as connection:
            claimed = {one.monitor_no: one for one in heartbeats.claim(connection, limit=BATCH)}
            if claimed:
                self._judge(connection, claimed)
            elif self._idle % _SWEEP_EVERY == 0:
                heartbeats.sweep(connection)
        self._idle = 0 if claimed else self._idle + 1
        return bool(claimed)

    def _judge(self, connection: Connection, claimed: Mapping[int, Claimed]) -> None:
        numbers = list(claimed)
        rows = monitor_configs.load(connection, numbers)
        configs = {row.monitor_no: config for row in rows if (config := self._configs.build(row)) is not None}
        now_ms = heartbeats.now_ms(connection)
        inbox = heartbeats.inbox(connection, numbers, limit=max(_MIN_PINGS, _MAX_PINGS // len(numbers)))
        received = inbox.received
        settled = heartbeats.settled(connection, numbers)
        heard = _with_open_spell(heartbeats.hearing(connection, now_ms), received)
        came: dict[int, list[Received]] = {number: [] for number in numbers}
        for ping in received:
            if ping.ping.kind is not PingKind.NOTE:
                came[ping.monitor_no].append(ping)
        outcome = _Outcome(now_ms)
        for number, one in claimed.items():
            # Of whom more came than was read, nothing is judged that what is left may say otherwise.
            until_ms = min(now_ms, inbox.cut.get(number, now_ms))
            heard_then = replace(heard, now_ms=until_ms)
            outcome.add(one, came[number], configs.get(number), heard_then, settled=number in settled)
        self._commit(outcome.judged)
        # After the verdicts: who dies in between leaves the inbox to another.
        heartbeats.save(connection, outcome.saved)
        heartbeats.rest(connection, outcome.resting)
        heartbeats.keep(connection, outcome.kept)
        heartbeats.clear(connection, [ping.id for ping in received])
        heartbeats.forget(connection, [number for number, one in claimed.items() if one.gone])


@dataclass(slots=True)
class _Outcome:
    """What becomes of the heartbeats of one step."""

    now_ms: int
    judged: list[Judged] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    resting: dict[int, int] = field(default_factory=dict)

    def add(
        self,
        claimed: Claimed,
        came: Sequence[Received],
        config: MonitorConfig | None,
        hearing: Hearing,
        *,
        settled: bool,
    ) -> None:
        """Follow one heartbeat; one that is not watched now only keeps its pings."""
        durations: Sequence[int | None] = [None] * len(came)
        course = _course(claimed, came, config, hearing, settled=settled)
        if config is None or course is None:
            if config is not None and not isinstance(config.options, HeartbeatOptions):
                # It is something else by now; should it be a heartbeat again, it begins anew.
                self.saved.append(Saved(claimed.monitor_no, claimed.pings, Standing(), self.now_ms))
            self.resting[claimed.monitor_no] = len(came)
        else:
            self.saved.append(Saved(claimed.monitor_no, claimed.pings + len(came), course.standing, course.look_at_ms))
            self.judged += _judged(config, course, self.now_ms)
            durations = course.durations_ms
        numbered = enumerate(zip(came, durations, strict=True), claimed.pings + 1)
        self.kept += [Kept(ping, n, duration_ms) for n, (ping, duration_ms) in numbered]


def committer(writer: Writer, loop: asyncio.AbstractEventLoop) -> Commit:
    """How results reach the writer, which belongs to the event loop."""

    async def submit(judged: Sequence[Judged]) -> None:
        ticket = Ticket(loop)
        for one in judged:
            writer.submit(one, ticket)
        await ticket.wait()

    def commit(judged: Sequence[Judged]) -> None:
        if not judged:
            return
        try:
            asyncio.run_coroutine_threadsafe(submit(judged), loop).result(_COMMIT_S)
        except FutureTimeout as error:
            raise Unavailable("The writer has not committed.") from error

    return commit


def _with_open_spell(hearing: Hearing, received: Sequence[Received]) -> Hearing:
    """What came proves that somebody heard; a silence that still lasts is a spell as well."""
    newest_ms = max((one.ping.at_ms for one in received if one.ping.kind is not PingKind.NOTE), default=0)
    heard_to_ms = max(hearing.heard_to_ms, newest_ms)
    if hearing.now_ms - heard_to_ms <= PATIENCE_MS:
        return replace(hearing, heard_to_ms=heard_to_ms)
    return replace(hearing, heard_to_ms=heard_to_ms, deaf=(*hearing.deaf, (heard_to_ms, hearing.now_ms)))


def _course(
    claimed: Claimed, came: Sequence[Received], config: MonitorConfig | None, hearing: Hearing, *, settled: bool
) -> Course | None:
    """What becomes of a heartbeat; None for one that is not watched now, or whose schedule cannot be read here."""
    if config is None or not isinstance(config.options, HeartbeatOptions):
        return None
    try:
        setting = _setting(claimed, config, config.options, hearing, settled=settled)
        return follow(claimed.standing, [ping.ping for ping in came], setting, hearing.now_ms)
    except (ValueError, KeyError):  # a time zone that this machine does not know costs only its own monitors
        log.get_logger().exception("heartbeat_schedule_unreadable", monitor_id=config.monitor_id)
        return None


def _setting(
    claimed: Claimed, config: MonitorConfig, options: HeartbeatOptions, hearing: Hearing, *, settled: bool
) -> Setting:
    interval_ms = config.interval_s * 1000
    return Setting(
        schedule=schedule_of(options, config.interval_s),
        interval_ms=interval_ms,
        phase=phase_ms(config.monitor_id, interval_ms),
        watched_from_ms=claimed.check_from_ms,
        version=config.config_version,
        heard_to_ms=hearing.heard_to_ms,
        deaf=hearing.deaf,
        settled=settled,
    )


def _judged(config: MonitorConfig, course: Course, now_ms: int) -> list[Judged]:
    # Nobody probes it again to be sure: it is not asked, it speaks.
    sure = replace(config, policy=replace(config.policy, retry_interval_s=config.interval_s))
    return [Judged(_result(sure, said, now_ms), sure, "heartbeat") for said in course.said]


def _result(config: MonitorConfig, said: Said, now_ms: int) -> Result:
    observation = Observation(
        said.verdict,
        said.reason,
        said.message,
        said.code,
        Phases(total_ms=said.latency_ms),
    )
    check = Check(config.monitor_no, config.config_version, said.at_ms, said.kind)
    return Result(check, config.locations[0], observation, max(now_ms, said.at_ms))
