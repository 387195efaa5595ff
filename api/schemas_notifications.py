"""The ledger in requests and answers: what is listed, what is sent again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field

from api.schemas import Body, Id, PageQuery
from common.domain.incident import EventType

NotificationStatus = Literal["pending", "sent", "dead", "suppressed"]
Reason = Annotated[str, Field(min_length=1, max_length=100)]


def _text(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a time as RFC 3339 writes it")
    return value


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text), AfterValidator(_utc)]


class NotificationQuery(PageQuery):
    """Which notifications."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"status", "event_type", "reason"})

    status: list[NotificationStatus] | None = None
    incident_id: Id | None = None
    channel_id: Id | None = None
    event_type: list[EventType] | None = None
    reason: list[Reason] | None = None


class Notification(BaseModel):
    """An event on its way to a channel; `route_id` is the route that led it there, null for a default channel."""

    id: str
    incident_id: str
    event_type: str
    channel_id: str
    route_id: str | None
    status: NotificationStatus
    reason: str | None
    attempts: int
    next_attempt_at: datetime | None
    sent_at: datetime | None
    created_at: datetime


class Attempt(BaseModel):
    """One try to deliver."""

    number: int
    outcome: Literal["delivered", "rejected", "failed", "unknown"]
    status_code: int | None
    error: str | None
    duration_ms: float
    at: datetime
    message_id: str | None  # what the receiver saw: webhook-id is msg_ and this


class NotificationDetail(Notification):
    """A notification with every attempt."""

    delivery_attempts: list[Attempt]


class RedeliveryIn(Body):
    """Which dead notifications are to be sent again; what is left out does not filter."""

    status: Literal["dead"] = "dead"
    channel_id: Id | None = None
    incident_id: Id | None = None
    reason: Reason | None = None
    since: Annotated[Moment | None, Field(description="Written at this time or later.")] = None


class Redelivery(BaseModel):
    """What came of it."""

    redelivered: Annotated[int, Field(description="Are pending now, the oldest first, at most 1,000 a call.")]
    remaining: Annotated[int, Field(description="So many more can be sent again: call once more.")]
