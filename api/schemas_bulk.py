"""What requests about many monitors hold, and what they are answered: bulk, pause, resume, plan, apply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SkipValidation

from api.schemas import Body, Id
from api.schemas_monitors import MAX_LABELS, LabelName, LabelValue, Monitor, MonitorIn
from common.domain.errors import FieldError

MAX_BULK = 1_000
MAX_DESIRED = 10_000
#: Of a body with so many monitors.
MAX_BULK_BYTES = 5 * 1024 * 1024
MAX_DESIRED_BYTES = 20 * 1024 * 1024

#: Each is checked by itself, so that what is wrong with one is said of that one.
_Monitors = list[SkipValidation[MonitorIn]]
Labels = Annotated[dict[LabelName, LabelValue], Field(min_length=1, max_length=MAX_LABELS)]


class BulkIn(Body):
    """Monitors to make: all of them or none, or each for itself."""

    monitors: Annotated[_Monitors, Field(min_length=1, max_length=MAX_BULK)]
    mode: Literal["all", "each"] = "all"


class ItemProblem(BaseModel):
    """What is wrong with one item, as an error of its own would say it."""

    code: str
    message: str
    details: list[dict[str, str]]


class BulkResult(BaseModel):
    """What became of the item at this index."""

    index: int
    status: Literal[201, 400, 409]
    monitor: Monitor | None
    error: ItemProblem | None


class BulkAnswer(BaseModel):
    """What became of the items, in their order."""

    created: int
    failed: int
    results: list[BulkResult]


class MonitorSwitchIn(Body):
    """Which monitors: these, or all that carry these labels."""

    ids: Annotated[list[Id] | None, Field(min_length=1, max_length=MAX_BULK)] = None
    labels: Labels | None = None

    def problems(self) -> Iterator[FieldError]:
        """One of the two."""
        if (self.ids is None) == (self.labels is None):
            yield FieldError("ids", "give either ids or labels")


class MonitorSwitchAnswer(BaseModel):
    """How many were changed, how many were so already, and which ids belong to no monitor."""

    changed: int
    unchanged: int
    not_found: list[str]


class PlanIn(Body):
    """The monitors that there are to be, each with its key.

    With `labels` each has to carry them, and only monitors that carry them are looked at. With `prune` monitors with a
    key that is not among these are deleted.
    """

    monitors: Annotated[_Monitors, Field(max_length=MAX_DESIRED)]
    labels: Labels | None = None
    prune: bool = False


class ApplyIn(PlanIn):
    """The same, with the fingerprint of the plan that was looked at."""

    fingerprint: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class PlanSummary(BaseModel):
    """How many monitors of each kind."""

    create: int
    update: int
    delete: int
    unchanged: int


class Difference(BaseModel):
    """One field, by its path; secrets are {"secret": null} on both sides."""

    field: str
    from_: Annotated[Any, Field(alias="from")]
    to: Any


class PlannedChange(BaseModel):
    """What happens to one monitor; `id` is null while it is not there. Only an update has differences."""

    action: Literal["create", "update", "delete"]
    key: str
    id: str | None
    name: str
    differences: list[Difference]


class Drift(BaseModel):
    """A monitor that was changed in another way since the last apply."""

    id: str
    key: str | None
    name: str
    applied_version: int
    config_version: int
    updated_at: str


class Plan(BaseModel):
    """What an apply does, or has done."""

    fingerprint: str
    summary: PlanSummary
    changes: list[PlannedChange]
    drift: list[Drift]


class Unkeyed(BaseModel):
    """A monitor that no desired set can name."""

    id: str
    name: str


class Export(BaseModel):
    """Monitors as a person would write them, by key; those without a key are only listed."""

    monitors: list[MonitorIn]
    without_key: list[Unkeyed]
