"""What requests hold and answers look like, except for monitors: every field bounded, nothing unknown let in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from common.domain.errors import FieldError
from common.http.target import Target, parse_target
from common.passwords import MAX_PASSWORD_BYTES

Role = Literal["owner", "admin", "editor", "viewer"]
Severity = Literal["critical", "error", "warning", "info"]


def _one_line(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must be one line without control characters")
    if not text.strip():
        raise ValueError("must not be blank")
    return text


#: A name for people: it stands in subjects of mails and in logs, so it is one line.
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]


class Body(BaseModel):
    """What a request holds. Types are strict: "30" is no number, 1 is no boolean."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: Fields that answers have and only the server writes: ignored, so that an answer can be sent back.
    READ_ONLY: ClassVar[frozenset[str]] = frozenset()

    def problems(self) -> Iterator[FieldError]:
        """What is wrong beyond single fields; asked once these are right."""
        yield from ()


class Query(BaseModel):
    """What a query string holds: texts, so types are lenient, but unknown parameters are not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Parameters that may hold several values.
    LISTS: ClassVar[frozenset[str]] = frozenset()


class PageQuery(Query):
    """Which page of a list."""

    limit: Annotated[int, Field(ge=1, le=500, description="Items on a page.")] = 50
    cursor: Annotated[str | None, Field(max_length=300, description="next_cursor of the page before.")] = None


class IncidentQuery(PageQuery):
    """Which incidents."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"status", "severity"})

    status: list[Literal["open", "acknowledged", "resolved"]] | None = None
    severity: list[Severity] | None = None
    monitor_id: UUID | None = None


class NotificationQuery(PageQuery):
    """Which notifications."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"status"})

    status: list[Literal["pending", "sent", "dead", "suppressed"]] | None = None
    incident_id: UUID | None = None
    channel_id: UUID | None = None


class ResultQuery(PageQuery):
    """Which results."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"verdict"})

    verdict: list[Literal["up", "degraded", "down", "unknown"]] | None = None


class Login(Body):
    """An address and its password."""

    email: Annotated[str, Field(min_length=1, max_length=320)]
    password: Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_BYTES)]


class Tokens(BaseModel):
    """A session's tokens; `expires_in` is the access token's, in seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class User(BaseModel):
    """A person."""

    id: str
    email: str
    name: str


class KeyIdentity(BaseModel):
    """An API key as the one who calls."""

    id: str
    name: str
    prefix: str


class Organization(BaseModel):
    """A tenant."""

    id: str
    name: str


class Me(BaseModel):
    """Who is calling, for whom, and what they may do."""

    user: User | None
    api_key: KeyIdentity | None
    organization: Organization
    role: Role
    permissions: list[str]


class ApiKeyIn(Body):
    """A key to make; its role is at most the maker's own."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "prefix", "created_by", "created_at", "last_used_at", "key"})

    name: Name
    role: Role = "editor"
    expires_in_days: Annotated[int | None, Field(ge=1, le=3650, description="null: it does not expire.")] = None


class ApiKey(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    role: Role
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewApiKey(ApiKey):
    """A key as it is shown once, at creation."""

    key: str


class Location(BaseModel):
    """Where checks run from."""

    name: str
    created_at: datetime


class Cause(BaseModel):
    """Why an incident was opened, or why it ended when nobody mended anything."""

    model_config = ConfigDict(extra="allow")

    reason: str | None = None
    message: str | None = None


class Incident(BaseModel):
    """An open or past problem."""

    id: str
    monitor_id: str | None
    source: str
    dedup_key: str
    name: str
    title: str
    description: str
    severity: Severity
    priority: Literal["P1", "P2", "P3"]
    status: Literal["open", "acknowledged", "resolved"]
    opened_at: datetime
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    cause: Cause
    labels: dict[str, str]
    reopened_from: str | None
    version: int


class Event(BaseModel):
    """One entry of an incident's timeline."""

    id: str
    type: str
    at: datetime
    actor: str
    data: dict[str, Any]


class StatusIn(Body):
    """The status an incident shall have: open, acknowledged (or ack), resolved."""

    status: Annotated[str, Field(max_length=50)]


class CommentIn(Body):
    """What somebody has to say."""

    body: Annotated[str, Field(min_length=1, max_length=10_000)]


class Notification(BaseModel):
    """An event on its way to a channel."""

    id: str
    incident_id: str
    event_type: str
    channel_id: str
    status: Literal["pending", "sent", "dead", "suppressed"]
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


class NotificationDetail(Notification):
    """A notification with every attempt."""

    delivery_attempts: list[Attempt]


class Problem(BaseModel):
    """The one error shape, application/problem+json."""

    type: str
    title: str
    status: int
    code: str
    message: str
    request_id: str
    details: list[dict[str, str]]


def web_target(url: str) -> Target | str:
    """An http(s) URL in parts, or what is wrong with it; credentials in it would be shown to every reader."""
    target = parse_target(url)
    if isinstance(target, Target) and "@" in url.split("://", 1)[1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]:
        return "must not hold credentials (user:password@)"
    return target
