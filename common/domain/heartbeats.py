"""What pings and their absence say of a heartbeat: pure, so that every race has its test.

A heartbeat is judged at three kinds of moments: when a ping says something new, when a deadline has passed, and at its
slots, where what it is counts for uptime like any other scheduled result. Our own deafness is never held against it:
a deadline that a ping may have missed because no API was there to hear it moves on to the next signal that is due.
Times are Unix milliseconds. docs/decisions/0026-pings-are-an-inbox.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType

from common.domain.accounting import Span
from common.domain.checks import Kind, Reason, Verdict, _Labelled
from common.domain.heartbeat_schedules import NOTHING_COUNTED, Schedule, Tally
from common.domain.slots import latest_slot, next_slot

#: A deadline is judged so long after it passed: what came in time may still be on its way to the disk.
MARGIN_MS = 1_000
#: Runs without an end that are remembered of one monitor.
MAX_RUNS = 20
#: A missed deadline is never dated further back: the days of results that are kept begin somewhere.
_LOOK_BACK_MS = 12 * 3600 * 1000


class PingKind(_Labelled):
    """What a ping says. `NOTE` is ours: the configuration changed."""

    SUCCESS = 0
    START = 1
    FAIL = 2
    LOG = 3
    NOTE = 9


@dataclass(frozen=True, slots=True)
class Ping:
    """One ping as it was heard. `message` explains a failure; `rid` is the run that it belongs to."""

    kind: PingKind
    at_ms: int
    exit_code: int | None = None
    latency_ms: float = -1.0
    rid: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of a heartbeat.

    `heard_ms` is the last success or failure (but none that is tolerated) since it is watched, `event_ms` the newest
    moment that was judged, `looked_to_ms` its newest slot that was; `runs` are (run id or "", start) of runs without an
    end, oldest first. `tally` is empty unless the schedule counts.
    """

    armed: bool = False
    version: int = 0
    watched_from_ms: int = 0
    heard_ms: int | None = None
    trouble: Reason = Reason.NONE
    message: str = ""
    code: int = 0
    latency_ms: float = -1.0
    event_ms: int = 0
    looked_to_ms: int = 0
    expected_ms: int | None = None
    deadline_ms: int | None = None
    runs: tuple[tuple[str, int], ...] = ()
    tally: Tally = NOTHING_COUNTED


@dataclass(frozen=True, slots=True)
class Setting:
    """What a heartbeat is judged by: its schedule and slots, since when and in which version, and our own hearing.

    `settled`: the monitor's vote says up already, so that one more success is no news. `heard_to_ms` is the last sign
    of an API; `deaf` are the spells without one, in order.
    """

    schedule: Schedule
    interval_ms: int
    phase: int
    watched_from_ms: int
    version: int
    heard_to_ms: int
    deaf: Sequence[Span] = ()
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """A verdict at a moment. One at a slot is scheduled; the others vote as a confirmation does."""

    at_ms: int
    verdict: Verdict
    kind: Kind = Kind.CONFIRM
    reason: Reason = Reason.NONE
    message: str = ""
    code: int = 0
    latency_ms: float = -1.0


@dataclass(frozen=True, slots=True)
class Course:
    """What became of a heartbeat. `durations_ms` are those of the pings, in their order; `look_at_ms`: look again."""

    standing: Standing
    said: tuple[Said, ...]
    durations_ms: tuple[int | None, ...]
    look_at_ms: int


@dataclass(slots=True)
class _Path:
    """A course under way."""

    standing: Standing
    setting: Setting
    said: list[Said] = field(default_factory=list)


def follow(standing: Standing, pings: Sequence[Ping], setting: Setting, now_ms: int) -> Course:
    """Go through pings (in order of time), the latest slot and deadlines as they came, up to now."""
    path = _Path(_restarted(standing, setting), setting)
    settled_ms = now_ms - MARGIN_MS
    slot = latest_slot(settled_ms, setting.interval_ms, setting.phase)
    durations: list[int | None] = []
    for ping in pings:
        if path.standing.looked_to_ms < slot < ping.at_ms:
            _look_at_slot(path, slot)
        durations.append(_hear(path, ping))
    if path.standing.looked_to_ms < slot:
        _look_at_slot(path, slot)
    _pass_deadlines(path, settled_ms)
    return Course(path.standing, tuple(path.said), tuple(durations), _next_look(path.standing, setting, now_ms))


def _restarted(standing: Standing, setting: Setting) -> Standing:
    """Resuming, a new interval or a new schedule begin anew: what was missed before is not held against it."""
    if standing.version == setting.version:
        return standing
    changed = replace(standing, version=setting.version)
    if standing.watched_from_ms != setting.watched_from_ms:
        changed = replace(changed, watched_from_ms=setting.watched_from_ms, heard_ms=None, trouble=Reason.NONE)
        changed = replace(changed, message="", runs=(), tally=NOTHING_COUNTED)
    elif standing.trouble is Reason.HEARTBEAT_MISSED:
        changed = replace(changed, trouble=Reason.NONE, message="")
    return _expecting(changed, setting)


def _expecting(standing: Standing, setting: Setting) -> Standing:
    """With the next signal that is due. A deadline that deafness may have spoilt moves on."""
    if not standing.armed:
        return replace(standing, expected_ms=None, deadline_ms=None)
    expected_ms = setting.schedule.due(_tally(standing, setting.schedule), setting.deaf)
    return replace(standing, expected_ms=expected_ms, deadline_ms=expected_ms + setting.schedule.grace_ms)


def _tally(standing: Standing, schedule: Schedule) -> Tally:
    """What the next signal has to follow."""
    if not schedule.counts:
        return Tally((_anchor(standing),))
    tally, heard_ms = standing.tally, standing.heard_ms or 0
    # A success that is not in it: the version before, which counts none, has heard it.
    uncounted = standing.trouble is Reason.NONE and heard_ms > max((*tally.successes, tally.since_ms or 0))
    if tally == NOTHING_COUNTED or uncounted:
        return Tally(since_ms=_anchor(standing))
    return schedule.fitted(tally)


def _anchor(standing: Standing) -> int:
    """From when on the next signal is awaited."""
    return max(standing.watched_from_ms, standing.heard_ms or 0)


def _hear(path: _Path, ping: Ping) -> int | None:
    """One ping; the duration of the run that it ends, None without one."""
    at_ms = max(ping.at_ms, path.standing.event_ms + 1)
    _pass_deadlines(path, at_ms - 1)
    standing = path.standing
    if ping.kind is PingKind.START:
        runs = (*(run for run in standing.runs if run[0] != (ping.rid or "")), (ping.rid or "", at_ms))
        # That it began once says nothing of when the next signal is due: only its own end is awaited.
        path.standing = replace(standing, runs=runs[-MAX_RUNS:])
        return None
    if ping.kind not in (PingKind.SUCCESS, PingKind.FAIL):
        return None
    started_ms, runs = _ended(standing.runs, ping)
    duration_ms = None if started_ms is None else at_ms - started_ms
    latency_ms = ping.latency_ms if duration_ms is None else float(duration_ms)
    success = ping.kind is PingKind.SUCCESS
    tally = _counted(standing, path.setting, at_ms, success=success)
    standing = replace(standing, armed=True, code=ping.exit_code or 0, latency_ms=latency_ms, runs=runs)
    path.standing = replace(standing, tally=tally)
    if success:
        _succeed(path, at_ms)
    elif path.setting.schedule.tolerant:
        path.standing = _expecting(path.standing, path.setting)
    else:
        _fail(path, at_ms, _failure(ping))
    return duration_ms


def _counted(standing: Standing, setting: Setting, at_ms: int, *, success: bool) -> Tally:
    """The tally after a signal. The first of its life is where counting begins, whatever it says."""
    schedule = setting.schedule
    if not schedule.counts:
        return NOTHING_COUNTED
    tally = _tally(standing, schedule) if standing.armed else Tally(since_ms=at_ms)
    return schedule.followed(tally, at_ms, setting.deaf) if success else tally


def _succeed(path: _Path, at_ms: int) -> None:
    before = path.standing
    path.standing = standing = _expecting(
        replace(before, heard_ms=at_ms, trouble=Reason.NONE, message=""), path.setting
    )
    if before.trouble is not Reason.NONE and (standing.deadline_ms or 0) <= at_ms:
        # One of several that are missing: it is as down as it was.
        message = _missing(standing, path.setting.schedule)
        path.standing = replace(standing, trouble=Reason.HEARTBEAT_MISSED, message=message)
    elif before.trouble is not Reason.NONE or before.heard_ms is None or not path.setting.settled:
        _say(path, at_ms, Verdict.UP, _kind_after(before))


def _fail(path: _Path, at_ms: int, message: str) -> None:
    before = path.standing
    path.standing = _expecting(
        replace(before, heard_ms=at_ms, trouble=Reason.HEARTBEAT_FAILED, message=message), path.setting
    )
    _say(path, at_ms, Verdict.DOWN, _kind_after(before))


def _kind_after(before: Standing) -> Kind:
    """The first of its life is a slot's as well: from here on it counts for uptime."""
    return Kind.SCHEDULED if before.heard_ms is None else Kind.CONFIRM


def _ended(runs: tuple[tuple[str, int], ...], ping: Ping) -> tuple[int | None, tuple[tuple[str, int], ...]]:
    """When the run began that this ends, and the runs that go on.

    One that names another run ends none, unless it failed; one that names none ends them all.
    """
    started = dict(runs).get(ping.rid or "")
    if started is None:
        return None, runs if ping.rid is not None and ping.kind is PingKind.SUCCESS else ()
    return started, tuple(run for run in runs if run[0] != (ping.rid or ""))


def _failure(ping: Ping) -> str:
    status = f"exit status {ping.exit_code}" if ping.exit_code else ""
    return ": ".join(part for part in (status, ping.message) if part) or "a failure was reported"


def _pass_deadlines(path: _Path, until_ms: int) -> None:
    """Judge the deadlines that passed up to this moment, as far as an API was there to hear."""
    until_ms = min(until_ms, path.setting.heard_to_ms)
    grace_ms = path.setting.schedule.grace_ms
    for run in path.standing.runs:
        limit_ms = run[1] + grace_ms
        if _deaf_within(path.setting.deaf, run[1], min(limit_ms, until_ms)):
            _drop_run(path, run)  # its end may have come when nobody heard it
        elif limit_ms <= until_ms:
            _drop_run(path, run)
            message = f"began {_shown(run[1])} and had not ended {_span(grace_ms)} later"
            _trouble(path, limit_ms, until_ms, Reason.RUN_TOO_LONG, message)
    path.standing = standing = _expecting(path.standing, path.setting)
    if standing.deadline_ms is None or standing.expected_ms is None or standing.trouble is not Reason.NONE:
        return
    if standing.deadline_ms <= until_ms:
        message = _missing(standing, path.setting.schedule)
        _trouble(path, standing.deadline_ms, until_ms, Reason.HEARTBEAT_MISSED, message)


def _missing(standing: Standing, schedule: Schedule) -> str:
    """What was expected of one that is late, and what there was."""
    expected_ms = standing.expected_ms or 0
    heard = "not heard since" if standing.heard_ms is None else "last heard"
    last = f"{heard} {_shown(standing.heard_ms or standing.watched_from_ms)}"
    expected = f"expected by {_shown(expected_ms)} with {_span(schedule.grace_ms)} of grace; {last}"
    if schedule.at_least == 1:
        return expected
    came = sum(mark > expected_ms - schedule.period_ms for mark in standing.tally.successes)
    return f"{came} of {schedule.at_least} successes in {_span(schedule.period_ms)}; the next was {expected}"


def _trouble(path: _Path, at_ms: int, until_ms: int, reason: Reason, message: str) -> None:
    path.standing = replace(path.standing, trouble=reason, message=message, code=0)
    _say(path, max(at_ms, path.standing.event_ms + 1, until_ms - _LOOK_BACK_MS), Verdict.DOWN)


def _drop_run(path: _Path, run: tuple[str, int]) -> None:
    path.standing = replace(path.standing, runs=tuple(other for other in path.standing.runs if other != run))


def _say(path: _Path, at_ms: int, verdict: Verdict, kind: Kind = Kind.CONFIRM) -> None:
    standing = path.standing
    said = Said(at_ms, verdict, kind, code=standing.code, latency_ms=standing.latency_ms)
    if verdict is Verdict.DOWN:
        said = replace(said, reason=standing.trouble, message=standing.message, latency_ms=-1.0)
    elif verdict is Verdict.UNKNOWN:
        said = replace(said, reason=Reason.HEARTBEAT_UNHEARD, message=_UNHEARD, latency_ms=-1.0)
    path.said.append(said)
    path.standing = replace(standing, event_ms=max(standing.event_ms, at_ms))


_UNHEARD = "no API of ours was there to hear it"


def _look_at_slot(path: _Path, slot: int) -> None:
    """What it is at its slot. One that waits for its first ping is nothing yet."""
    _pass_deadlines(path, slot)
    path.standing = standing = replace(path.standing, looked_to_ms=slot)
    if slot < standing.watched_from_ms or (standing.heard_ms is None and standing.trouble is Reason.NONE):
        return
    verdict = Verdict.UP if standing.trouble is Reason.NONE else Verdict.DOWN
    setting = path.setting
    if slot > setting.heard_to_ms + 2 * MARGIN_MS or _deaf_within(setting.deaf, slot, slot):
        verdict = Verdict.UNKNOWN
    elif verdict is Verdict.UP:
        # It would be late if we had heard all the time.
        plain_ms = setting.schedule.due(_tally(standing, setting.schedule)) + setting.schedule.grace_ms
        verdict = Verdict.UNKNOWN if slot > plain_ms else Verdict.UP
    _say(path, slot, verdict, Kind.SCHEDULED)


def _deaf_within(deaf: Sequence[Span], begin: int, end: int) -> bool:
    return any(since <= end and until > begin for since, until in deaf)


def _next_look(standing: Standing, setting: Setting, now_ms: int) -> int:
    """When there is something to judge if nothing happens before."""
    moments = [next_slot(now_ms - MARGIN_MS, setting.interval_ms, setting.phase)]
    moments += [start + setting.schedule.grace_ms for _, start in standing.runs]
    if standing.deadline_ms is not None and standing.trouble is Reason.NONE:
        moments.append(standing.deadline_ms)
    # What has passed already waits for an API to be heard of again.
    return max(min(moments) + MARGIN_MS, now_ms + MARGIN_MS)


_UNITS: MappingProxyType[str, int] = MappingProxyType({"d": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1_000})


def _span(ms: int) -> str:
    """A duration for people, in the largest unit that holds it whole."""
    unit, size = next(((unit, size) for unit, size in _UNITS.items() if ms % size == 0 and ms >= size), ("ms", 1))
    return f"{ms // size} {unit}"


def _shown(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
