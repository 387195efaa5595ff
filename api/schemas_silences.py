"""What requests about silences hold and answers look like."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from api.alert_documents import Moment
from api.schemas import Body, PageQuery
from api.schemas_matchers import MAX_MATCHERS, MatcherIn, matcher_problems
from common.domain.errors import FieldError
from common.domain.silences import LONGEST, matches_everything

SilenceState = Literal["pending", "active", "expired"]

_LONGEST_S = int(LONGEST.total_seconds())


class SilenceIn(Body):
    """What to hold back, and until when: `ends_at`, or `duration_seconds` from its beginning."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "created_by", "state", "created_at", "updated_at"})

    matchers: Annotated[list[MatcherIn], Field(min_length=1, max_length=MAX_MATCHERS, description="All must hold.")]
    starts_at: Annotated[Moment | None, Field(description="Default: now.")] = None
    ends_at: Moment | None = None
    duration_seconds: Annotated[int | None, Field(ge=1, le=_LONGEST_S)] = None
    comment: Annotated[str, Field(max_length=1_000)] = ""

    @property
    def end_field(self) -> str:
        """By what the client gave the end."""
        return "duration_seconds" if self.ends_at is None else "ends_at"

    def problems(self) -> Iterator[FieldError]:
        """One end, and something that is not held back."""
        if self.ends_at is None and self.duration_seconds is None:
            yield FieldError("ends_at", "is required, or duration_seconds")
        if self.ends_at is not None and self.duration_seconds is not None:
            yield FieldError("duration_seconds", "give either this or ends_at")
        wrong = list(matcher_problems(self.matchers))
        yield from wrong
        if not wrong and all(matches_everything(item.matcher()) for item in self.matchers):
            yield FieldError("matchers", "would hold back everything; at least one must let something through")


class Silence(BaseModel):
    """A silence. `created_by` is who made it, as in timelines."""

    id: str
    matchers: list[MatcherIn]
    comment: str
    created_by: str
    starts_at: datetime
    ends_at: datetime
    state: SilenceState
    created_at: datetime
    updated_at: datetime


class SilenceQuery(PageQuery):
    """Which silences."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"state"})

    state: list[SilenceState] | None = None
