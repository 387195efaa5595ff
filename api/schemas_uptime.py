"""Uptime and reports: which windows may be asked for, and what the answers hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field

from api.schemas import Id, PageQuery, Query

#: The longest window, which is how long rollups are kept by default.
MAX_WINDOW_DAYS = 400

_UNITS_MS = {"h": 3_600_000, "d": 86_400_000}

Window = Annotated[
    str,
    Field(
        pattern=r"^[1-9][0-9]{0,3}[hd]$",
        max_length=5,
        description=f"How long, up to now: hours or days, at most {MAX_WINDOW_DAYS} days.",
        examples=["24h", "7d", "30d", "90d"],
    ),
]


def window_ms(text: str) -> int:
    """The length of a window."""
    return int(text[:-1]) * _UNITS_MS[text[-1]]


class UptimeQuery(Query):
    """Which window: `window` (24 hours when nothing is given), or `from` and `to`."""

    window: Window | None = None
    from_: Annotated[AwareDatetime | None, Field(alias="from", description="Rounded down to five minutes.")] = None
    to: Annotated[AwareDatetime | None, Field(description="Now, when it is left out.")] = None


class Period(BaseModel):
    """The window as it was counted."""

    from_: Annotated[datetime, Field(alias="from")]
    to: datetime


class Seconds(BaseModel):
    """Time by category; together the window."""

    up: float
    degraded: float
    down: float
    unknown: float
    paused: float
    maintenance: float


class Latency(BaseModel):
    """Percentiles of the checks that reached their target, within 5 %; null without any."""

    p50: float | None
    p95: float | None
    p99: float | None


class Uptime(BaseModel):
    """How a monitor did in a window."""

    window: Period
    uptime: Annotated[float | None, Field(description="(up + degraded) ÷ (up + degraded + down), 0 to 1.")]
    coverage: Annotated[float | None, Field(description="Scheduled results that are not unknown ÷ slots due, 0 to 1.")]
    seconds: Seconds
    incidents: Annotated[int, Field(description="Opened within the window.")]
    mttr_seconds: Annotated[float | None, Field(description="Mean time from opening to recovery.")]
    mtbf_seconds: Annotated[float | None, Field(description="Time up or degraded ÷ incidents.")]
    latency_ms: Latency


class SloQuery(PageQuery):
    """Which monitors over which window, against which objective."""

    label: Annotated[
        str | None,
        Field(
            min_length=1, max_length=400, description="team:shop: those with this label; team: a row for each value."
        ),
    ] = None
    monitor_id: Id | None = None
    window: Window = "30d"
    target: Annotated[float, Field(gt=0, lt=100, description="The objective in percent.")] = 99.9
    format: Literal["json", "csv"] = "json"


class ErrorBudget(BaseModel):
    """How long it may be down in the window; remaining is negative when the objective is missed."""

    total_seconds: float
    remaining_seconds: float
    remaining: Annotated[float | None, Field(description="Remaining ÷ total.")]


class BurnRate(BaseModel):
    """How many times faster than the objective allows, over the last hour, six hours, and the window."""

    last_1h: float | None
    last_6h: float | None
    window: float | None


class SloFigures(BaseModel):
    """What one row says."""

    uptime: float | None
    coverage: Annotated[
        float | None, Field(description="(up + degraded + down) ÷ (up + degraded + down + unknown), by time, 0 to 1.")
    ]
    seconds: Seconds
    error_budget: ErrorBudget
    burn_rate: BurnRate


class SloTotal(SloFigures):
    """All monitors of the report together."""

    monitors: int


class SloMonitor(BaseModel):
    """Whose row it is."""

    id: str
    key: str | None
    name: str
    labels: dict[str, str]


class SloRow(SloFigures):
    """One monitor, or all that share the value of the label that was asked for."""

    monitor: SloMonitor | None
    value: Annotated[str | None, Field(description="Of the label; null in a row of a monitor.")]
    monitors: int


class SloReport(BaseModel):
    """A report; pages after the first have no total."""

    window: Period
    target: float
    total: SloTotal | None
    data: list[SloRow]
    next_cursor: str | None
