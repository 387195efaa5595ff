"""A2 to A5: the ledger holds what the routes say and no more; silences, groups, fallbacks."""

from __future__ import annotations

from collections import defaultdict

from tests.chaos.events import Webhook
from tests.chaos.expectations import BEGINNINGS, EXPIRED, REMINDER, Expectations, Standing, standing, told_as
from tests.chaos.facts import FOREVER, Facts, Row
from tests.chaos.finding import Finding
from tests.chaos.reasons import delays_messages
from tests.chaos.routing import QUIET, REMIND_EVERY_S, UPKEEP, Part

#: A message's id is this and its ledger rows' message, or its one row's own id.
_PREFIX = "msg_"
_BLUR_S = 1.0
#: A reminder or the settlement of a silence comes so late at the most, in a time without any trouble.
_LATE_S = 30.0


def message_id(row: Row) -> str:
    """The webhook-id under which a ledger row leaves."""
    return f"{_PREFIX}{row.get('message') or row['id']}"


def tried_messages(facts: Facts) -> dict[str, list[Row]]:
    """{webhook-id: ledger rows} of all attempts: a silence may have held back later what was tried with that id."""
    rows = {row["id"]: row for row in facts.tables["notifications"]}
    tried: dict[str, dict[int, Row]] = defaultdict(dict)
    for attempt in facts.tables.get("delivery_attempts", []):
        row = rows.get(attempt["notification"])
        if row is not None and attempt.get("message"):
            tried[f"{_PREFIX}{attempt['message']}"][row["no"]] = row
    return {webhook_id: [found[no] for no in sorted(found)] for webhook_id, found in tried.items()}


def forgotten(facts: Facts, hook: Webhook) -> bool:
    """Whether its sender was lost before it could write that it had sent it, and a silence held it back after that."""
    if not facts.disturbed(hook.at - _LATE_S, hook.at + _LATE_S, delays_messages):
        return False
    expected = Expectations(facts)
    incidents = {row["id"]: row for row in facts.tables["incidents"]}
    teams = {expected.team(incidents[id_]) for id_, _ in hook.told if id_ in incidents}
    maintained = any(hook.at <= (window.ended_at or FOREVER) for window in facts.windows)
    return (QUIET in teams and any(hook.at <= silence.ends_at for silence in facts.silences)) or (
        UPKEEP in teams and maintained
    )


def routes_are_kept(facts: Facts) -> Finding:
    """A2. What has to be told is I5's; here is all that must not be, and the rows beyond."""
    finding = Finding()
    expected = Expectations(facts)
    known = set()
    for due in expected.all():
        known.add((due.event["id"], due.channel.id))
        row = expected.rows.get((due.event["id"], due.channel.id))
        finding.applicable += 1
        if Standing.TOLD in due.standings or (row is not None and standing(row) in due.standings):
            continue
        what = f"{due.event['type']} of incident {due.event['incident']} on {due.channel.path}"
        is_ = "has no ledger row" if row is None else f"is {row['status']} ({row['reason']})"
        finding.break_(f"{what} {is_}, and should be {' or '.join(due.standings)}")
    paths = {channel.id: channel.path for channel in facts.run.channels}
    for (event, channel), row in expected.rows.items():
        if (event, channel) not in known:
            finding.break_(f"ledger row {row['id']} tells {paths.get(channel, channel)} of an event {event} that no "
                           "route leads there")  # fmt: skip
    _reminders(facts, expected, finding)
    return finding


def _reminders(facts: Facts, expected: Expectations, finding: Finding) -> None:
    """What stays open long after it was told is brought to mind."""
    grouped = {channel.id for channel in facts.run.channels if channel.part == Part.GROUPED}
    telling = (*BEGINNINGS, REMINDER, EXPIRED)
    last: dict[str, float] = {}
    for row in facts.tables["notifications"]:
        if row["channel"] in grouped and row["status"] == "sent" and row["event_type"] in telling:
            last[row["incident"]] = max(row["sent_at"], last.get(row["incident"], 0.0))
    for incident in facts.tables["incidents"]:
        if incident["id"] not in last or expected.team(incident) in (QUIET, UPKEEP):
            continue
        due, ended = last[incident["id"]] + REMIND_EVERY_S, incident["resolved_at"] or facts.ended
        if facts.calm(due, ended, _LATE_S, delays_messages) is not None:
            finding.break_(f"incident {incident['id']} is open since {incident['opened_at'] - facts.run.at:.1f} s and "
                           "was not brought to mind", lost=True)  # fmt: skip


def silences_are_kept(facts: Facts) -> Finding:
    """A3. That what is still wrong is announced at the end, and in time, is I5's."""
    finding = Finding()
    expected = Expectations(facts)
    first: dict[str, Webhook] = {}
    for hook in facts.webhooks:
        for incident, _ in hook.told:
            first.setdefault(incident, hook)
    for incident in facts.tables["incidents"]:
        if expected.team(incident) != QUIET:
            continue
        fate = expected.fate(incident)
        finding.applicable += not fate.told or fate.until is not None
        hook = first.get(incident["id"])
        if hook is None:
            continue
        at = hook.at - facts.run.at
        if not fate.told:
            finding.break_(
                f"incident {incident['id']} began and ended in a silence, and {hook.path} was told at {at:.1f} s"
            )
        elif fate.until is not None and hook.at < fate.until - _BLUR_S:
            ends = fate.until - facts.run.at
            finding.break_(
                f"{hook.path} was told of incident {incident['id']} at {at:.1f} s, silenced until {ends:.1f} s"
            )
    stored = {row["id"]: row for row in facts.tables.get("silences", [])}
    for silence in facts.silences:
        if silence.id not in stored:
            finding.break_(f"silence {silence.id} was acknowledged and is gone", lost=True)
    for row in stored.values():
        late = facts.calm(row["ends_at"], row["settled_at"] or facts.ended, _LATE_S, delays_messages)
        if late is not None:
            finding.break_(
                f"silence {row['id']} was over at {row['ends_at'] - facts.run.at:.1f} s and not settled then"
            )
    return finding


def groups_are_whole(facts: Facts) -> Finding:
    """A4."""
    finding = Finding()
    expected = Expectations(facts)
    teams = {incident["id"]: expected.team(incident) for incident in facts.tables["incidents"]}
    parts = (Part.GROUPED, Part.CAPPED)
    grouped = {channel.path: channel.id for channel in facts.run.channels if channel.part in parts}
    capped = {channel.path for channel in facts.run.channels if channel.part == Part.CAPPED}
    entries: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in sorted(facts.tables["notifications"], key=lambda row: row.get("no", 0)):
        if row["channel"] in grouped.values():
            entries[message_id(row)].append((row["incident"], told_as(row["event_type"])))
    for webhook_id, tried in tried_messages(facts).items():
        if webhook_id not in entries and tried[0]["channel"] in grouped.values():
            entries[webhook_id] = [(row["incident"], told_as(row["event_type"])) for row in tried]
    bodies: dict[str, set[str]] = defaultdict(set)
    for hook in facts.webhooks:
        bodies[hook.webhook_id].add(hook.digest)
        if hook.path not in grouped:
            if hook.entries and len(hook.told) > 1:
                finding.break_(f"{hook.path} was told of {len(hook.told)} events at once by {hook.webhook_id}")
            continue
        if hook.webhook_id not in entries and forgotten(facts, hook):
            continue
        finding.applicable += 1
        if list(hook.told) != entries[hook.webhook_id]:
            finding.break_(f"{hook.webhook_id} told {list(hook.told)}, and the ledger says {entries[hook.webhook_id]}")
        # What a cap held back leaves together, whatever its group.
        if hook.path not in capped and len({teams.get(incident) for incident, _ in hook.told}) > 1:
            finding.break_(f"{hook.webhook_id} tells of more than one group")
        if (hook.type == "incident.group") != (len(hook.told) > 1):
            finding.break_(f"{hook.webhook_id} has type {hook.type} and tells of {len(hook.told)} events")
    for webhook_id, found in bodies.items():
        if len(found) > 1:
            finding.break_(f"{webhook_id} came with {len(found)} different bodies")
    together = sum(len(rows) > 1 for rows in entries.values())
    if together:
        finding.explained.append(f"{together} messages told of several events, the longest of "
                                 f"{max(map(len, entries.values()))}")  # fmt: skip
    return finding


def fallbacks_hear(facts: Facts) -> Finding:
    """A5."""
    finding = Finding()
    parts = {channel.id: channel.part for channel in facts.run.channels}
    paths = {channel.path: channel.part for channel in facts.run.channels}
    dead = {
        row["incident"]
        for row in facts.tables["notifications"]
        if parts.get(row["channel"]) == Part.REFUSING and row["status"] == "dead" and row["event_type"] in BEGINNINGS
    }
    held_back = _silenced_at_the_fallback(facts)
    refused_at: dict[str, float] = {}
    heard_at: dict[str, float] = {}
    for hook in facts.webhooks:
        for incident, _ in hook.told:
            if paths[hook.path] == Part.REFUSING:
                refused_at.setdefault(incident, hook.at)
            elif paths[hook.path] == Part.FALLBACK and hook.heard:
                heard_at.setdefault(incident, hook.at)
    for incident in dead | heard_at.keys():
        finding.applicable += 1
        if incident in held_back and incident not in heard_at:
            continue
        if incident not in heard_at:
            finding.break_(f"incident {incident} died at its channel, and the fallback never heard of it", lost=True)
        elif incident not in dead:
            finding.break_(f"the fallback heard of incident {incident}, which did not die anywhere")
        elif heard_at[incident] < refused_at.get(incident, FOREVER):
            finding.break_(f"the fallback heard of incident {incident} before it was refused")
    return finding


def _silenced_at_the_fallback(facts: Facts) -> set[str]:
    """Incidents of silenced teams whose row for the fallback was held back by a silence in force meanwhile."""
    expected = Expectations(facts)
    fallbacks = {channel.id for channel in facts.run.channels if channel.part == Part.FALLBACK}
    silences = {row["id"]: row for row in facts.tables.get("silences", [])}
    incidents = {row["id"]: row for row in facts.tables["incidents"] if expected.team(row) == QUIET}
    held = set()
    for row in facts.tables["notifications"]:
        if row["channel"] not in fallbacks or row["event_type"] not in BEGINNINGS or row["status"] != "suppressed":
            continue
        silence, incident = silences.get(row["silence"]), incidents.get(row["incident"])
        if silence is None or incident is None:
            continue
        # Until its end, or if that was long ago when it died, at the moment at which the fallback's turn came.
        until = max(incident["resolved_at"] or facts.ended, row["created_at"])
        if silence["begins_at"] <= until and silence["ends_at"] >= row["created_at"]:
            held.add(row["incident"])
    return held
