"""What Prometheus asks with: which monitors, and what to probe."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, Field

from api.schemas import Id, Query
from api.schemas_monitor_lists import TypeName
from api.schemas_monitors import MAX_LABELS

_MOST_SHARDS = 1_000
_SHARD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


def _shard(text: str) -> str:
    found = _SHARD.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= _MOST_SHARDS:
        raise ValueError(f"must be a part and how many there are, like 1/4; {_MOST_SHARDS} at most")
    return text


def _pair(text: str) -> str:
    name, colon, _ = text.partition(":")
    if not name or not colon:
        raise ValueError("must be key:value")
    return text


class SeriesOfQuery(Query):
    """Which monitors: all that pass every filter."""

    LISTS: ClassVar[frozenset[str]] = frozenset({"type", "label"})

    type: Annotated[list[TypeName] | None, Field(max_length=20)] = None
    label: Annotated[
        list[Annotated[str, Field(max_length=601), AfterValidator(_pair)]] | None,
        Field(max_length=MAX_LABELS, description="key:value; all of them."),
    ] = None
    monitor_id: Id | None = None
    shard: Annotated[
        Annotated[str, Field(max_length=9), AfterValidator(_shard)] | None,
        Field(description="A part of them, like 1/4: what one scrape cannot hold several can."),
    ] = None


class ProbeQuery(Query):
    """What is to be probed, as blackbox_exporter is asked."""

    target: Annotated[str, Field(min_length=1, max_length=2_048)]
    module: Annotated[
        str, Field(min_length=1, max_length=50, description="A type of monitor, or http_2xx and others.")
    ] = "http_2xx"
    location: Annotated[str | None, Field(max_length=63, description="Default: the server's own.")] = None
    debug: Annotated[str | None, Field(max_length=10, description="Taken, and without effect.")] = None


class TargetGroup(BaseModel):
    """One monitor, as Prometheus discovers it."""

    targets: list[str]
    labels: dict[str, str]
