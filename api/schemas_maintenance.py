"""What requests about maintenance windows hold and answers look like."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from api.alert_documents import Moment
from api.schemas import Body, Id, Name, PageQuery
from api.schemas_matchers import MAX_MATCHERS, MatcherIn, matcher_problems
from common.domain.errors import FieldError
from common.domain.maintenance import LONGEST, SHORTEST

MaintenanceState = Literal["pending", "active", "ended"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

MAX_MONITORS = 1_000

_LONGEST_S, _SHORTEST_S = int(LONGEST.total_seconds()), int(SHORTEST.total_seconds())

#: {type: (fields it needs, fields it may have beside them)} of those that not every type has.
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "once": ((), ("starts_at", "ends_at", "duration_seconds")),
    "weekly": (("days", "time", "duration_seconds"), ("time_zone",)),
    "cron": (("cron", "duration_seconds"), ("time_zone",)),
}
_OF_SOME_TYPES = ("starts_at", "ends_at", "duration_seconds", "days", "time", "cron", "time_zone")


class MaintenanceIn(Body):
    """When, and of what: the monitors that are named, and those whose labels match all of `matchers`."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"id", "state", "occurrence", "created_by", "created_at", "updated_at"}
    )

    name: Name
    type: Literal["once", "weekly", "cron"] = "once"
    starts_at: Annotated[Moment | None, Field(description="once. Default: now.")] = None
    ends_at: Annotated[Moment | None, Field(description="once: this, or duration_seconds.")] = None
    duration_seconds: Annotated[int | None, Field(ge=1, le=_LONGEST_S, description="How long one window lasts.")] = None
    days: Annotated[list[Day] | None, Field(min_length=1, max_length=7, description="weekly")] = None
    time: Annotated[
        str | None, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="weekly: HH:MM in the time zone")
    ] = None
    cron: Annotated[str | None, Field(min_length=1, max_length=200, description="cron: five fields")] = None
    time_zone: Annotated[
        str | None,
        Field(min_length=1, max_length=64, description="weekly, cron: as in the IANA database. Default: UTC."),
    ] = None
    monitor_ids: Annotated[list[Id], Field(default_factory=list, max_length=MAX_MONITORS)]
    matchers: Annotated[
        list[MatcherIn], Field(default_factory=list, max_length=MAX_MATCHERS, description="All must hold.")
    ]
    until_healthy: Annotated[
        bool, Field(description="End early, once something was wrong and everything is up again.")
    ] = False
    healthy_for_seconds: Annotated[
        int, Field(ge=0, le=3_600, description="until_healthy: how long everything must have been up.")
    ] = 60
    comment: Annotated[str, Field(max_length=1_000)] = ""

    def problems(self) -> Iterator[FieldError]:
        """The fields of its type and no others; something that it covers."""
        needed, allowed = _FIELDS[self.type]
        for name in _OF_SOME_TYPES:
            given = getattr(self, name) is not None
            if name in needed and not given:
                yield FieldError(name, f"is required where type is {self.type}")
            elif given and name not in (*needed, *allowed):
                yield FieldError(name, f"has no meaning where type is {self.type}")
        if self.type == "once" and (self.ends_at is None) is (self.duration_seconds is None):
            missing = self.ends_at is None
            yield (
                FieldError("ends_at", "is required, or duration_seconds")
                if missing
                else FieldError("duration_seconds", "give either this or ends_at")
            )
        if self.duration_seconds is not None and self.duration_seconds < _SHORTEST_S and self.type != "once":
            yield FieldError("duration_seconds", f"must be at least {_SHORTEST_S}")
        if not self.monitor_ids and not self.matchers:
            yield FieldError("monitor_ids", "name monitors, or give matchers: nothing would be covered")
        yield from matcher_problems(self.matchers)


class Occurrence(BaseModel):
    """The window that is on, or the next one."""

    starts_at: datetime
    ends_at: datetime


class Maintenance(BaseModel):
    """A maintenance window. Fields of other types are null. `ended`: it does not come again."""

    id: str
    name: str
    type: Literal["once", "weekly", "cron"]
    starts_at: datetime | None
    ends_at: datetime | None
    duration_seconds: int | None
    days: list[Day] | None
    time: str | None
    cron: str | None
    time_zone: str | None
    monitor_ids: list[str]
    matchers: list[MatcherIn]
    until_healthy: bool
    healthy_for_seconds: int
    comment: str
    state: MaintenanceState
    occurrence: Occurrence | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class MaintenanceQuery(PageQuery):
    """Which windows."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"state"})

    state: list[MaintenanceState] | None = None
