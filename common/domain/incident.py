"""What an incident may do: its status machine, and how severity and priority follow from each other."""

from __future__ import annotations

from collections.abc import Mapping
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
    REMINDER = "reminder"
    UPDATED = "updated"  # people changed fields
    ASSIGNED = "assigned"
    ACKNOWLEDGEMENT_EXPIRED = "acknowledgement_expired"
    FLAPPING = "flapping"  # its monitor changes too often: it stays open until that is over …
    SETTLED = "settled"  # … and it is still wrong then
    COMMENTED = "commented"
    HELD_BACK = "held_back"  # its beginning is not told while a maintenance window, or a parent that is down, covers it


#: {status: statuses that it may be set to}; the same status again is accepted and changes nothing. What nobody sets
#: is the way back from an acknowledgement whose time is over: see `ACKNOWLEDGEMENT_EXPIRED`.
TRANSITIONS: MappingProxyType[Status, tuple[Status, ...]] = MappingProxyType(
    {
        Status.OPEN: (Status.ACKNOWLEDGED, Status.RESOLVED),
        Status.ACKNOWLEDGED: (Status.RESOLVED,),
        Status.RESOLVED: (),
    },
)

#: Events that people are told of; all others stay in the timeline.
ANNOUNCED: frozenset[EventType] = frozenset(
    {
        EventType.OPENED,
        EventType.ESCALATED,
        EventType.ACKNOWLEDGED,
        EventType.RESOLVED,
        EventType.REMINDER,
        EventType.ACKNOWLEDGEMENT_EXPIRED,
        EventType.FLAPPING,
        EventType.SETTLED,
    },
)

#: What an event is called where people are told of it, if not by its own name: it reminds those who heard before.
TOLD_AS: MappingProxyType[EventType, EventType] = MappingProxyType(
    dict.fromkeys((EventType.ACKNOWLEDGEMENT_EXPIRED, EventType.FLAPPING, EventType.SETTLED), EventType.REMINDER),
)

#: Labels that an incident may be given by hand.
MAX_LABELS = 50

_PRIORITY_OF = MappingProxyType({Severity.CRITICAL: Priority.P1, Severity.ERROR: Priority.P2})
_SEVERITY_OF = MappingProxyType({Priority.P1: Severity.CRITICAL, Priority.P2: Severity.ERROR})
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


def monitor_key(monitor_id: str) -> str:
    """The dedup key of a monitor's own incident, as SQL writes it, too: 'monitor:' || id."""
    return f"monitor:{monitor_id}"


def merge_labels(labels: Mapping[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    """The labels with a merge patch: None removes one, or all. Raises ValidationFailed for too many."""
    if patch is None:
        return {}
    merged = {name: value for name, value in {**labels, **patch}.items() if value is not None}
    if len(merged) > max(MAX_LABELS, len(labels)):
        raise ValidationFailed("Some fields are wrong.", details=[FieldError("labels", f"at most {MAX_LABELS} labels")])
    return merged


def severity_of(priority: Priority) -> Severity:
    """P1 is critical, P2 is error, P3 is warning."""
    return _SEVERITY_OF.get(priority, Severity.WARNING)


def severity_for(monitor_severity: Severity, health: Health) -> Severity:
    """A degraded monitor opens with the milder of its own severity and `warning`; a down one with its own."""
    if health is Health.DOWN:
        return monitor_severity
    return min(monitor_severity, Severity.WARNING, key=_BY_BADNESS.index)
