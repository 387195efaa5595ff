"""A heartbeat's addresses and its pings, as clients read them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from api.pagination import DEFAULT_LIMIT, MAX_CURSOR_CHARS
from api.schemas import Query


class Heartbeat(BaseModel):
    """What a heartbeat is pinged by, and when it is expected. Who knows the addresses can ping."""

    ping_url: str
    push_url: str
    pings: Annotated[int, Field(description="So many came.")]
    last_ping_at: Annotated[
        datetime | None, Field(description="The last success since it is watched, or failure that is not tolerated.")
    ]
    expected_at: datetime | None
    deadline_at: Annotated[datetime | None, Field(description="From then on it is missed.")]
    running: Annotated[int, Field(description="Runs that began and have not ended.")]


class PingsQuery(Query):
    """Which page of a monitor's newest pings."""

    limit: Annotated[int, Field(ge=1, le=100, description="Items on a page.")] = DEFAULT_LIMIT
    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARS)] = None


class PingOut(BaseModel):
    """One ping. `source` is the network that it came from, `body` what it said."""

    n: int
    kind: Literal["success", "start", "fail", "log"]
    at: datetime
    exit_code: int | None
    duration_ms: int | None
    rid: str | None
    source: str | None
    body: str | None
