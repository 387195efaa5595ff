"""When silences and maintenance windows were in force: surely, and perhaps; and when it was decided who hears."""

from __future__ import annotations

from collections.abc import Iterable

from tests.chaos.facts import FOREVER, Facts, Span
from tests.chaos.reasons import delays_messages

#: A decision is made so long before its rows say that they were written, if nothing stood in its way meanwhile.
_BLUR_S, _WRITTEN_AFTER_S = 1.0, 0.2


class Quiet:
    """The silences of a run; those that overlap are one."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.surely, self.perhaps = self._spans()

    def _spans(self) -> tuple[list[Span], list[Span]]:
        facts = self._facts
        # Between its making and the answer a silence may be in force or not.
        surely = _merged(Span(silence.answered_at, silence.ends_at) for silence in facts.silences)
        stored = facts.tables.get("silences", [])
        return surely, _merged(Span(row["begins_at"], row["ends_at"]) for row in stored)

    def decided(self, written_at: float) -> Span:
        """When somebody may have decided what was written then: longer before if they were frozen or held up."""
        around = self._facts.disturbed(written_at - 2 * _BLUR_S, written_at, delays_messages)
        begin = min((span.begin for span in around), default=written_at)
        return Span(min(begin, written_at) - _BLUR_S, written_at + _WRITTEN_AFTER_S)

    def covers(self, decision: Span) -> Span | None:
        """The silences that were in force all that time."""
        return next((s for s in self.surely if s.begin <= decision.begin and decision.end <= s.end), None)

    def touches(self, decision: Span) -> Span | None:
        """The silences, the last of them, that may have been in force at some moment of it."""
        found = [span for span in self.perhaps if span.overlaps(decision.begin, decision.end)]
        return found[-1] if found else None


class Upkeep(Quiet):
    """The same of the maintenance windows: from their answer until their end was asked for, or answered."""

    def _spans(self) -> tuple[list[Span], list[Span]]:
        windows = self._facts.windows
        surely = [Span(one.answered_at, one.end_at or FOREVER) for one in windows if one.answered_at is not None]
        return _merged(surely), _merged(Span(one.at, one.ended_at or FOREVER) for one in windows)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.begin):
        if merged and span.begin <= merged[-1].end:
            merged[-1] = Span(merged[-1].begin, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged
