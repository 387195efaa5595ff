"""The routes of a run: what its channels have to do, and how that is asked for through the API.

What follows from it for each event is worked out in tests/chaos/expectations.py, without the product.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from tests.chaos.events import ChannelSpec
from tests.chaos.receiver import CAPPED, COOLED, FALLBACK, FRIENDLY, GROUPED, HOSTILE, REFUSING

#: What alerts from outside say of themselves; monitors are of the teams before the quiet one.
SOURCE = "outside"
QUIET = "quiet"
TEAMS = ("red", "green", "blue", QUIET)
#: Whose heartbeats may fall silent in maintenance windows.
UPKEEP = "upkeep"
#: Whose alerts go to the receiver that refuses, too.
REFUSED = ("red", QUIET)

#: Whose alerts are announced once in a while only, and whose incidents somebody acknowledges.
COOLING, ACKNOWLEDGED = "green", ("green", "blue")
COOLDOWN_S = 12
#: So many messages in so many seconds.
CAP, CAP_WINDOW_S = 3, 4

GROUP_WAIT_S, GROUP_INTERVAL_S = 1, 2
REMIND_EVERY_S = 60


class Part(StrEnum):
    """What a channel has to do."""

    PLAIN = "plain"  # hears of everything, one by one
    GROUPED = "grouped"  # hears of everything, a team's together, and is reminded
    REFUSING = "refusing"  # is told of some alerts, and takes nothing
    FALLBACK = "fallback"  # hears what that one refuses
    CAPPED = "capped"  # hears of all alerts, a few messages at a time
    COOLED = "cooled"  # hears of a team's alerts, of each problem once in a while


#: Where a message may have to wait its turn.
SLOW = (Part.CAPPED, Part.REFUSING, Part.FALLBACK)


class Api(Protocol):
    """Who makes things."""

    def post(self, path: str, body: Any) -> Any:
        """The answer; raises when it is not 2xx."""


def make_channels(api: Api, sink: str) -> tuple[ChannelSpec, ...]:
    """All channels; the plain ones are default channels, as if there were no routes."""

    def make(path: str, part: Part, **more: Any) -> ChannelSpec:
        body = {"type": "webhook", "name": path, "config": {"url": f"{sink}{path}"}, **more}
        return ChannelSpec(str(api.post("/v1/channels", body)["id"]), path, hostile=path == HOSTILE, part=part)

    plain = [make(path, Part.PLAIN, is_default=True) for path in (*FRIENDLY, HOSTILE)]
    grouped, fallback = make(GROUPED, Part.GROUPED), make(FALLBACK, Part.FALLBACK)
    refusing = make(REFUSING, Part.REFUSING, fallback_channel_id=fallback.id)
    capped = make(CAPPED, Part.CAPPED, cap={"count": CAP, "window_seconds": CAP_WINDOW_S})
    return (*plain, grouped, refusing, fallback, capped, make(COOLED, Part.COOLED))


def make_routes(api: Api, channels: tuple[ChannelSpec, ...]) -> None:
    """Everything to the plain ones, everything in groups, and what the refusing one is asked to take."""

    def of(part: Part) -> list[str]:
        return [channel.id for channel in channels if channel.part == part]

    api.post("/v1/routes", {"name": "all", "channel_ids": of(Part.PLAIN)})
    grouping = {
        "group_by": ["team"],
        "group_wait_seconds": GROUP_WAIT_S,
        "group_interval_seconds": GROUP_INTERVAL_S,
        "repeat_interval_seconds": REMIND_EVERY_S,
    }
    api.post("/v1/routes", {"name": "grouped", "channel_ids": of(Part.GROUPED), **grouping})
    some = {"match": {"source": "out*"}, "matchers": [{"label": "team", "op": "=~", "value": "|".join(REFUSED)}]}
    api.post("/v1/routes", {"name": "refused", "channel_ids": of(Part.REFUSING), **some})
    outside = {"match": {"source": SOURCE}}
    api.post("/v1/routes", {"name": "capped", "channel_ids": of(Part.CAPPED), **outside})
    cooling = {"matchers": [{"label": "team", "op": "=", "value": COOLING}], "cooldown_seconds": COOLDOWN_S}
    api.post("/v1/routes", {"name": "cooled", "channel_ids": of(Part.COOLED), **outside, **cooling})
