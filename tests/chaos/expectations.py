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
from tests.chaos.facts import FOREVER, Facts, Row, Span
from tests.chaos.quiet import Quiet, Upkeep
from tests.chaos.reasons import delays_messages
from tests.chaos.routing import COOLDOWN_S, COOLING, QUIET, REFUSED, UPKEEP, Part

#: Events that are told; a reminder is the business of the route that asks for it.
ACKNOWLEDGED = "acknowledged"
BEGINNINGS, ENDS, REMINDER = ("opened", "escalated"), (ACKNOWLEDGED, "resolved"), "reminder"
#: The end of an acknowledgement, and what those who heard are told then.
EXPIRED = "acknowledgement_expired"
TOLD_AS = {EXPIRED: REMINDER}
TOLD_TYPES = (*BEGINNINGS, *ENDS, REMINDER, EXPIRED)
#: What is still wrong so long after a silence's end, without any trouble, has been announced.
_SETTLED_WITHIN_S = 8.0
#: So long something waits at the most for a receiver that takes everything, without any trouble.
_WAITS_S = 20.0
#: The clocks of who ends a silence and who resolves an incident lie so far apart at the most.
_BLUR_S = 1.0


def told_as(type_: str) -> str:
    """The type of an event as a receiver sees it."""
    return f"incident.{TOLD_AS.get(type_, type_)}"


class Standing(StrEnum):
    """How a ledger row stands in the end."""

    TOLD = "sent"
    REFUSED = "refused"
    NOT_ANNOUNCED = "not announced"
    SILENCED = "silenced, or maintained"
    COOLED = "held back by a cooldown"
    ELSE = "something else"


_STANDINGS = {
    ("dead", "rejected"): Standing.REFUSED,
    ("suppressed", "not_announced"): Standing.NOT_ANNOUNCED,
    ("suppressed", "silenced"): Standing.SILENCED,
    ("suppressed", "maintenance"): Standing.SILENCED,  # for the right reason: A9
    ("suppressed", "cooldown"): Standing.COOLED,
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
        self._quiets = {QUIET: Quiet(facts), UPKEEP: Upkeep(facts)}
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
        spec = self._facts.monitors.get(incident["monitor"]) or self._facts.heartbeats.get(incident["monitor"])
        return spec.team if spec is not None else self._teams.get(incident["dedup_key"], "")

    def is_refused(self, incident: Row) -> bool:
        """Whether it is led to the receiver that refuses, too."""
        return incident["monitor"] is None and self.team(incident) in REFUSED

    def fate(self, incident: Row) -> Fate:
        """Whether its beginning is told."""
        opened = self._events[incident["id"]][0]
        written_at = self._written.get(opened["id"])
        quiet = self._quiets.get(self.team(incident))
        if quiet is None or written_at is None:
            return Fate(True, opened["at"])
        decision = quiet.decided(written_at)
        silence, surely = quiet.touches(decision), quiet.covers(decision)
        if silence is None:
            return Fate(True, opened["at"])
        until = None if surely is None else surely.end
        resolved_at = incident["resolved_at"] or FOREVER
        ended_at = min(resolved_at, self._facts.ended)
        if self._facts.calm(silence.end, ended_at, _SETTLED_WITHIN_S, delays_messages) is not None:
            return Fate(True, silence.end, until)
        if until is not None and resolved_at < until - _BLUR_S:
            return Fate(False, FOREVER, until)
        # Held back from the beginning everywhere, or by a later silence where it still waited (`_held_later`).
        rows = [row for channel in self._facts.run.channels if (row := self.rows.get((opened["id"], channel.id)))]
        held = all(standing(row) is Standing.SILENCED for row in rows)
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
                if channel.part == Part.COOLED:
                    yield from self._cooled(incident, event, channel)
                elif standings:
                    due = Due(event, channel, standings, max(event["at"], fate.since))
                    quiet = self._quiets.get(self.team(incident)) if fate.told else None
                    waited = self._waited(incident, due, quiet) if quiet else due
                    if waited.standings:
                        yield waited

    def _waited(self, incident: Row, due: Due, quiet: Quiet) -> Due:
        """What still waits when a silence begins is held back then, and announced at its end where that is still wrong.

        Of what follows nobody hears where the beginning was held back for good.
        """
        begins = due.event["type"] in BEGINNINGS
        event = due.event if begins else self._events[incident["id"]][0]
        row = self.rows.get((event["id"], due.channel.id))
        silence = row and quiet.touches(self._waiting(row, due.channel))
        if row is None and due.channel.part == Part.FALLBACK and self._held_at_refusing(event):
            return Due(due.event, due.channel, (), due.since)  # what was not sent was not refused
        if row is None or silence is None:
            return due
        standings = due.standings
        ended_at = min(incident["resolved_at"] or FOREVER, self._facts.ended)
        in_time = self._facts.calm(silence.end, ended_at, _SETTLED_WITHIN_S, delays_messages) is None
        if in_time and standing(row) is Standing.SILENCED:
            standings = (*standings, Standing.SILENCED if begins else Standing.NOT_ANNOUNCED)
        return Due(due.event, due.channel, standings, max(due.since, silence.end))

    def _waiting(self, row: Row, channel: ChannelSpec) -> Span:
        """When it may have waited: where it is refused, for long; elsewhere for its group, its cap or a trouble."""
        written_at: float = row.get("created_at", FOREVER)
        if row.get("sent_at"):
            return Span(written_at, row["sent_at"])
        until = written_at + _WAITS_S
        if channel.hostile or self._facts.disturbed(written_at, until, delays_messages):
            until = self._facts.ended
        return Span(written_at, until)

    def _held_at_refusing(self, event: Row) -> bool:
        rows = (self.rows.get((event["id"], c.id)) for c in self._facts.run.channels if c.part == Part.REFUSING)
        return any(row is not None and standing(row) is Standing.SILENCED for row in rows)

    def _standings(self, incident: Row, type_: str, channel: ChannelSpec, *, told: bool) -> tuple[Standing, ...]:
        """() when the channel has nothing to do with it."""
        held = Standing.SILENCED if type_ in BEGINNINGS else Standing.NOT_ANNOUNCED
        if channel.part == Part.CAPPED and incident["monitor"] is not None:
            return ()
        if channel.part == Part.CAPPED:
            return (Standing.TOLD if told else held,)
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

    def _cooled(self, incident: Row, event: Row, channel: ChannelSpec) -> Iterator[Due]:
        """Where the beginning is held back for good, nobody hears of the rest; whether rightly so is A6's question."""
        if incident["monitor"] is not None or self.team(incident) != COOLING:
            return
        opening = self.rows.get((self._events[incident["id"]][0]["id"], channel.id))
        told = opening is not None and standing(opening) is Standing.TOLD
        standings = (Standing.TOLD,) if told else (Standing.NOT_ANNOUNCED,)
        if event["type"] in BEGINNINGS:
            standings = (Standing.TOLD, Standing.COOLED)
        elif event["type"] == EXPIRED and (event["id"], channel.id) not in self.rows:
            return  # it had not heard by then
        elif event["type"] == ACKNOWLEDGED:
            standings = (Standing.TOLD, Standing.NOT_ANNOUNCED)
        # What was held back at first is announced at the cooldown's end.
        yield Due(event, channel, standings, event["at"] + COOLDOWN_S)

    def _reminder(self, incident: Row, event: Row, fate: Fate) -> Iterator[Due]:
        """By the route that asks for it, unless it is silenced at that moment."""
        if not fate.told:
            return
        standings: tuple[Standing, ...] = (Standing.TOLD,)
        quiet = self._quiets.get(self.team(incident))
        if quiet is not None and event["id"] in self._written:
            decision = quiet.decided(self._written[event["id"]])
            if quiet.covers(decision) is not None:
                standings = (Standing.SILENCED,)
            elif quiet.touches(Span(decision.begin, self._facts.ended)) is not None:
                standings = (Standing.TOLD, Standing.SILENCED)
        for channel in self._facts.run.channels:
            if channel.part == Part.GROUPED:
                yield Due(event, channel, standings, max(event["at"], fate.since))
