"""What the API answers, as the client hands it on: plain JSON with the names of its fields.

An answer may hold more than is written here: newer servers add fields.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

#: JSON as it goes to the API.
Json = dict[str, Any]

Verdict = Literal["up", "degraded", "down", "unknown"]


class Tokens(TypedDict):
    """A session; `expires_in` seconds is the access token good for."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class Named(TypedDict):
    """An organization, or a key."""

    id: str
    name: str


class Person(Named):
    """A user."""

    email: str


class Me(TypedDict):
    """Who is calling, for which organization, as what."""

    user: Person | None
    api_key: Named | None
    organization: Named
    role: str
    permissions: list[str]
    organizations: list[Named]


class State(TypedDict):
    """A monitor's health."""

    status: str
    since: str
    last_check_at: str | None
    latency_ms: float | None
    reason: str | None


class Monitor(TypedDict):
    """A monitor with its state; its type's options stand under the type's name."""

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
    severity: str
    labels: dict[str, str]
    locations: list[str]
    quorum: int | None
    enabled: bool
    parent_id: str | None
    assertions: list[Json]
    state: State
    config_version: int
    created_at: str
    updated_at: str


class Heartbeat(TypedDict):
    """What a heartbeat is pinged by, and when the next ping is expected."""

    ping_url: str
    push_url: str
    pings: int
    last_ping_at: str | None
    expected_at: str | None
    deadline_at: str | None
    running: int


class MonitorFilters(TypedDict, total=False):
    """Which monitors, and which of their fields; of several filters all have to pass."""

    fields: list[str]
    state: list[str]
    label: list[str]
    q: str
    type: list[str]
    sort: str


class CheckNow(TypedDict):
    """A check that was asked for; its result has `check_id` as trace_id."""

    check_id: str
    scheduled_at: str


class Phases(TypedDict):
    """Durations in milliseconds, null where a phase was not reached."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    ttfb_ms: float | None
    total_ms: float | None


class Probe(TypedDict):
    """What one probe found."""

    verdict: Verdict
    reason: str | None
    message: str | None
    latency_ms: float | None
    phases: Phases
    status_code: int | None
    failed_assertion: Json | None
    location: str


class Result(Probe):
    """One finished check of a monitor."""

    scheduled_at: str
    trace_id: str


class BulkItem(TypedDict):
    """What became of one monitor of many."""

    index: int
    status: int
    monitor: Monitor | None
    error: Json | None


class Bulk(TypedDict):
    """What became of many monitors."""

    created: int
    failed: int
    results: list[BulkItem]


class Switched(TypedDict):
    """How many monitors were paused or resumed."""

    changed: int
    unchanged: int
    not_found: list[str]


#: "from" is no name of Python's.
Difference = TypedDict("Difference", {"field": str, "from": Any, "to": Any})


class Change(TypedDict):
    """What a plan does to one monitor."""

    action: Literal["create", "update", "delete"]
    key: str
    id: str | None
    name: str
    differences: list[Difference]


class Summary(TypedDict):
    """A plan in numbers."""

    create: int
    update: int
    delete: int
    unchanged: int


class Drift(TypedDict):
    """A monitor that was changed in another way since the last apply."""

    id: str
    key: str | None
    name: str
    updated_at: str


class Plan(TypedDict):
    """What applying a set would change; good as long as its fingerprint is."""

    fingerprint: str
    summary: Summary
    changes: list[Change]
    drift: list[Drift]


class Export(TypedDict):
    """A desired set; those without a key cannot be in one."""

    monitors: list[Json]
    without_key: list[Named]


class Deliveries(TypedDict):
    """How many notifications stand where."""

    sent: int
    pending: int
    dead: int
    suppressed: int


class Incident(TypedDict):
    """A problem from its opening to its end."""

    id: str
    monitor_id: str | None
    monitor_name: str | None
    source: str
    dedup_key: str
    title: str
    description: str
    severity: str
    priority: str
    status: str
    opened_at: str
    acknowledged_at: str | None
    acknowledgement_expires_at: str | None
    resolved_at: str | None
    duration_seconds: int
    cause: Json
    labels: dict[str, str]
    assignee_name: str | None
    trace_id: str | None
    deliveries: Deliveries
    version: int


class IncidentFilters(TypedDict, total=False):
    """Which incidents: all that pass every filter."""

    status: list[str]
    severity: list[str]
    priority: list[str]
    label: list[str]
    monitor_id: str
    source: str
    assignee: str
    q: str


class Event(TypedDict):
    """One entry of a timeline."""

    id: str
    type: str
    at: str
    actor: str
    actor_name: str | None
    data: Json


class Notification(TypedDict):
    """An event on its way to a channel."""

    id: str
    incident_id: str
    event_type: str
    channel_id: str
    route_id: str | None
    status: str
    reason: str | None
    attempts: int
    next_attempt_at: str | None
    sent_at: str | None
    created_at: str


class Occurrence(TypedDict):
    """From when to when a maintenance window is on."""

    starts_at: str
    ends_at: str


class Maintenance(TypedDict):
    """A maintenance window; fields of other types are null."""

    id: str
    name: str
    type: str
    starts_at: str | None
    ends_at: str | None
    duration_seconds: int | None
    days: list[str] | None
    time: str | None
    cron: str | None
    time_zone: str | None
    monitor_ids: list[str]
    matchers: list[dict[str, str]]
    until_healthy: bool
    healthy_for_seconds: int
    comment: str
    state: str
    occurrence: Occurrence | None
    created_by: str
    created_at: str
    updated_at: str


class NotificationFilters(TypedDict, total=False):
    """Which notifications: all that pass every filter."""

    status: list[str]
    incident_id: str
    channel_id: str
    event_type: list[str]
    reason: list[str]


class RedeliveryFilters(TypedDict, total=False):
    """Which dead notifications."""

    incident_id: str
    channel_id: str
    reason: str
    since: str


class Redelivery(TypedDict):
    """How many are sent again, and how many more could be."""

    redelivered: int
    remaining: int
