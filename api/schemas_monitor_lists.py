"""What lists of monitors are asked by, and what they answer: whole monitors, or some of their fields."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, create_model

from api.schemas import PageQuery, Query
from api.schemas_monitors import MAX_LABELS, Monitor, MonitorIn

#: A name of 200 characters may be part of it.
MAX_CURSOR_CHARS = 2_000

_FIELDS = tuple(Monitor.model_fields)
_TYPES = get_args(MonitorIn.model_fields["type"].annotation)


def _field(text: str) -> str:
    if text not in _FIELDS:
        raise ValueError(f"must be one of: {', '.join(_FIELDS)}")
    return text


def _type(text: str) -> str:
    if text not in _TYPES:
        raise ValueError(f"must be one of: {', '.join(_TYPES)}")
    return text


def _label(text: str) -> str:
    if not text.partition(":")[0]:
        raise ValueError("must be key:value, or key for any value")
    return text


Sort = Literal["created_at", "-created_at", "name", "-name", "state"]
Status = Literal["pending", "up", "degraded", "down", "unknown", "paused", "maintenance"]
FieldName = Annotated[str, Field(max_length=50), AfterValidator(_field)]
TypeName = Annotated[str, Field(max_length=50), AfterValidator(_type)]
LabelText = Annotated[str, Field(max_length=601), AfterValidator(_label)]


class MonitorQuery(PageQuery):
    """Which monitors: all that pass every filter; of each the whole, or some fields."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"fields", "state", "label", "type"})

    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARS, description="next_cursor of the page before.")] = (
        None
    )
    fields: Annotated[
        list[FieldName] | None, Field(max_length=len(_FIELDS), description="Only these; the id always comes along.")
    ] = None
    state: list[Status] | None = None
    label: Annotated[
        list[LabelText] | None,
        Field(max_length=MAX_LABELS, description="key:value, or key for any value; of several, all."),
    ] = None
    type: list[TypeName] | None = None
    q: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="Each of its words begins a word of name, target or key."),
    ] = None
    sort: Annotated[Sort, Field(description="state: the worst first.")] = "-created_at"


def _no_default(schema: dict[str, Any]) -> None:
    """What was not asked for is not null, but not there."""
    schema.pop("default", None)


#: A monitor of a list: with `fields` only those and the id.
MonitorPart: type[BaseModel] = create_model(
    "MonitorPart",
    __doc__="A monitor, or of it what was asked for by `fields`.",
    id=(str, ...),
    **{  # type: ignore[call-overload]
        name: (field.annotation, Field(None, json_schema_extra=_no_default))
        for name, field in Monitor.model_fields.items()
        if name != "id"
    },
)


def _exact_label(text: str) -> str:
    if not _label(text).partition(":")[1]:
        raise ValueError("must be key:value")
    return text


class ExportQuery(Query):
    """Which monitors: those that carry all of these labels."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"label"})

    label: Annotated[
        list[Annotated[str, Field(max_length=601), AfterValidator(_exact_label)]] | None,
        Field(max_length=MAX_LABELS, description="key:value; of several, all."),
    ] = None


class LabelQuery(Query):
    """Which labels: all, those of a key, those whose value begins so."""

    key: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    prefix: Annotated[str | None, Field(max_length=500, description="Of the value; upper and lower case alike.")] = None


class LabelValueCount(BaseModel):
    """A value of a label, and how many monitors carry it."""

    value: str
    monitors: int


class Label(BaseModel):
    """A label's key with its commonest values; `more`: there are more than are shown."""

    key: str
    values: list[LabelValueCount]
    more: bool


class Labels(BaseModel):
    """Labels by key; `more_keys`: there are more than are shown."""

    data: list[Label]
    more_keys: bool
