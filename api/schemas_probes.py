"""One probe now: asked for like a monitor, without what only a schedule needs; answered like a result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, Field, create_model

from api.schemas import Body
from api.schemas_monitors import LocationName, MonitorIn, Phases
from common.domain.errors import FieldError
from common.http.target import Host

#: What a monitor has and a probe has not: everything about when, how often and for whom it is checked.
_OF_MONITORS = frozenset(
    {
        "key", "name", "interval_seconds", "timeout_seconds", "failure_threshold", "recovery_threshold",
        "retry_interval_seconds", "severity", "labels", "locations", "quorum", "enabled", "parent_id",
    }
)  # fmt: skip


class ProbeBase(Body):
    """What is to be probed now, from one location."""

    timeout_seconds: Annotated[float, Field(ge=0.1, le=30)] = 10.0
    location: Annotated[LocationName | None, Field(description="Default: the server's own.")] = None

    @property
    def monitor(self) -> MonitorIn:
        """The monitor that would be checked like this; its fields are checked already."""
        fields = {name: getattr(self, name) for name in self.model_fields_set if name in MonitorIn.model_fields}
        return MonitorIn.model_construct(name="probe", interval_seconds=86_400, **fields)

    @property
    def host(self) -> Host | str:
        """The target's host, or what is wrong with the target."""
        return self.monitor.host

    def problems(self) -> Iterator[FieldError]:
        """A monitor's rules between fields."""
        if self.monitor.type == "heartbeat":
            yield FieldError("type", "a heartbeat waits to be pinged; there is nothing to probe")
            return
        yield from self.monitor.problems()


#: A monitor's fields are its own: a new type, or a new option of one, is there at once.
ProbeIn: type[ProbeBase] = create_model(
    "ProbeIn",
    __base__=ProbeBase,
    __doc__=ProbeBase.__doc__,
    **{name: (field.annotation, field) for name, field in MonitorIn.model_fields.items() if name not in _OF_MONITORS},  # type: ignore[call-overload]
)


class Probe(BaseModel):
    """What a worker saw just now; kept nowhere."""

    verdict: Literal["up", "degraded", "down", "unknown"]
    reason: str | None
    message: str | None
    latency_ms: float | None
    phases: Phases
    status_code: int | None
    failed_assertion: dict[str, str] | None
    location: str
