"""Alerts as /v1/alerts takes them: what may be sent, and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field

from api.schemas import Body, Name, Severity
from api.schemas_monitors import MAX_LABELS, LabelName, LabelValue
from common.domain.alerts import (
    DERIVED_IDS,
    MAX_KEY_CHARS,
    RESERVED_KEYS,
    Alert,
    AlertStatus,
    fingerprint,
    shortened,
)
from common.domain.errors import FieldError
from common.domain.incident import Severity as Level

MAX_NAME_CHARS = 200
MAX_SUMMARY_CHARS = 1_024
MAX_DESCRIPTION_CHARS = 10_000
MAX_LABEL_NAME_CHARS = 100
MAX_LABEL_VALUE_CHARS = 500
#: Labels of other tools that mean something here: they stay when there are too many.
_KEPT_FIRST = ("alertname", "severity")


def within_limits(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels from another tool as /v1/alerts would take them.

    Cut, not refused: such a sender cannot mend it, and would only send the same again until the alert is lost.
    """
    names = sorted((name for name in labels if name), key=lambda name: (name not in _KEPT_FIRST, name))
    return {
        shortened(name, MAX_LABEL_NAME_CHARS): shortened(labels[name], MAX_LABEL_VALUE_CHARS)
        for name in names[:MAX_LABELS]
    }


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be a time as RFC 3339 writes it")  # noqa: TRY004 - pydantic wants a ValueError
    return value


def utc(moment: datetime) -> datetime:
    """The same moment in UTC. Raises ValueError for one that UTC has no name for."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text), AfterValidator(utc)]


class AlertIn(Body):
    """A signal that something is wrong (`firing`) or right again (`resolved`)."""

    alert_id: Annotated[
        str | None, Field(min_length=1, max_length=255, description="Yours; the same again is a repeat, whatever else.")
    ] = None
    name: Name
    source: Name
    severity: Severity = "error"
    status: Literal["firing", "resolved"] = "firing"
    dedup_key: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_KEY_CHARS, description="Default: a hash of name, source and labels."),
    ] = None
    summary: Annotated[str, Field(max_length=MAX_SUMMARY_CHARS)] = ""
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS)] = ""
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    starts_at: Moment | None = None

    def problems(self) -> Iterator[FieldError]:
        """What is reserved is nobody else's."""
        if self.dedup_key is not None and self.dedup_key.startswith(RESERVED_KEYS):
            yield FieldError("dedup_key", f"must not begin with {' or '.join(RESERVED_KEYS)}: that is reserved")
        if self.alert_id is not None and self.alert_id.startswith(DERIVED_IDS):
            yield FieldError("alert_id", f"must not begin with {DERIVED_IDS}: that is reserved")

    def alert(self) -> Alert:
        """What it means."""
        return Alert(
            name=self.name,
            source=self.source,
            severity=Level(self.severity),
            status=AlertStatus(self.status),
            dedup_key=self.dedup_key or fingerprint(self.name, self.source, self.labels),
            summary=" ".join(self.summary.split()),
            description=self.description,
            labels=self.labels,
            starts_at=self.starts_at,
            alert_id=self.alert_id,
        )


class Tally(BaseModel):
    """What became of the alerts; the numbers add up to what was sent. `unmatched` is in answers to platform keys."""

    accepted: Annotated[int, Field(description="New incidents were opened.")]
    deduplicated: Annotated[int, Field(description="Known already, or nothing was open that they could end.")]
    resolved: Annotated[int, Field(description="Incidents were resolved.")]
    unmatched: Annotated[int, Field(description="Of a platform key's alerts: no organization's routes want them.")] = 0
