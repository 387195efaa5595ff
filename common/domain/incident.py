"""What an incident may do: its status machine, and how severity and priority follow from each other."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from common.domain.errors import FieldError, InvalidTransition, ValidationFailed
from common.domain.health import Health


class Status(StrEnum):
    """Where an incident stands. `RESOLVED` is final."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How bad it is, as the field's tools say it."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Priority(StrEnum):
    """How urgent it is."""

    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class EventType(StrEnum):
    """What a timeline can hold."""

    OPENED = "opened"
    ESCALATED = "escalated"
    EASED = "eased"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    COMMENTED = "commented"


#: {status: statuses it may go to}; the same status again is accepted and changes nothing.
TRANSITIONS: MappingProxyType[Status, tuple[Status, ...]] = MappingProxyType(
    {
        Status.OPEN: (Status.ACKNOWLEDGED, Status.RESOLVED),
        Status.ACKNOWLEDGED: (Status.RESOLVED,),
        Status.RESOLVED: (),
    },
)

#: Events that people are told of; all others stay in the timeline.
ANNOUNCED: frozenset[EventType] = frozenset(
    {EventType.OPENED, EventType.ESCALATED, EventType.ACKNOWLEDGED, EventType.RESOLVED},
)

_PRIORITY_OF = MappingProxyType({Severity.CRITICAL: Priority.P1, Severity.ERROR: Priority.P2})
_BY_BADNESS = (Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.CRITICAL)
_SPELLINGS = MappingProxyType({"ack": Status.ACKNOWLEDGED, **{status.value: status for status in Status}})


def parse_status(text: str) -> Status:
    """The status a client means; case does not matter and `ack` is accepted."""
    try:
        return _SPELLINGS[text.strip().lower()]
    except KeyError:
        allowed = ", ".join(Status)
        raise ValidationFailed(
            f"status must be one of: {allowed}.",
            details=[FieldError("status", f"must be one of: {allowed}")],
        ) from None


def move(current: Status, wanted: Status) -> bool:
    """Whether the status changes (True), is the same already (False), or may not (InvalidTransition)."""
    if wanted is current:
        return False
    allowed = TRANSITIONS[current]
    if wanted in allowed:
        return True
    listed = ", ".join(allowed) if allowed else "none, it is final"
    raise InvalidTransition(
        f"An incident that is {current} cannot become {wanted}. Allowed from {current}: {listed}.",
        details=[FieldError("status", f"allowed: {listed}")],
    )


def priority_of(severity: Severity) -> Priority:
    """Critical is P1, error is P2, everything milder is P3."""
    return _PRIORITY_OF.get(severity, Priority.P3)


def severity_for(monitor_severity: Severity, health: Health) -> Severity:
    """A degraded monitor opens with the milder of its own severity and `warning`; a down one with its own."""
    if health is Health.DOWN:
        return monitor_severity
    return min(monitor_severity, Severity.WARNING, key=_BY_BADNESS.index)
