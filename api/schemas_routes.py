"""What requests about routes hold and answers look like."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from api.alert_documents import AlertIn
from api.schemas import Body, Name
from api.schemas_channels import ChannelId
from api.schemas_matchers import MAX_MATCHERS, MatcherIn, matcher_problems
from api.schemas_monitors import LabelName
from common.domain.errors import FieldError
from common.domain.incident import Severity
from common.domain.labels import MAX_VALUE

MAX_CHANNELS = 50
MAX_GROUP_LABELS = 20
MAX_POSITION = 2**31 - 1

Pattern = Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]


class MatchIn(Body):
    """Patterns for three fields of an incident, `*` in them is any text; what is absent matches all."""

    severity: Pattern = "*"
    source: Pattern = "*"
    name: Pattern = "*"

    def problems(self) -> Iterator[FieldError]:
        """A severity that there is not would never match."""
        severities = [severity.value for severity in Severity]
        if "*" not in self.severity and self.severity not in severities:
            yield FieldError("match.severity", f"must be one of {', '.join(severities)}, or a pattern with *")


class RouteIn(Body):
    """A rule that leads incidents to channels. `match` and `matchers` are ANDed."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "created_at", "updated_at"})

    name: Name
    position: Annotated[
        int | None, Field(ge=0, le=MAX_POSITION, description="Its place among the routes, from 0. Default: the last.")
    ] = None
    match: MatchIn = Field(default_factory=MatchIn)
    matchers: Annotated[list[MatcherIn], Field(max_length=MAX_MATCHERS)] = Field(default_factory=list)
    channel_ids: Annotated[list[ChannelId], Field(min_length=1, max_length=MAX_CHANNELS)]
    cooldown_seconds: Annotated[
        int, Field(ge=0, le=604_800, description="How long it stays silent about a problem that it has announced.")
    ] = 0
    continues: Annotated[
        bool, Field(alias="continue", description="Whether what took this route goes on to the later ones.")
    ] = True
    group_by: Annotated[
        list[LabelName] | None,
        Field(max_length=MAX_GROUP_LABELS, description="Tell together what has the same values. null: one by one."),
    ] = None
    group_wait_seconds: Annotated[int, Field(ge=0, le=3_600)] = 30
    group_interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    repeat_interval_seconds: Annotated[
        int | None, Field(ge=60, le=604_800, description="Remind while it is open. null: never.")
    ] = None
    enabled: bool = True

    def problems(self) -> Iterator[FieldError]:
        """The rules beyond single fields."""
        yield from self.match.problems()
        yield from matcher_problems(self.matchers)
        if len(set(self.channel_ids)) < len(self.channel_ids):
            yield FieldError("channel_ids", "must not hold a channel twice")
        if self.group_by is not None and len(set(self.group_by)) < len(self.group_by):
            yield FieldError("group_by", "must not hold a label twice")


class Route(BaseModel):
    """A route. Positions are 0, 1, 2 … without gaps."""

    id: str
    name: str
    position: int
    match: dict[str, str]
    matchers: list[MatcherIn]
    channel_ids: list[str]
    cooldown_seconds: int
    continues: Annotated[bool, Field(alias="continue")]
    group_by: list[str] | None
    group_wait_seconds: int
    group_interval_seconds: int
    repeat_interval_seconds: int | None
    enabled: bool
    created_at: datetime
    updated_at: datetime


class RouteTestIn(AlertIn):
    """An alert, or the id of an incident or a monitor instead. What is left out of the alert is empty."""

    name: Name = ""
    source: Name = ""
    incident_id: ChannelId | None = None
    monitor_id: Annotated[ChannelId | None, Field(description="As if this monitor went down now.")] = None

    def problems(self) -> Iterator[FieldError]:
        """One of them, and something that routes are asked about."""
        yield from super().problems()
        for field, what in (("incident_id", "incident"), ("monitor_id", "monitor")):
            if getattr(self, field) is not None and self.model_fields_set != {field}:
                yield FieldError(field, f"stands alone: the {what} has its own labels")
        if self.status == "resolved":
            yield FieldError("status", "must be firing: an end takes no route, it goes to whoever was told")


class RoutedChannel(BaseModel):
    """A channel of a route; a deleted one is not enabled."""

    id: str
    name: str
    type: str
    enabled: bool


class ToldChannel(RoutedChannel):
    """A channel that would be told, and by which route first; null: as a default channel."""

    route_id: str | None


class RouteStep(BaseModel):
    """A route's part. `failing` are the conditions that do not hold; group and cooldown are of routes taken."""

    id: str
    name: str
    position: int
    outcome: Literal["taken", "no_match", "not_reached", "disabled"]
    failing: list[str]
    channels: list[RoutedChannel]
    group_key: str | None
    cooldown_until: datetime | None


class HeldBack(BaseModel):
    """The maintenance window of a monitor, or the monitor above it that is down; what is of the other one is null."""

    reason: Literal["maintenance", "parent_down"]
    maintenance_id: str | None
    maintenance: Annotated[str | None, Field(description="The window's name.")]
    parent_id: Annotated[str | None, Field(description="The nearest monitor above that is down.")]
    parent: Annotated[str | None, Field(description="Its name.")]
    parent_incident_id: str | None
    until: Annotated[datetime | None, Field(description="The window's planned end.")]


class RouteTest(BaseModel):
    """Which routes it takes, and who would be told now: nobody while it is silenced or held back."""

    routes: list[RouteStep]
    unrouted: Annotated[bool, Field(description="No enabled route leads it to a channel.")]
    default: Annotated[bool, Field(description="It goes to the default channels: unrouted, and there are some.")]
    channels: list[ToldChannel]
    silenced_by: Annotated[list[str], Field(description="The silences that hold it back now.")]
    held_back: Annotated[
        HeldBack | None, Field(description="What else holds it back now, of a monitor's own incident.")
    ]
