"""Who has to hear of what, by the run's own rules (tests/chaos/routing.py) and by when silences were in force.

Worked out from what the run did and saw. Of the product's ledger it takes only when an event was decided on, since a
silence counts at that moment, and where two fates are possible which of them it was, so that all channels share it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.events import ChannelSpec
from tests.chaos.facts import FOREVER, Facts, Row
from tests.chaos.quiet import Quiet
from tests.chaos.reasons import delays_messages
from tests.chaos.routing import QUIET, REFUSED, Part

#: Events that are told; a reminder is the business of the route that asks for it.
BEGINNINGS, ENDS, REMINDER = ("opened", "escalated"), ("acknowledged", "resolved"), "reminder"
TOLD_TYPES = (*BEGINNINGS, *ENDS, REMINDER)
#: What is still wrong so long after a silence's end, without any trouble, has been announced.
_SETTLED_WITHIN_S = 8.0
#: The clocks of who ends a silence and who resolves an incident lie so far apart at the most.
_BLUR_S = 1.0


class Standing(StrEnum):
    """How a ledger row stands in the end."""

    TOLD = "sent"
    REFUSED = "refused"
    NOT_ANNOUNCED = "not announced"
    SILENCED = "silenced"
    ELSE = "something else"


_STANDINGS = {
    ("dead", "rejected"): Standing.REFUSED,
    ("suppressed", "not_announced"): Standing.NOT_ANNOUNCED,
    ("suppressed", "silenced"): Standing.SILENCED,
}


def standing(row: Row) -> Standing:
    """A ledger row in these words."""
    if row["status"] == "sent":
        return Standing.TOLD
    return _STANDINGS.get((row["status"], row["reason"]), Standing.ELSE)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an incident's beginning: told or held back for good, and since when it could be told.

    `until`: a silence was surely in force from its decision until then.
    """

    told: bool
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """An event at a channel: how its row may stand, and since when it could be told."""

    event: Row
    channel: ChannelSpec
    standings: tuple[Standing, ...]
    since: float


class Expectations:
    """Of a whole run. `rows` is the ledger by (event, channel)."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._quiet = Quiet(facts)
        self._teams = {signal.key: signal.team for signal in facts.signals}
        self.rows = {(row["event"], row["channel"]): row for row in facts.tables["notifications"]}
        self._written: dict[str, float] = {}
        for (event, _), row in self.rows.items():
            self._written[event] = min(row.get("created_at", FOREVER), self._written.get(event, FOREVER))
        self._events: dict[str, list[Row]] = defaultdict(list)
        for event in sorted(facts.tables["incident_events"], key=lambda event: event["version"]):
            if event["type"] in TOLD_TYPES:
                self._events[event["incident"]].append(event)

    def all(self) -> Iterator[Due]:
        """Every event that is told, at every channel that it is led to."""
        for incident in self._facts.tables["incidents"]:
            yield from self._of(incident)

    def team(self, incident: Row) -> str:
        """Whose incident it is."""
        spec = self._facts.monitors.get(incident["monitor"])
        return spec.team if spec is not None else self._teams.get(incident["dedup_key"], "")

    def is_refused(self, incident: Row) -> bool:
        """Whether it is led to the receiver that refuses, too."""
        return incident["monitor"] is None and self.team(incident) in REFUSED

    def fate(self, incident: Row) -> Fate:
        """Whether its beginning is told."""
        opened = self._events[incident["id"]][0]
        written_at = self._written.get(opened["id"])
        if self.team(incident) != QUIET or written_at is None:
            return Fate(True, opened["at"])
        decision = self._quiet.decided(written_at)
        silence, surely = self._quiet.touches(decision), self._quiet.covers(decision)
        if silence is None:
            return Fate(True, opened["at"])
        until = None if surely is None else surely.end
        resolved_at = incident["resolved_at"] or FOREVER
        ended_at = min(resolved_at, self._facts.ended)
        if self._facts.calm(silence.end, ended_at, _SETTLED_WITHIN_S, delays_messages) is not None:
            return Fate(True, silence.end, until)
        if until is not None and resolved_at < until - _BLUR_S:
            return Fate(False, FOREVER, until)
        held = any(
            standing(row) is Standing.SILENCED
            for channel in self._facts.run.channels
            if (row := self.rows.get((opened["id"], channel.id))) is not None
        )
        return Fate(not held, silence.end, until)

    def _of(self, incident: Row) -> Iterator[Due]:
        events = self._events[incident["id"]]
        if not events:
            return
        fate = self.fate(incident)
        for event in events:
            if event["type"] == REMINDER:
                yield from self._reminder(incident, event, fate)
                continue
            for channel in self._facts.run.channels:
                standings = self._standings(incident, event["type"], channel, told=fate.told)
                if standings:
                    yield Due(event, channel, standings, max(event["at"], fate.since))

    def _standings(self, incident: Row, type_: str, channel: ChannelSpec, *, told: bool) -> tuple[Standing, ...]:
        """() when the channel has nothing to do with it."""
        held = Standing.SILENCED if type_ in BEGINNINGS else Standing.NOT_ANNOUNCED
        if channel.part in (Part.PLAIN, Part.GROUPED):
            return (Standing.TOLD if told else held,)
        if not self.is_refused(incident):
            return ()
        if channel.part == Part.FALLBACK:
            return (Standing.TOLD,) if told else ()
        if not told:
            return (held,)
        # An end goes there only where the beginning may have arrived, and is refused as well then.
        return (Standing.REFUSED,) if type_ in BEGINNINGS else (Standing.NOT_ANNOUNCED, Standing.REFUSED)

    def _reminder(self, incident: Row, event: Row, fate: Fate) -> Iterator[Due]:
        """By the route that asks for it, unless it is silenced at that moment."""
        if not fate.told:
            return
        standings: tuple[Standing, ...] = (Standing.TOLD,)
        if self.team(incident) == QUIET and event["id"] in self._written:
            decision = self._quiet.decided(self._written[event["id"]])
            if self._quiet.covers(decision) is not None:
                standings = (Standing.SILENCED,)
            elif self._quiet.touches(decision) is not None:
                standings = (Standing.TOLD, Standing.SILENCED)
        for channel in self._facts.run.channels:
            if channel.part == Part.GROUPED:
                yield Due(event, channel, standings, max(event["at"], fate.since))
