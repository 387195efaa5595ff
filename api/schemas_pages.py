"""What pages ask for: counts over all monitors, series of many, the stream."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, Field

from api.schemas import Body, Id, Query
from common.domain.errors import FieldError
from common.domain.incident import MAX_LABELS

MAX_SERIES = 200
MAX_POINTS = 120

#: By its last letter, in seconds.
_UNITS = {"m": 60, "h": 3_600, "d": 86_400}


def _label(text: str) -> str:
    name, colon, _ = text.partition(":")
    if not name or not colon:
        raise ValueError("must be name:value")
    return text


class SummaryQuery(Query):
    """What is counted, by what."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"label"})

    group_by: Annotated[
        str,
        Field(
            pattern=r"^(severity|type|state|location|label:[^\x00]{1,100})$",
            description="severity, type, state, location, or label:<name>.",
        ),
    ] = "state"
    label: Annotated[
        list[Annotated[str, Field(max_length=601), AfterValidator(_label)]] | None,
        Field(max_length=MAX_LABELS, description="name:value; of several, all."),
    ] = None


class Counts(BaseModel):
    """How many monitors are how. `open_incidents` are unresolved."""

    total: int
    up: int
    degraded: int
    down: int
    unknown: int
    pending: int
    paused: int
    maintenance: int
    open_incidents: int


class Group(Counts):
    """The monitors of one group; null is the group of those without the label."""

    group: str | None


class Summary(BaseModel):
    """Counts by group, the worst first. What is beyond 500 groups is in `other`."""

    groups: list[Group]
    other: Counts | None
    total: Counts
    at: Annotated[datetime, Field(description="When it was counted: a second ago where many ask, three at most.")]


class SeriesIn(Body):
    """Which monitors, how far back, in how many steps."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_SERIES)]
    window: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}[mhd]$", description="As in 30m, 6h, 7d; up to now.")]
    points: Annotated[int, Field(ge=1, le=MAX_POINTS)] = 60

    @property
    def window_s(self) -> int:
        """The window in seconds."""
        return int(self.window[:-1]) * _UNITS[self.window[-1]]

    def problems(self) -> Iterator[FieldError]:
        """The rules between fields."""
        if len(set(self.ids)) < len(self.ids):
            yield FieldError("ids", "must not hold an id twice")
        if self.window_s < self.points:
            yield FieldError("points", "must not exceed the seconds of the window")


class MonitorSeries(BaseModel):
    """One monitor's columns, a value per step, null where nothing is known."""

    id: str
    up: Annotated[list[float | None], Field(description="Share of the checks that found it up or degraded.")]
    p50: Annotated[list[float | None], Field(description="Median latency of these (ms).")]
    p95: list[float | None]
    coverage: Annotated[list[float | None], Field(description="Share of the due checks that could say how it is.")]


class SeriesOut(BaseModel):
    """Columns of all monitors over the same steps: step n begins at t0 + n·step_s; the last one holds the present."""

    t0: datetime
    step_s: int
    series: list[MonitorSeries]


class StreamQuery(Query):
    """Where to go on."""

    last_event_id: Annotated[
        str | None,
        Field(max_length=40, description="As the header Last-Event-ID, for clients that cannot set it."),
    ] = None
