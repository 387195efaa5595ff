"""Announce late what was held back and is still wrong: now, when another silence is over, or at a fallback."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from common.domain.rules import Rules
from common.store import cooldowns, fallbacks, held_back, ledger
from common.store.engine import Connection
from common.store.held_back import HeldBack
from notifier.destinations import join


def announce(
    connection: Connection, org_id: str, rows: Sequence[HeldBack], rules: Rules, now: datetime
) -> dict[str, datetime]:
    """Decide on each, in the organization's name, which is held; {notification that leaves: when}."""
    off = [row.id for row in rows if not rules.usable(row.channel_id)]
    usable = [row for row in rows if rules.usable(row.channel_id)]
    silences = {row.id: id_ for row in usable if (id_ := rules.silence(row.incident.labels, now)) is not None}
    leaving = [row for row in usable if row.id not in silences]
    due = _due(connection, leaving, rules, now)
    held_back.give_up(connection, off)
    held_back.hand_on(connection, silences)
    held_back.release(connection, org_id, leaving, due)
    cooldowns.note(connection, _begun(leaving, rules), now)
    given = fallbacks.hand_over(connection, off, now)
    return due | dict.fromkeys(given, now)


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
