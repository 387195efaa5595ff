"""A6 to A8: cooldowns hold and end, caps are kept, acknowledgements survive and expire."""

from __future__ import annotations

from collections import defaultdict

from tests.chaos.events import ChannelSpec
from tests.chaos.expectations import BEGINNINGS, EXPIRED, Standing, standing
from tests.chaos.facts import FOREVER, Facts, Row
from tests.chaos.finding import Finding
from tests.chaos.invariants_routing import message_id
from tests.chaos.quiet import Quiet
from tests.chaos.reasons import delays_messages
from tests.chaos.responders import LASTS_S
from tests.chaos.routing import CAP, CAP_WINDOW_S, COOLDOWN_S, Part

_BLUR_S = 1.0
#: What is to happen at a time has happened so long after it, in a time without any trouble.
_LATE_S = 10.0
#: How an acknowledgement may be answered: done, or not now; or that what is resolved cannot be acknowledged.
_ANSWERS, _TOO_LATE = (None, 200, 429, 503), 400


def cooldowns_hold(facts: Facts) -> Finding:
    """A6. A problem is announced once in a cooldown; what is still wrong at its end is announced then."""
    finding = Finding()
    for channel in _channels(facts, Part.COOLED):
        by_key: dict[str, list[Row]] = defaultdict(list)
        incidents = {row["id"]: row for row in facts.tables["incidents"]}
        for row in sorted(facts.tables["notifications"], key=lambda row: row["created_at"]):
            if row["channel"] == channel.id and row["event_type"] in BEGINNINGS and row["incident"] in incidents:
                by_key[incidents[row["incident"]]["dedup_key"]].append(row)
        heard = _first_heard(facts, channel)
        for key, rows in by_key.items():
            _one_key(facts, key, rows, incidents, heard, finding)
    return finding


def _one_key(
    facts: Facts, key: str, rows: list[Row], incidents: dict[str, Row], heard: dict[str, float], finding: Finding
) -> None:
    before: Row | None = None
    quiet, held = Quiet(facts), 0
    for row in rows:
        told = standing(row) is Standing.TOLD
        if before is not None:
            free_at = quiet.decided(before["created_at"]).begin + COOLDOWN_S
            at = heard.get(message_id(row), FOREVER) if told else FOREVER
            if at < free_at:
                finding.break_(f"{key} was announced again {at - before['created_at']:.1f} s after it was decided on, "
                               f"and its cooldown is {COOLDOWN_S} s")  # fmt: skip
        if not told:
            held += 1
            if before is None:
                finding.break_(f"{key}: incident {row['incident']} was held back, and nothing was announced before")
            elif _still_wrong(facts, incidents[row["incident"]], before, heard):
                finding.break_(f"{key}: incident {row['incident']} was held back, is wrong after the cooldown's end, "
                               "and was never announced", lost=True)  # fmt: skip
        else:
            before = row
    finding.applicable += held + (len(rows) > 1)


def _still_wrong(facts: Facts, incident: Row, before: Row, heard: dict[str, float]) -> bool:
    """Whether there was time enough, after the cooldown's latest end, to see that it is not over."""
    announced_at = max(before["created_at"], heard.get(message_id(before), 0.0))
    ended = incident["resolved_at"] or facts.ended
    return facts.calm(announced_at + COOLDOWN_S, ended, _LATE_S, delays_messages) is not None


def caps_are_kept(facts: Facts) -> Finding:
    """A7. In each window, which begins with the first new message after the last one, so many leave; judged in calm."""
    finding = Finding()
    for channel in _channels(facts, Part.CAPPED):
        moments = sorted(_first_heard(facts, channel).values())
        begin, count = -FOREVER, 0
        for at in moments:
            if at >= begin + CAP_WINDOW_S - _BLUR_S:
                begin, count = at, 0
            count += 1
            # One that died, or that stood still, may have counted a message that leaves only now.
            if facts.disturbed(begin - _LATE_S * 3, at, delays_messages):
                continue
            finding.applicable += 1
            if count == CAP + 1:
                finding.break_(
                    f"{channel.path} was sent more than {CAP} messages from {begin - facts.run.at:.1f} s to "
                    f"{at - facts.run.at:.1f} s"
                )
    return finding


def acknowledgements_hold(facts: Facts) -> Finding:
    """A8."""
    finding = Finding()
    events: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in facts.tables["incident_events"]:
        events[event["incident"], event["type"]].append(event["at"])
    resolved = {row["id"]: row["resolved_at"] or FOREVER for row in facts.tables["incidents"]}
    for one in facts.acknowledged:
        at = f"{one.at - facts.run.at:.1f} s"
        too_late = one.status == _TOO_LATE and resolved.get(one.incident, FOREVER) <= one.answered_at
        if one.status not in _ANSWERS and not too_late:
            finding.break_(f"the acknowledgement of incident {one.incident} at {at} was answered {one.status}")
        if one.status != 200:
            continue
        finding.applicable += 1
        if not events[one.incident, "acknowledged"]:
            finding.break_(f"the acknowledgement of incident {one.incident} at {at} was taken and is gone", lost=True)
            continue
        expired = events[one.incident, EXPIRED]
        ended = min(resolved.get(one.incident, FOREVER), facts.ended)
        due = max(events[one.incident, "acknowledged"]) + LASTS_S
        if not expired and facts.calm(due, ended, _LATE_S, delays_messages) is not None:
            finding.break_(f"incident {one.incident}, acknowledged at {at}, is not open again", lost=True)
        if expired and min(expired) < min(events[one.incident, "acknowledged"]) + LASTS_S - _BLUR_S:
            finding.break_(f"incident {one.incident}, acknowledged at {at}, was open again too early")
    return finding


def _channels(facts: Facts, part: Part) -> list[ChannelSpec]:
    return [channel for channel in facts.run.channels if channel.part == part]


def _first_heard(facts: Facts, channel: ChannelSpec) -> dict[str, float]:
    """When each message reached the receiver first."""
    first: dict[str, float] = {}
    for hook in facts.webhooks:
        if hook.path == channel.path:
            first.setdefault(hook.webhook_id, hook.at)
    return first
