"""What requests about channels hold: the common fields here, `config` by the channel type's own model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, WithJsonSchema

from api.complaints import field_errors
from api.schemas import Body, Name, exact_id
from common.channels.registry import CHANNELS
from common.channels.settings import ChannelSettings
from common.domain.errors import FieldError


def _known(text: str) -> str:
    if text not in CHANNELS:
        raise ValueError(f"must be one of: {', '.join(CHANNELS)}")
    return text


ChannelType = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(CHANNELS)})]
ChannelId = Annotated[str, Field(max_length=36), AfterValidator(exact_id)]

#: One schema per type, for the documentation; validation picks the type's own.
_CONFIGS = WithJsonSchema(
    {"anyOf": [{"title": name, **channel.settings.model_json_schema()} for name, channel in CHANNELS.items()]}
)


class Cap(Body):
    """At most `count` messages within `window_seconds`; what is beyond is told as one message when there is room."""

    count: Annotated[int, Field(ge=1, le=10_000)]
    window_seconds: Annotated[int, Field(ge=1, le=86_400)]


class ChannelIn(Body):
    """A place that alerts go to. Secrets in `config` can be written, never read: they come back as null."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "secret", "disabled_reason", "created_at", "updated_at"})

    name: Name
    type: ChannelType
    config: Annotated[dict[str, Any], _CONFIGS]
    enabled: bool = True
    is_default: bool = False
    fallback_channel_id: Annotated[
        ChannelId | None, Field(description="Hears what this channel could not be told.")
    ] = None
    cap: Cap | None = None

    def settings(self) -> ChannelSettings:
        """The configuration by its type's model. Raises pydantic's ValidationError."""
        return CHANNELS[self.type].settings.model_validate(self.config)

    def problems(self) -> Iterator[FieldError]:
        """What the type's model says about `config`."""
        try:
            settings = self.settings()
        except ValidationError as error:
            yield from field_errors(error, "config.")
            return
        yield from (FieldError(f"config.{problem.field}", problem.message) for problem in settings.problems())


class Channel(BaseModel):
    """A channel; `secret` is only in the answer to its creation, null ever after."""

    id: str
    name: str
    type: ChannelType
    config: dict[str, Any]
    secret: str | None
    enabled: bool
    is_default: bool
    fallback_channel_id: str | None
    cap: Cap | None
    disabled_reason: Annotated[str | None, Field(description="Why Tocsin disabled it, null when it did not.")]
    created_at: datetime
    updated_at: datetime


class Trial(BaseModel):
    """What came of a test message; `detail` says what went wrong."""

    delivered: bool
    status_code: int | None
    detail: str
