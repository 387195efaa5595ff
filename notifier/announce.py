"""Announce late what was held back and is still wrong: now, when what else holds it back is over, or at a fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from common.domain.incident import EventType
from common.domain.matching import Hold, Match
from common.domain.rules import Rules
from common.store import cooldowns, fallbacks, held_back, holds, ledger
from common.store.engine import Connection
from common.store.held_back import HeldBack
from notifier.destinations import join


def announce(
    connection: Connection, org_id: str, rows: Sequence[HeldBack], rules: Rules, now: datetime
) -> dict[str, datetime]:
    """Decide on each, in the organization's name, which is held; {notification that leaves: when}."""
    off = [row.id for row in rows if not rules.usable(row.channel_id)]
    usable = [row for row in rows if rules.usable(row.channel_id)]
    held = _held(connection, usable, rules, now)
    free = [row for row in usable if row.id not in held]
    cooling = _cooling(connection, org_id, free, rules, now)
    leaving = [row for row in free if row.id not in cooling]
    due = _due(connection, leaving, rules, now)
    held_back.give_up(connection, off)
    held_back.hand_on(connection, held)
    holds.watch(connection, set(held.values()))
    held_back.cool_down(connection, cooling)
    held_back.release(connection, org_id, leaving, due)
    cooldowns.note(connection, _begun(leaving, rules), now)
    given = fallbacks.hand_over(connection, off, now)
    return due | dict.fromkeys(given, now)


def _held(connection: Connection, rows: Sequence[HeldBack], rules: Rules, now: datetime) -> dict[str, Hold]:
    """What goes on being held back as a whole, and by what: a silence before all else."""
    monitors = {row.incident.monitor_id for row in rows if row.incident.monitor_id is not None}
    covered = holds.of(connection, monitors, now)
    held: dict[str, Hold] = {}
    for row in rows:
        silence_id = rules.silence(row.incident.labels, now)
        if silence_id is not None:
            held[row.id] = Hold(Match.SILENCED, silence_id)
        elif row.incident.monitor_id in covered:
            held[row.id] = covered[row.incident.monitor_id]
    return held


def _cooling(
    connection: Connection, org_id: str, rows: Sequence[HeldBack], rules: Rules, now: datetime
) -> Mapping[str, datetime]:
    """Openings whose routes announced the same problem a short time ago, as another incident; until when they wait."""
    routes = {
        row.id: route
        for row in rows
        if row.event_type == EventType.OPENED and (route := rules.route(row.route_id)) is not None and route.cooldown
    }
    asked = [row for row in rows if row.id in routes]
    last = cooldowns.last(connection, {(routes[row.id].id, row.incident.dedup_key) for row in asked})
    if not last:
        return {}
    # The cooldown that an incident has begun itself does not hold back the rest of it.
    told = held_back.told_by(connection, org_id, {row.incident_id for row in asked})
    untils = {
        row.id: last[key] + routes[row.id].cooldown
        for row in asked
        if (key := (routes[row.id].id, row.incident.dedup_key)) in last and (row.incident_id, key[0]) not in told
    }
    return {id_: until for id_, until in untils.items() if until > now}


def _due(connection: Connection, rows: Sequence[HeldBack], rules: Rules, now: datetime) -> dict[str, datetime]:
    grouped = {(row.channel_id, row.group_key) for row in rows if row.group_key is not None}
    states = ledger.group_states(connection, grouped)
    return {
        row.id: now
        if row.group_key is None
        else join(states, row.channel_id, row.group_key, rules.route(row.route_id), now)
        for row in rows
    }


def _begun(rows: Sequence[HeldBack], rules: Rules) -> set[cooldowns.Key]:
    """The cooldowns that begin with these."""
    return {
        (route.id, row.incident.dedup_key)
        for row in rows
        if (route := rules.route(row.route_id)) is not None and route.cooldown
    }
