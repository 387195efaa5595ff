"""From claimed events to the ledger rows that they make: reads what the decisions need, decides event by event.

Whoever hears of an opening in a batch has heard of it when its end comes in the same batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from common import log, telemetry
from common.domain.groups import GroupState, grouping_of
from common.domain.incident import EventType
from common.domain.matching import (
    ANNOUNCING,
    HOLDING,
    STATUS_OF,
    Hold,
    LedgerStatus,
    Match,
    Recipient,
    Told,
    note,
    recipients,
)
from common.domain.routing import Route
from common.domain.rules import Rules
from common.store import cooldowns, holds, ledger, outbox
from common.store.engine import Connection
from common.store.ledger import NewNotification
from common.store.outbox import OutboxRow


@dataclass(slots=True)
class Destinations:
    """The ledger rows of the first `events` of a batch, the cooldowns that they begin, and what is held back.

    `begun` are incidents whose beginning a window or a parent holds back.
    """

    events: int = 0
    rows: list[NewNotification] = field(default_factory=list)
    cooldowns: set[cooldowns.Key] = field(default_factory=set)
    holds: set[Hold] = field(default_factory=set)
    begun: dict[str, Hold] = field(default_factory=dict)


def decide(
    connection: Connection, rows: Sequence[OutboxRow], rules: Mapping[str, Rules], now: datetime, *, most: int
) -> Destinations:
    """Who hears of these events, as many of them as make no more than about `most` ledger rows (at least one)."""
    known = outbox.announcements(connection, rows)
    led = [rules[row.org_id].lead(row.labels) if row.type in ANNOUNCING else {} for row in rows]
    last = cooldowns.last(connection, _cooling_keys(rows, led))
    held = holds.of(connection, {row.monitor_id for row in rows if row.monitor_id and _silenceable(row.type)}, now)
    found = Destinations()
    for row, routes in zip(rows, led, strict=True):
        if len(found.rows) >= most:
            break
        ours = rules[row.org_id]
        hold = _hold(row, ours, held, now)
        told = _told(row, routes, last, hold, now)
        heard = known.setdefault(row.incident_id, {})
        written = recipients(told, ours, heard)
        note(heard, told, written)
        begun = {(route_id, row.dedup_key) for route_id in _announcing_routes(told, written)}
        last.update(dict.fromkeys(begun, now))
        found.cooldowns |= begun
        found.rows += [
            _new(row, recipient, _due(row, recipient, routes, last, _not_before(recipient, hold, now)))
            for recipient in written
        ]
        _note_hold(found, row, hold, written)
        found.events += 1
        _report_unrouted(row, routes, written)
    found.rows = _with_dues(connection, found.rows, rules, now)
    return found


def _cooling_keys(rows: Sequence[OutboxRow], led: Sequence[Mapping[str, Route]]) -> set[cooldowns.Key]:
    return {
        (route.id, row.dedup_key)
        for row, routes in zip(rows, led, strict=True)
        if row.type is EventType.OPENED
        for route in routes.values()
        if route.cooldown
    }


def _silenceable(type_: EventType) -> bool:
    return type_ in ANNOUNCING or type_ is EventType.REMINDER


def _hold(row: OutboxRow, rules: Rules, held: Mapping[str, Hold], now: datetime) -> Hold | None:
    """What holds the event back, a silence before all else."""
    if not _silenceable(row.type):
        return None
    silence_id = rules.silence(row.labels, now)
    if silence_id is not None:
        return Hold(Match.SILENCED, silence_id)
    return held.get(row.monitor_id) if row.monitor_id else None


def _note_hold(found: Destinations, row: OutboxRow, hold: Hold | None, written: Sequence[Recipient]) -> None:
    """Keep in mind that a window or a parent, not a silence, holds the event back from anybody."""
    if hold is None or hold.until is None or not any(recipient.match is hold.reason for recipient in written):
        return
    found.holds.add(hold)
    if row.type is EventType.OPENED:
        found.begun[row.incident_id] = hold


def _told(
    row: OutboxRow,
    led: Mapping[str, Route],
    last: Mapping[cooldowns.Key, datetime],
    hold: Hold | None,
    now: datetime,
) -> Told:
    cooling = {
        route.id
        for route in led.values()
        if route.cooldown
        and (before := last.get((route.id, row.dedup_key))) is not None
        and now - before < route.cooldown
    }
    if hold is None:
        return Told(row.type, row.labels, led, cooling, None, row.route_id)
    return Told(row.type, row.labels, led, cooling, hold.by, row.route_id, hold.reason)


def _announcing_routes(told: Told, written: Sequence[Recipient]) -> set[str]:
    """Routes with a cooldown by which something is announced."""
    return {
        route.id
        for recipient in written
        if STATUS_OF[recipient.match] is LedgerStatus.PENDING
        and (route := told.led.get(recipient.channel_id)) is not None
        and route.id == recipient.route_id
        and route.cooldown
    }


def _not_before(recipient: Recipient, hold: Hold | None, now: datetime) -> datetime:
    """Now; of what is held back as a whole, when to look at it again."""
    if recipient.match not in HOLDING or hold is None or hold.until is None:
        return now
    return hold.until


def _due(
    row: OutboxRow,
    recipient: Recipient,
    led: Mapping[str, Route],
    last: Mapping[cooldowns.Key, datetime],
    not_before: datetime,
) -> datetime:
    """At once, if it may; of what a cooldown holds back the cooldown's end."""
    if recipient.match is not Match.COOLDOWN:
        return not_before
    route = led[recipient.channel_id]
    return last[route.id, row.dedup_key] + route.cooldown


def _new(row: OutboxRow, recipient: Recipient, due_at: datetime) -> NewNotification:
    return NewNotification(
        row.org_id,
        row.event_id,
        row.incident_id,
        recipient.channel_id,
        row.type,
        recipient.match,
        due_at,
        recipient.route_id,
        recipient.silence_id,
        recipient.group_key,
    )


def _report_unrouted(row: OutboxRow, led: Mapping[str, Route], written: Sequence[Recipient]) -> None:
    if row.type in ANNOUNCING and not led:
        telemetry.EVENTS_UNROUTED.inc()
    if not written:
        log.get_logger().warning("event_unrouted", incident_id=row.incident_id, event_type=row.type.value)


def _with_dues(
    connection: Connection, rows: list[NewNotification], rules: Mapping[str, Rules], now: datetime
) -> list[NewNotification]:
    """The rows of groups leave when their groups do."""
    grouped = [
        n for n, row in enumerate(rows) if row.group_key is not None and STATUS_OF[row.match] is LedgerStatus.PENDING
    ]
    if not grouped:
        return rows
    states = ledger.group_states(connection, {(rows[n].channel_id, rows[n].group_key or "") for n in grouped})
    for n in grouped:
        row = rows[n]
        route = rules[row.org_id].route(row.route_id)
        rows[n] = replace(row, due_at=join(states, row.channel_id, row.group_key or "", route, now))
    return rows


def join(
    states: dict[ledger.GroupKey, GroupState], channel_id: str, group_key: str, route: Route | None, now: datetime
) -> datetime:
    """When one more of a group leaves; the next one will leave with it."""
    state = states.get((channel_id, group_key), GroupState())
    due = state.due(grouping_of(route, group_key), now)
    states[channel_id, group_key] = replace(state, waits_until=due)
    return due
