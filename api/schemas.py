"""What requests hold and answers look like: every field bounded, nothing unknown let in.

Monitors, channels and identity have files of their own beside this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from common.domain.errors import FieldError
from common.http.target import Target, parse_target

Role = Literal["owner", "admin", "editor", "viewer"]
Severity = Literal["critical", "error", "warning", "info"]


def one_line(text: str) -> str:
    """The text, if it is one line and not blank. Raises ValueError."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must be one line without control characters")
    if not text.strip():
        raise ValueError("must not be blank")
    return text


#: A name for people: it stands in subjects of mails and in logs, so it is one line.
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(one_line)]


_ID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def is_id(value: object) -> bool:
    """Whether this is a UUID as we write it: 36 characters, none of the other spellings that UUID() reads."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def exact_id(text: str) -> str:
    """The id in lower case. Raises ValueError."""
    if not is_id(text):
        raise ValueError("must be a UUID")
    return text.lower()


def _only_exact(value: object) -> object:
    if isinstance(value, str):
        exact_id(value)
    return value


#: An id in a body or a query.
Id = Annotated[UUID, Field(strict=False), BeforeValidator(_only_exact)]


class Body(BaseModel):
    """What a request holds. Types are strict: "30" is no number, 1 is no boolean."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: Fields that answers have and only the server writes: ignored, so that an answer can be sent back.
    READ_ONLY: ClassVar[frozenset[str]] = frozenset()

    def problems(self) -> Iterator[FieldError]:
        """What is wrong beyond single fields; asked once these are right."""
        yield from ()


class Query(BaseModel):
    """What a query string holds: texts, so types are lenient, but unknown parameters are not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Parameters that may hold several values.
    LISTS: ClassVar[frozenset[str]] = frozenset()


class PageQuery(Query):
    """Which page of a list."""

    limit: Annotated[int, Field(ge=1, le=500, description="Items on a page.")] = 50
    cursor: Annotated[str | None, Field(max_length=300, description="next_cursor of the page before.")] = None


class ResultQuery(PageQuery):
    """Which results."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"verdict"})

    verdict: list[Literal["up", "degraded", "down", "unknown"]] | None = None


class Backlog(BaseModel):
    """Messages that wait in a location's queues, each with up to 100 checks."""

    fast: int
    slow: int
    urgent: int


class Location(BaseModel):
    """Where checks run from, and whether it sees anything."""

    name: str
    status: Annotated[
        Literal["fresh", "stale", "blind"],
        Field(description="stale: no worker lives, or it sees nothing, not yet for long enough to be called blind."),
    ]
    workers: Annotated[int, Field(description="Worker processes that live.")]
    checks_last_minute: int
    last_seen_at: Annotated[datetime | None, Field(description="The newest sign of life of any of its workers.")]
    last_result_at: Annotated[datetime | None, Field(description="When its newest result was stored.")]
    backlog: Annotated[
        Backlog | None, Field(description="null: the queue cannot be asked, or is none of the caller's business.")
    ]
    blind_since: datetime | None
    reason: Annotated[
        Literal["network", "no_worker", "no_results"] | None, Field(description="Why it is blind, or about to be.")
    ]
    created_at: datetime


class Problem(BaseModel):
    """The one error shape, application/problem+json."""

    type: str
    title: str
    status: int
    code: str
    message: str
    request_id: str
    details: list[dict[str, str]]


def web_target(url: str) -> Target | str:
    """An http(s) URL in parts, or what is wrong with it; credentials in it would be shown to every reader."""
    target = parse_target(url)
    if isinstance(target, Target) and "@" in url.split("://", 1)[1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]:
        return "must not hold credentials (user:password@)"
    return target
