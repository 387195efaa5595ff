"""What requests about incidents hold, and what their answers look like."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.alert_documents import Moment
from api.schemas import Body, Id, PageQuery, Severity, exact_id, one_line
from api.schemas_monitors import LabelName, LabelValue
from common.domain.errors import FieldError
from common.domain.incident import MAX_LABELS

Priority = Literal["P1", "P2", "P3"]
IncidentStatus = Literal["open", "acknowledged", "resolved"]

MAX_POSTMORTEM_BYTES = 64 * 1024
MAX_BULK = 1_000
_MONTH_S = 31 * 86_400

_READ_ONLY = frozenset(
    {
        "id", "monitor_name", "source", "dedup_key", "name", "status", "opened_at", "acknowledged_at",
        "acknowledgement_expires_at", "resolved_at", "cause", "reopened_from", "version", "assignee_name",
        "duration_seconds", "deliveries", "trace_id",
    }
)  # fmt: skip


def _label(text: str) -> str:
    name, colon, _ = text.partition(":")
    if not name or not colon:
        raise ValueError("must be name:value")
    return text


def _assignee(text: str) -> str:
    try:
        return text if text in ("me", "none") else exact_id(text)
    except ValueError:
        raise ValueError("must be a user's id, me, or none") from None


def _short(text: str) -> str:
    if len(text.encode("utf-8", "replace")) > MAX_POSTMORTEM_BYTES:
        raise ValueError("must have at most 64 KiB")
    return text


Title = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(one_line)]
Description = Annotated[str, Field(max_length=10_000)]
Comment = Annotated[str, Field(min_length=1, max_length=10_000)]
Postmortem = Annotated[str, AfterValidator(_short), Field(description="Markdown, at most 64 KiB.")]
Source = Annotated[str, Field(min_length=1, max_length=1_000)]
Search = Annotated[
    str, Field(min_length=1, max_length=200, description="Words of title and description; the last may be a beginning.")
]
OpenedAfter = Annotated[Moment | None, Field(description="Opened then or later.")]
OpenedBefore = Annotated[Moment | None, Field(description="Opened earlier.")]
Assignee = Annotated[
    str, Field(max_length=36, description="A user's id; me; none: nobody's."), AfterValidator(_assignee)
]


class IncidentQuery(PageQuery):
    """Which incidents: all that pass every filter."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"status", "severity", "priority", "label"})

    status: list[IncidentStatus] | None = None
    severity: list[Severity] | None = None
    priority: list[Priority] | None = None
    monitor_id: Id | None = None
    label: Annotated[
        list[Annotated[str, Field(max_length=601), AfterValidator(_label)]] | None,
        Field(max_length=MAX_LABELS, description="name:value; of several, all."),
    ] = None
    source: Source | None = None
    assignee: Assignee | None = None
    opened_after: OpenedAfter = None
    opened_before: OpenedBefore = None
    q: Search | None = None


class IncidentFilterIn(Body):
    """Which open incidents: all that pass every filter."""

    severity: Annotated[list[Severity] | None, Field(max_length=4)] = None
    priority: Annotated[list[Priority] | None, Field(max_length=3)] = None
    monitor_id: Id | None = None
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    source: Source | None = None
    assignee: Assignee | None = None
    opened_after: OpenedAfter = None
    opened_before: OpenedBefore = None
    q: Search | None = None


class Cause(BaseModel):
    """Why an incident was opened, or why it ended when nobody mended anything."""

    model_config = ConfigDict(extra="allow")

    reason: str | None = None
    message: str | None = None


class Deliveries(BaseModel):
    """How many notifications of an incident stand where."""

    sent: int
    pending: int
    dead: int
    suppressed: int


class Incident(BaseModel):
    """An open or past problem."""

    id: str
    monitor_id: str | None
    monitor_name: str | None
    source: str
    dedup_key: str
    name: str
    title: str
    description: str
    severity: Severity
    priority: Priority
    status: IncidentStatus
    opened_at: datetime
    acknowledged_at: datetime | None
    acknowledgement_expires_at: datetime | None
    resolved_at: datetime | None
    duration_seconds: Annotated[int, Field(description="Until it was resolved, or until now.")]
    cause: Cause
    labels: dict[str, str]
    assignee: Annotated[str | None, Field(description="A user's id.")]
    assignee_name: str | None
    reopened_from: str | None
    trace_id: Annotated[str | None, Field(description="The trace of the check that opened it.")]
    deliveries: Deliveries
    version: int


class IncidentDetail(Incident):
    """An incident with what is too long for lists."""

    postmortem: Annotated[str, Field(description="Markdown.")]


class Event(BaseModel):
    """One entry of an incident's timeline. `actor_name` is the user's or the key's; null: nobody's, or long gone."""

    id: str
    type: str
    at: datetime
    actor: str
    actor_name: str | None
    data: dict[str, Any]


class IncidentIn(Body):
    """An incident to open by hand. Only the title is required."""

    READ_ONLY: ClassVar[frozenset[str]] = _READ_ONLY | {"postmortem"}

    title: Title
    description: Description = ""
    severity: Annotated[Severity | None, Field(description="Default: by the priority, or error.")] = None
    priority: Annotated[Priority | None, Field(description="Default: by the severity.")] = None
    labels: Annotated[
        dict[LabelName, LabelValue] | None, Field(max_length=MAX_LABELS, description="Default: the monitor's.")
    ] = None
    assignee: Annotated[Id | None, Field(description="A user of the organization.")] = None
    monitor_id: Id | None = None


class IncidentPatch(Body):
    """Fields to change; what is left out stays. null empties description and postmortem, and assigns nobody.

    Labels are merged: null removes one, null for all of them removes all. A severity brings its priority along unless
    that is given as well.
    """

    READ_ONLY: ClassVar[frozenset[str]] = _READ_ONLY | {"monitor_id"}

    title: Title = ""
    description: Description | None = None
    severity: Severity = "error"
    priority: Priority = "P2"
    labels: dict[LabelName, LabelValue | None] | None = None
    assignee: Annotated[Id | None, Field(description="A user of the organization.")] = None
    postmortem: Postmortem | None = None


class AcknowledgementIn(Body):
    """How long an acknowledgement lasts (default: until the incident is resolved), and what there is to say."""

    expires_at: Annotated[Moment | None, Field(description="When it is open again unless resolved by then.")] = None
    duration_seconds: Annotated[
        int | None, Field(ge=1, le=_MONTH_S, description="The same, counted from now; one of the two.")
    ] = None
    comment: Comment | None = None

    def problems(self) -> Iterator[FieldError]:
        """One way to say how long."""
        if self.expires_at is not None and self.duration_seconds is not None:
            yield FieldError("duration_seconds", "must not be given together with expires_at")

    @property
    def expires(self) -> bool:
        """Whether it lasts until a certain time only."""
        return self.expires_at is not None or self.duration_seconds is not None


class StatusIn(AcknowledgementIn):
    """The status an incident shall have: open, acknowledged (or ack), resolved."""

    status: Annotated[str, Field(max_length=50)]

    def problems(self) -> Iterator[FieldError]:
        """Only an acknowledgement expires."""
        yield from super().problems()
        if self.expires and self.status.strip().lower() not in ("ack", "acknowledged"):
            yield FieldError("expires_at" if self.expires_at else "duration_seconds", "only an acknowledgement expires")


class BulkAcknowledgementIn(AcknowledgementIn):
    """Incidents to acknowledge: those with these ids, or the newest 1,000 open ones that pass a filter."""

    ids: Annotated[list[Id] | None, Field(min_length=1, max_length=MAX_BULK)] = None
    filter: IncidentFilterIn | None = None

    def problems(self) -> Iterator[FieldError]:
        """One way to say which."""
        yield from super().problems()
        if (self.ids is None) is (self.filter is None):
            yield FieldError("ids", "either ids or filter must be given")


class BulkAcknowledgement(BaseModel):
    """What became of them. `unchanged`: acknowledged or resolved already. `more`: others pass the filter as well."""

    acknowledged: int
    unchanged: int
    not_found: list[str]
    more: bool


class CommentIn(Body):
    """What somebody has to say."""

    body: Comment
