"""A monitor as clients send and read it; the rules that tie its fields together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from api.schemas import Body, Name, Severity, exact_id
from api.schemas_options import (
    OPTIONS_IN,
    DnsIn,
    HeartbeatIn,
    HttpIn,
    IcmpIn,
    OptionsIn,
    PostgresIn,
    RedisIn,
    SmtpIn,
    TcpIn,
    TlsIn,
    WebsocketIn,
)
from api.targets import target_host
from common.domain.assertions import problem
from common.domain.errors import FieldError
from common.domain.monitors import Assertion
from common.http.target import Host

KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MAX_LABELS = 50
MAX_ASSERTIONS = 50


class AssertionIn(Body):
    """One expectation about an answer; what goes with what is in the documentation of assertions."""

    source: Annotated[str, Field(max_length=50)]
    op: Annotated[str, Field(max_length=50)]
    value: Any = None
    name: Annotated[str, Field(max_length=200, description="The header's name, for source header.")] = ""
    path: Annotated[str, Field(max_length=500, description="For source json, like $.db.status.")] = ""
    on_fail: Literal["down", "degraded"] = "down"

    def problem(self, monitor_type: str) -> str | None:
        """What is wrong with it for a monitor of this type."""
        return problem(Assertion(self.source, self.op, self.value, self.name, self.on_fail, self.path), monitor_type)


ParentId = Annotated[str, Field(max_length=36), AfterValidator(exact_id)]
LabelName = Annotated[str, Field(min_length=1, max_length=100)]
LabelValue = Annotated[str, Field(max_length=500)]
LocationName = Annotated[str, Field(min_length=1, max_length=63)]


def _target(text: str, info: ValidationInfo) -> str:
    if not text and info.data.get("type") != "heartbeat":
        raise ValueError("is required")
    return text


class MonitorIn(Body):
    """A monitor to watch. Only name, type and target are required."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "state", "config_version", "created_at", "updated_at"})

    key: Annotated[str | None, Field(pattern=KEY_PATTERN, description="Yours; unique, never changes once set.")] = None
    name: Name
    type: Literal["http", "tcp", "tls", "dns", "icmp", "websocket", "smtp", "postgres", "redis", "heartbeat"]
    target: Annotated[
        str,
        Field(
            max_length=2048,
            validate_default=True,
            description="http, websocket: a URL; tcp: host:port; tls, smtp, postgres, redis: host or host:port; "
            "icmp: a host; dns: the name to ask for; heartbeat: none.",
        ),
        AfterValidator(_target),
    ] = ""
    interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 30
    timeout_seconds: Annotated[
        float | None, Field(ge=0.1, le=86_400, description="At most the interval. Default: 10, or the interval.")
    ] = None
    failure_threshold: Annotated[int, Field(ge=1, le=100, description="Default of a heartbeat: 1.")] = 2
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
    tcp: TcpIn | None = None
    tls: TlsIn | None = None
    dns: DnsIn | None = None
    icmp: IcmpIn | None = None
    websocket: WebsocketIn | None = None
    smtp: SmtpIn | None = None
    postgres: PostgresIn | None = None
    redis: RedisIn | None = None
    heartbeat: HeartbeatIn | None = None
    assertions: Annotated[list[AssertionIn], Field(max_length=MAX_ASSERTIONS)] = Field(default_factory=list)

    @property
    def timeout(self) -> float:
        """The timeout, with its default."""
        return self.timeout_seconds if self.timeout_seconds is not None else float(min(10, self.interval_seconds))

    @property
    def failures(self) -> int:
        """The failure threshold, with its default: who misses a ping has had a grace already."""
        given = self.type != "heartbeat" or "failure_threshold" in self.model_fields_set
        return self.failure_threshold if given else 1

    @property
    def host(self) -> Host | str:
        """The host that the target names, or what is wrong with the target."""
        return target_host(self.type, self.target, self.options)

    @property
    def options(self) -> OptionsIn:
        """The type's options, with their defaults."""
        given: OptionsIn | None = getattr(self, self.type)
        return given if given is not None else OPTIONS_IN[self.type]()

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
        yield from self._too_many_ears()
        for other in OPTIONS_IN:
            if other != self.type and getattr(self, other) is not None:
                yield FieldError(other, f"a {self.type} monitor has no {other} options")
        for problem_ in self.options.problems():
            yield FieldError(f"{self.type}.{problem_.field}", problem_.message)
        for index, assertion in enumerate(self.assertions):
            message = assertion.problem(self.type)
            if message is not None:
                yield FieldError(f"assertions.{index}", message)

    def _too_many_ears(self) -> Iterator[FieldError]:
        if self.type == "heartbeat" and len(self.locations or ()) > 1:
            yield FieldError("locations", "a heartbeat is heard, not checked: it has one location")


class MonitorState(BaseModel):
    """A monitor's health as people see it."""

    status: Literal["pending", "up", "degraded", "down", "unknown", "paused", "maintenance"]
    since: datetime
    last_check_at: datetime | None
    latency_ms: float | None
    reason: str | None


class HttpOut(BaseModel):
    """The request of an http monitor; secrets are null. Further options are there when they are not the default."""

    model_config = ConfigDict(extra="allow")

    method: str
    headers: dict[str, str | None]
    body: str | None
    follow_redirects: bool
    verify_tls: bool


class OptionsOut(BaseModel):
    """Options of another type: those that are not the default; secrets are null."""

    model_config = ConfigDict(extra="allow")


class Monitor(BaseModel):
    """A monitor. Its options stand under the name of its type."""

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
    tcp: OptionsOut | None = None
    tls: OptionsOut | None = None
    dns: OptionsOut | None = None
    icmp: OptionsOut | None = None
    websocket: OptionsOut | None = None
    smtp: OptionsOut | None = None
    postgres: OptionsOut | None = None
    redis: OptionsOut | None = None
    heartbeat: OptionsOut | None = None
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
