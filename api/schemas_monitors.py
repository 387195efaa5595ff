"""A monitor as clients send and read it; the rules that tie its fields together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, PlainValidator, WithJsonSchema

from api.schemas import Body, Name, Severity, exact_id, web_target
from common.domain.assertions import problem
from common.domain.errors import FieldError
from common.domain.monitors import Assertion
from common.http.target import Host, parse_authority

KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MAX_HEADERS = 50
MAX_HEADER_CHARS = 4096
MAX_LABELS = 50
MAX_ASSERTIONS = 50

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
#: A probe's own business: a user's value would break the framing of the request.
_HEADERS_OF_OURS = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Secret(BaseModel):
    """A value that is stored encrypted and reads back as null."""

    secret: str


def _header_value(value: Any) -> str | Secret | None:
    """A text, {"secret": text}, or null for a secret that is stored already."""
    text = value
    if isinstance(value, dict):
        if set(value) != {"secret"}:
            raise ValueError('must be a text, {"secret": "…"} or null')
        text = value["secret"]
    elif value is None:
        return None
    if not isinstance(text, str):
        raise ValueError('must be a text, {"secret": "…"} or null')  # noqa: TRY004 - pydantic collects ValueErrors
    if len(text) > MAX_HEADER_CHARS:
        raise ValueError(f"must have at most {MAX_HEADER_CHARS} characters")
    if not (text.isascii() and text.replace("\t", " ").isprintable()):
        raise ValueError("must be ASCII without line breaks or control characters")
    return Secret(secret=text) if isinstance(value, dict) else text


HeaderValue = Annotated[
    Any,
    PlainValidator(_header_value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_HEADER_CHARS},
                {"type": "object", "properties": {"secret": {"type": "string"}}, "required": ["secret"]},
                {"type": "null"},
            ],
            "description": 'A text; {"secret": "…"} is stored encrypted and reads back as null, and null keeps it.',
        }
    ),
]


def _headers(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    seen: set[str] = set()
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name[:50]!r} is not a header's name")
        if name.lower() in _HEADERS_OF_OURS:
            raise ValueError(f"{name} is set by the probe")
        if name.lower() in seen:
            raise ValueError(f"{name} is given twice")
        seen.add(name.lower())
    return headers


class HttpIn(Body):
    """The request of an http monitor."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: Annotated[dict[str, HeaderValue], Field(max_length=MAX_HEADERS), AfterValidator(_headers)] = Field(
        default_factory=dict
    )
    body: Annotated[str | None, Field(max_length=65_536)] = None
    follow_redirects: bool = True
    verify_tls: bool = True


class AssertionIn(Body):
    """One expectation about an answer; what goes with what is in the documentation of assertions."""

    source: Annotated[str, Field(max_length=50)]
    op: Annotated[str, Field(max_length=50)]
    value: Any = None
    name: Annotated[str, Field(max_length=200, description="The header's name, for source header.")] = ""
    on_fail: Literal["down", "degraded"] = "down"

    def problem(self, monitor_type: str) -> str | None:
        """What is wrong with it for a monitor of this type."""
        return problem(Assertion(self.source, self.op, self.value, self.name, self.on_fail), monitor_type)


ParentId = Annotated[str, Field(max_length=36), AfterValidator(exact_id)]
LabelName = Annotated[str, Field(min_length=1, max_length=100)]
LabelValue = Annotated[str, Field(max_length=500)]
LocationName = Annotated[str, Field(min_length=1, max_length=63)]


class MonitorIn(Body):
    """A monitor to watch. Only name, type and target are required."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "state", "config_version", "created_at", "updated_at"})

    key: Annotated[str | None, Field(pattern=KEY_PATTERN, description="Yours; unique, never changes once set.")] = None
    name: Name
    type: Literal["http", "tcp"]
    target: Annotated[str, Field(min_length=1, max_length=2048, description="http: a URL; tcp: host:port.")]
    interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 30
    timeout_seconds: Annotated[
        float | None, Field(ge=0.1, le=86_400, description="At most the interval. Default: 10, or the interval.")
    ] = None
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 2
    recovery_threshold: Annotated[int, Field(ge=1, le=100)] = 1
    retry_interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 5
    severity: Severity = "error"
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    locations: Annotated[
        list[LocationName] | None, Field(min_length=1, max_length=100, description="Default: the server's own.")
    ] = None
    quorum: Annotated[
        int | None, Field(ge=1, le=100, description="Locations that must agree. Default: a strict majority.")
    ] = None
    enabled: bool = True
    parent_id: ParentId | None = None
    http: HttpIn | None = None
    assertions: Annotated[list[AssertionIn], Field(max_length=MAX_ASSERTIONS)] = Field(default_factory=list)

    @property
    def timeout(self) -> float:
        """The timeout, with its default."""
        return self.timeout_seconds if self.timeout_seconds is not None else float(min(10, self.interval_seconds))

    @property
    def host(self) -> Host | str:
        """The target's host, or what is wrong with the target."""
        if self.type == "http":
            target = web_target(self.target)
            return target if isinstance(target, str) else target.host
        authority = parse_authority(self.target)
        return f"must be host:port ({authority})" if isinstance(authority, str) else authority[0]

    def problems(self) -> Iterator[FieldError]:
        """The rules between fields."""
        host = self.host
        if isinstance(host, str):
            yield FieldError("target", host)
        if self.timeout > self.interval_seconds:
            yield FieldError("timeout_seconds", "must not exceed interval_seconds")
        if self.locations is not None and len(set(self.locations)) < len(self.locations):
            yield FieldError("locations", "must not hold a location twice")
        if self.quorum is not None and self.quorum > len(self.locations or [""]):
            yield FieldError("quorum", "must not exceed the number of locations")
        if self.type != "http" and self.http is not None:
            yield FieldError("http", f"a {self.type} monitor has no http options")
        for index, assertion in enumerate(self.assertions):
            message = assertion.problem(self.type)
            if message is not None:
                yield FieldError(f"assertions.{index}", message)


class MonitorState(BaseModel):
    """A monitor's health as people see it."""

    status: Literal["pending", "up", "degraded", "down", "unknown", "paused"]
    since: datetime
    last_check_at: datetime | None
    latency_ms: float | None
    reason: str | None


class HttpOut(BaseModel):
    """The request of an http monitor; secret header values are null."""

    method: str
    headers: dict[str, str | None]
    body: str | None
    follow_redirects: bool
    verify_tls: bool


class Monitor(BaseModel):
    """A monitor. `http` is there for http monitors."""

    id: str
    key: str | None
    name: str
    type: str
    target: str
    interval_seconds: int
    timeout_seconds: float
    failure_threshold: int
    recovery_threshold: int
    retry_interval_seconds: int
    severity: Severity
    labels: dict[str, str]
    locations: list[str]
    quorum: int | None
    enabled: bool
    parent_id: str | None
    http: HttpOut | None = None
    assertions: list[dict[str, Any]]
    state: MonitorState
    config_version: int
    created_at: datetime
    updated_at: datetime


class CheckNow(BaseModel):
    """A check that was asked for by hand; its result carries check_id as trace_id."""

    check_id: str
    scheduled_at: datetime


class Phases(BaseModel):
    """Durations in milliseconds, null where a phase was not reached."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    ttfb_ms: float | None
    total_ms: float | None


class Result(BaseModel):
    """One finished check."""

    scheduled_at: datetime
    location: str
    verdict: Literal["up", "degraded", "down", "unknown"]
    reason: str | None
    message: str | None
    latency_ms: float | None
    phases: Phases
    status_code: int | None
    failed_assertion: dict[str, Any] | None
    trace_id: str
