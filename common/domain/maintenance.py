"""When maintenance windows are: once, every week, or by a cron expression; and what a schedule may be.

Weekly and cron windows begin by the clock on the wall of their time zone and last a time that elapses. A beginning that
the clock jumps over (daylight saving) comes as much later as it jumps; one that comes twice is the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import islice, pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from common.domain.errors import FieldError

#: How long one window lasts at least and at most, and how far ahead a single one may begin.
SHORTEST = timedelta(seconds=60)
LONGEST = timedelta(days=30)
FARTHEST = timedelta(days=400)

#: Between the end of a window and its next beginning: each is prepared shortly before it begins.
APART = timedelta(seconds=60)

#: How far ahead a schedule is looked at for windows that would overlap: both changes of the clock lie in it.
_AHEAD = timedelta(days=400)
_MOST_LOOKED_AT = 2_000

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CRON_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that a window is on: from `begins_at` until just before `ends_at`, both in UTC."""

    begins_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Once:
    """A single window."""

    begins_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Weekly:
    """On some days of every week, 0 is Monday, at a time of the zone's day."""

    days: tuple[int, ...]
    at: time
    duration: timedelta
    zone: str


@dataclass(frozen=True, slots=True)
class Cron:
    """Whenever a cron expression of five fields says so, by the zone's clock."""

    expression: str
    duration: timedelta
    zone: str


Schedule = Once | Weekly | Cron


def occurrence(schedule: Schedule, now: datetime, *, not_before: datetime | None = None) -> Occurrence | None:
    """The one that is on, else the next; None when none comes. It begins at `not_before` or later."""
    if isinstance(schedule, Once):
        gone = schedule.ends_at <= now or (not_before is not None and schedule.begins_at < not_before)
        return None if gone else Occurrence(schedule.begins_at, schedule.ends_at)
    since = now - schedule.duration
    if not_before is not None:
        since = max(since, not_before)
    begins = (begin for begin in beginnings(schedule, since) if begin + schedule.duration > now)
    begin = next(begins, None)
    return None if begin is None else Occurrence(begin, begin + schedule.duration)


def beginnings(schedule: Weekly | Cron, since: datetime) -> Iterator[datetime]:
    """All beginnings from `since` on, in UTC and in order. Raises ValueError for what check_schedule refuses."""
    if isinstance(schedule, Weekly):
        return _weekly(schedule, since)
    return _by_cron(schedule, since)


def check_schedule(schedule: Schedule, now: datetime) -> list[FieldError]:
    """What is wrong with it, [] for nothing; fields are named as in the API."""
    if isinstance(schedule, Once):
        return list(_check_once(schedule, now))
    wrong = [*_check_zone(schedule.zone), *_check_duration(schedule.duration)]
    if isinstance(schedule, Weekly) and not schedule.days:
        wrong.append(FieldError("days", "must name at least one day"))
    if isinstance(schedule, Cron):
        wrong += _check_expression(schedule.expression)
    return wrong or _check_apart(schedule, now)


def stored(schedule: Schedule) -> dict[str, Any]:
    """As it is kept."""
    if isinstance(schedule, Once):
        return {"type": "once", "starts_at": _iso(schedule.begins_at), "ends_at": _iso(schedule.ends_at)}
    common = {"duration_s": int(schedule.duration.total_seconds()), "time_zone": schedule.zone}
    if isinstance(schedule, Weekly):
        days = [DAYS[day] for day in schedule.days]
        return {"type": "weekly", "days": days, "time": schedule.at.isoformat("minutes"), **common}
    return {"type": "cron", "cron": schedule.expression, **common}


def read(kept: Mapping[str, Any]) -> Schedule:
    """What `stored` kept. Raises KeyError or ValueError for what it never made."""
    if kept["type"] == "once":
        return Once(datetime.fromisoformat(kept["starts_at"]), datetime.fromisoformat(kept["ends_at"]))
    duration = timedelta(seconds=kept["duration_s"])
    if kept["type"] == "weekly":
        days = days_of(kept["days"])
        return Weekly(days, time.fromisoformat(kept["time"]), duration, kept["time_zone"])
    return Cron(kept["cron"], duration, kept["time_zone"])


def days_of(names: Sequence[str]) -> tuple[int, ...]:
    """Days by their names, each once and in order."""
    return tuple(sorted({DAYS.index(name) for name in names}))


def _weekly(schedule: Weekly, since: datetime) -> Iterator[datetime]:
    zone = ZoneInfo(schedule.zone)
    # A day before: where the clock jumps, a beginning may lie on the day after its own.
    day = since.astimezone(zone).date() - timedelta(days=1)
    while True:
        if day.weekday() in schedule.days:
            begin = datetime.combine(day, schedule.at, tzinfo=zone).astimezone(UTC)
            if begin >= since:
                yield begin
        try:
            day += timedelta(days=1)
        except OverflowError:
            return


def _by_cron(schedule: Cron, since: datetime) -> Iterator[datetime]:
    # It yields minutes after the one that it is given.
    start = (since - timedelta(microseconds=1)).astimezone(ZoneInfo(schedule.zone))
    for begin in CronSim(schedule.expression, start):
        moment = begin.astimezone(UTC)
        if moment >= since:  # within an hour that comes twice it gives the first
            yield moment


def _check_once(schedule: Once, now: datetime) -> Iterator[FieldError]:
    if schedule.begins_at > now + FARTHEST:
        yield FieldError("starts_at", f"must lie within {FARTHEST.days} days")
    elif schedule.ends_at <= schedule.begins_at:
        yield FieldError("ends_at", "must lie after starts_at")
    elif schedule.ends_at <= now:
        yield FieldError("ends_at", "must lie in the future")
    elif schedule.ends_at - schedule.begins_at > LONGEST:
        yield FieldError("ends_at", f"must lie within {LONGEST.days} days of starts_at")


def _check_zone(zone: str) -> list[FieldError]:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return [FieldError("time_zone", "is no time zone of the IANA database, for example Europe/Berlin")]
    return []


def _check_duration(duration: timedelta) -> list[FieldError]:
    if SHORTEST <= duration <= LONGEST:
        return []
    least, most = int(SHORTEST.total_seconds()), int(LONGEST.total_seconds())
    return [FieldError("duration_seconds", f"must be between {least} and {most}")]


def _check_expression(expression: str) -> list[FieldError]:
    if len(expression.split()) != _CRON_FIELDS:
        return [FieldError("cron", "must have five fields: minute, hour, day of month, month, day of week")]
    try:
        CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return [FieldError("cron", f"is not a cron expression: {error}")]
    return []


def _check_apart(schedule: Weekly | Cron, now: datetime) -> list[FieldError]:
    """It must come, and each window must be over well before the next one."""
    coming = takewhile(lambda begin: begin < now + _AHEAD, beginnings(schedule, now))
    begins = list(islice(coming, _MOST_LOOKED_AT))
    if not begins:
        return [FieldError("cron", f"does not come within {_AHEAD.days} days")]
    apart = min((later - begin for begin, later in pairwise(begins)), default=None)
    if apart is not None and apart < schedule.duration + APART:
        most = max(0, int((apart - APART).total_seconds()))
        return [FieldError("duration_seconds", f"must be at most {most}: the next window begins by then")]
    return []


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
