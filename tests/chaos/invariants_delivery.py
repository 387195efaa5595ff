"""I5 to I7: what was told to whom, how often, and in which order."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from common.domain.delivery import LEASE
from tests.chaos.events import Webhook
from tests.chaos.expectations import REMINDER, Expectations, Standing, standing, told_as
from tests.chaos.facts import Facts, Row
from tests.chaos.finding import Finding
from tests.chaos.invariants_routing import forgotten, message_id, tried_messages
from tests.chaos.reasons import delays_messages, is_nobodys, repeats_messages
from tests.chaos.routing import SLOW, Part

#: An event reaches a friendly channel so long after it, or after the faults are over (RELIABILITY I5).
_ARRIVES_WITHIN_S = 30.0
#: The reason for a second copy lies at most so long before the first, and between its sending and its settlement.
_BLUR_S, _SETTLED_WITHIN_S = 2.0, 5.0
#: Of which an incident may have many.
_SEVERAL = (f"incident.{REMINDER}", "incident.acknowledged")
#: What nobody settled is sent again so long after its lease, unless something stands in the way.
_AGAIN_WITHIN_S = 10.0


def everything_arrives(facts: Facts) -> Finding:
    """I5."""
    finding = Finding()
    expected = Expectations(facts)
    accepted: dict[tuple[str, str, str, str], float] = {}
    for hook in facts.webhooks:
        for incident, type_ in hook.told if hook.heard else ():
            accepted.setdefault((hook.webhook_id, hook.path, incident, type_), hook.at)
    for due in expected.all():
        if Standing.TOLD not in due.standings:
            continue
        finding.applicable += 1
        event, channel = due.event, due.channel
        row = expected.rows.get((event["id"], channel.id))
        where = f"{event['type']} of incident {event['incident']} on {channel.path}"
        if row is None or standing(row) not in due.standings:
            is_ = "has no ledger row" if row is None else f"is {row['status']} ({row['reason']})"
            finding.break_(f"{where} {is_}", lost=True)
        elif row["status"] == "sent":
            at = accepted.get((message_id(row), channel.path, event["incident"], told_as(event["type"])))
            if at is None:
                finding.break_(f"{where} is said to be sent and never arrived", lost=True)
            # A fallback hears when its channel has given up, and that one may have to be left alone for a while first.
            elif not channel.hostile and channel.part != Part.FALLBACK and (late_s := _late_s(facts, due.since, at)):
                finding.break_(f"{where} arrived {late_s:.0f} s late")
    known = {message_id(row) for row in facts.tables["notifications"]} | tried_messages(facts).keys()
    for hook in facts.webhooks:
        if hook.webhook_id not in known and not forgotten(facts, hook):
            finding.break_(f"a webhook with id {hook.webhook_id} arrived, and the ledger does not know it")
    return finding


def _late_s(facts: Facts, happened_at: float, arrived_at: float) -> float:
    """How long it took, if that is too long: after the faults are over, or in a stretch of time without any."""
    healed_at = max(happened_at, facts.heal_at)
    calms = (
        facts.calm(healed_at, arrived_at, _ARRIVES_WITHIN_S, is_nobodys),
        facts.calm(happened_at, arrived_at, _ARRIVES_WITHIN_S, delays_messages),
    )
    return max((arrived_at - calm for calm in calms if calm is not None), default=0.0)


def duplicates(facts: Facts) -> Finding:
    """I6. `applicable` counts the duplicates."""
    finding = Finding()
    copies: dict[tuple[str, str], list[Webhook]] = defaultdict(list)
    ids: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    # Where a receiver refuses or a cap holds back, an attempt may wait its turn.
    slow = {channel.path for channel in facts.run.channels if channel.hostile or channel.part in SLOW}
    for hook in facts.webhooks:
        if not hook.heard:
            continue
        copies[hook.webhook_id, hook.path].append(hook)
        for incident, type_ in hook.told:
            if type_ not in _SEVERAL:
                ids[hook.path, incident, type_].add(hook.webhook_id)
    for (path, incident, type_), found in ids.items():
        if len(found) > 1:
            finding.break_(f"{type_} of incident {incident} arrived on {path} under {len(found)} ids")
    for (webhook_id, path), hooks in copies.items():
        for first, second in pairwise(hooks):
            finding.applicable += 1
            why = _why_twice(facts, first, second)
            said = f"{second.type} {webhook_id} arrived again on {path} after {second.at - first.at:.1f} s"
            if why and path not in slow and _too_late(facts, first, second):
                finding.break_(f"{said}, though nothing kept it back for so long ({why})")
            elif why:
                finding.explained.append(f"{said}: {why}")
            else:
                finding.break_(said)
    return finding


def _too_late(facts: Facts, first: Webhook, second: Webhook) -> bool:
    """Whether the copy came long after the claim of the one who died was over, in a time without any trouble."""
    free_at = first.at + LEASE.total_seconds()
    return facts.calm(free_at, second.at, _AGAIN_WITHIN_S, delays_messages) is not None


def _why_twice(facts: Facts, first: Webhook, second: Webhook) -> str:
    if first.ambiguous:
        return "the first answer was cut off"
    end = min(second.at, first.at + _SETTLED_WITHIN_S)
    around = facts.disturbed(first.at - _BLUR_S, end, repeats_messages)
    return around[0].what if around else ""


def last_told_is_true(facts: Facts) -> Finding:
    """I7."""
    finding = Finding()
    incidents = {row["id"]: row for row in facts.tables["incidents"]}
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    heard: set[tuple[str, str]] = set()
    for hook in facts.webhooks:
        # A receiver knows a copy by its id; whether there may be one is I6's question.
        if hook.heard and (hook.path, hook.webhook_id) not in heard:
            heard.add((hook.path, hook.webhook_id))
            for incident, type_ in hook.told:
                told[hook.path, incident].append(type_.removeprefix("incident."))
    unsure = _may_have_heard(facts)
    for (path, incident), types in told.items():
        finding.applicable += 1
        if types[0] == "resolved" and (path, incident) in unsure:
            continue
        said = _order(incidents.get(incident), types)
        if said:
            finding.break_(f"incident {incident} on {path}: {said}")
    return finding


def _may_have_heard(facts: Facts) -> set[tuple[str, str]]:
    """Where a beginning was cut off, and then held back by a silence: the end is told, for it may have arrived."""
    paths = {channel.id: channel.path for channel in facts.run.channels}
    return {
        (paths[row["channel"]], row["incident"])
        for row in facts.tables["notifications"]
        if standing(row) is Standing.SILENCED and row.get("unknown_outcome") and row["event_type"] == "opened"
    }


def _order(incident: Row | None, types: list[str]) -> str:
    """What is wrong with the row of messages about an incident, "" for nothing."""
    if incident is None:
        return "it was told of and does not exist"
    if types[0] == "resolved":
        return "its end was told before its beginning"
    if (types[-1] == "resolved") != (incident["status"] == "resolved"):
        return f"it is {incident['status']} and {types[-1]} was told last"
    first_end = types.index("resolved") if "resolved" in types else len(types)
    if any(type_ != "resolved" for type_ in types[first_end:]):
        return f"told in the order {types}"
    return ""
