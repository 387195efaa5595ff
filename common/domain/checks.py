"""The vocabulary of one check: verdicts, kinds, lanes, failure reasons, phases, observations.

Integer values are stored in PostgreSQL and sent through queues: never renumber one, only add.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class _Labelled(IntEnum):
    """An IntEnum (lean in rows and messages) whose public name is its member name in lower case."""

    @property
    def label(self) -> str:
        return self.name.lower()


class Verdict(_Labelled):
    """What one check says about its monitor. `UNKNOWN` is our own fault and never counts as down."""

    UNKNOWN = 0
    UP = 1
    DEGRADED = 2
    DOWN = 3


class Kind(_Labelled):
    """Why a check runs. Scheduled and confirming checks vote; a manual one is stored and shown only."""

    SCHEDULED = 0
    CONFIRM = 1
    MANUAL = 2


class Lane(_Labelled):
    """Which queue a check travels in, so that no monitor waits for a slower one."""

    FAST = 0
    SLOW = 1
    URGENT = 2


class Reason(_Labelled):
    """Why a check failed: a closed set, the same in results, incidents, logs and metric labels."""

    NONE = 0

    DNS_NOT_FOUND = 10
    DNS_TIMEOUT = 11
    DNS_FAILED = 12
    DNS_NO_ANSWER = 13
    DNS_UNREACHABLE = 14

    CONNECT_REFUSED = 20
    CONNECT_TIMEOUT = 21
    UNREACHABLE = 22
    CONNECTION_RESET = 23
    NO_REPLY = 24

    TLS_HANDSHAKE = 30
    TLS_CERTIFICATE_EXPIRED = 31
    TLS_CERTIFICATE_UNTRUSTED = 32
    TLS_HOSTNAME_MISMATCH = 33
    TLS_VERSION_WEAK = 34
    TLS_NOT_OFFERED = 35

    TIMEOUT = 40
    PROTOCOL_ERROR = 41
    EMPTY_REPLY = 42
    BODY_TOO_LARGE = 43
    HEADERS_TOO_LARGE = 44
    TOO_MANY_REDIRECTS = 45
    REDIRECT_INVALID = 46
    AUTH_FAILED = 47
    QUERY_FAILED = 48
    PROXY_FAILED = 49

    STATUS_MISMATCH = 50
    BODY_MISMATCH = 51
    HEADER_MISMATCH = 52
    LATENCY_EXCEEDED = 53
    ANSWER_MISMATCH = 54
    VALUE_MISMATCH = 55
    CERTIFICATE_EXPIRING = 56
    PACKET_LOSS = 57

    EGRESS_DENIED = 60
    INVALID_TARGET = 61

    INTERNAL = 70
    WORKER_NETWORK = 71
    WORKER_STALLED = 72
    WORKER_NOT_PERMITTED = 73

    HEARTBEAT_MISSED = 80
    HEARTBEAT_FAILED = 81
    RUN_TOO_LONG = 82
    HEARTBEAT_UNHEARD = 83


#: Failures that a broken network of our own would cause as well: they need a second opinion before they page.
NETWORK_CLASS: frozenset[Reason] = frozenset(
    {Reason.DNS_TIMEOUT, Reason.DNS_UNREACHABLE, Reason.CONNECT_TIMEOUT, Reason.UNREACHABLE, Reason.NO_REPLY},
)

#: What a network of ours that was gone for a part of a check's time brings about: these, and failures for want of time.
GONE_CLASS: frozenset[Reason] = NETWORK_CLASS | {
    Reason.TIMEOUT,
    Reason.TLS_HANDSHAKE,
    Reason.LATENCY_EXCEEDED,
    Reason.PACKET_LOSS,
}


class CheckState(StrEnum):
    """`state.status` of a monitor as users see it."""

    PENDING = "pending"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"
    PAUSED = "paused"
    MAINTENANCE = "maintenance"


#: A phase that was not reached (no TLS, refused before the first byte). Columns are NOT NULL to keep rows lean.
NOT_REACHED = -1.0


@dataclass(slots=True)
class Phases:
    """Durations of one probe in milliseconds, each its own span (not cumulative); NOT_REACHED where it never began."""

    dns_ms: float = NOT_REACHED
    connect_ms: float = NOT_REACHED
    tls_ms: float = NOT_REACHED
    ttfb_ms: float = NOT_REACHED
    total_ms: float = NOT_REACHED


@dataclass(frozen=True, slots=True)
class FailedAssertion:
    """The first assertion that did not hold, with what was expected and seen (both cut to 200 characters)."""

    source: str
    op: str
    expected: str
    seen: str


#: What else a probe saw, by name: numbers, and texts of a closed set or of a certificate.
Facts = Mapping[str, float | str]


@dataclass(slots=True)
class Observation:
    """What a probe saw, already judged against the monitor's assertions.

    `code` is the protocol's own status (HTTP status, 0 when there was none); `message` is for people. `expires_s` is
    when the target's certificate does (Unix time), where that was looked at. `facts` are noted by a probe that somebody
    waits for, and by no monitor's check: they are not stored.
    """

    verdict: Verdict
    reason: Reason = Reason.NONE
    message: str = ""
    code: int = 0
    phases: Phases = field(default_factory=Phases)
    failed_assertion: FailedAssertion | None = None
    address: str = ""
    expires_s: int | None = None
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One due check as it travels in a queue. `scheduled_at_ms` is Unix time in milliseconds, database clock."""

    monitor_no: int
    config_version: int
    scheduled_at_ms: int
    kind: Kind


@dataclass(slots=True)
class Result:
    """A finished check on its way to the writer. `finished_at_ms` is Unix time in milliseconds, database clock."""

    check: Check
    location: int
    observation: Observation
    finished_at_ms: int
    slow: bool = False
