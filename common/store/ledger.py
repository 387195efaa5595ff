"""New rows of the ledger of notifications, and where their groups stand.

Whoever writes holds the organization's row, so the rows of an incident are written in the order of its events.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from uuid_utils import uuid7

from common.domain.groups import GroupState
from common.domain.incident import EventType
from common.domain.matching import ANNOUNCING, STATUS_OF, LedgerStatus, Match
from common.store.arrays import moments, texts, words
from common.store.engine import Connection

GroupKey = tuple[str, str]
"""(channel, group_key)"""

# One row per (event, channel), in the order given: `no` is the order of delivery within an incident. Pending rows have
# no reason yet.
_WRITE = """
INSERT INTO notifications (id, org_id, event_id, incident_id, channel_id, event_type, status, reason, route_id,
                           silence_id, group_key, next_attempt_at, held_until)
SELECT u.id, u.org_id, u.event_id, u.incident_id, u.channel_id, u.event_type,
       CASE WHEN u.reason IS NULL THEN 'pending' ELSE 'suppressed' END, u.reason, u.route_id, u.silence_id,
       u.group_key, u.due_at,
       CASE WHEN u.reason IN ('cooldown', 'maintenance', 'parent_down') AND u.event_type <> 'reminder' THEN u.due_at END
  FROM unnest(%(ids)s::uuid[], %(orgs)s::uuid[], %(events)s::uuid[], %(incidents)s::uuid[], %(channels)s::uuid[],
              %(types)s::text[], %(reasons)s::text[], %(routes)s::uuid[], %(silences)s::uuid[], %(groups)s::text[],
              %(dues)s::timestamptz[])
       WITH ORDINALITY AS u(id, org_id, event_id, incident_id, channel_id, event_type, reason, route_id, silence_id,
                            group_key, due_at, n)
 ORDER BY u.n
    ON CONFLICT (event_id, channel_id) DO NOTHING
"""

# Of each group its newest pending row (what was never tried waits, the rest is under way) and its last message.
_GROUPS = """
SELECT u.channel_id::text, u.group_key, waiting.next_attempt_at, waiting.attempts, told.sent_at, waiting.id::text
  FROM unnest(%(channels)s::uuid[], %(groups)s::text[]) AS u(channel_id, group_key)
  LEFT JOIN LATERAL (
    SELECT n.id, n.next_attempt_at, n.attempts FROM notifications n
     WHERE n.channel_id = u.channel_id AND n.group_key = u.group_key AND n.status = 'pending'
     ORDER BY n.no DESC LIMIT 1
  ) waiting ON true
  LEFT JOIN LATERAL (
    SELECT n.sent_at FROM notifications n
     WHERE n.channel_id = u.channel_id AND n.group_key = u.group_key AND n.sent_at IS NOT NULL
     ORDER BY n.sent_at DESC LIMIT 1
  ) told ON true
 WHERE waiting.next_attempt_at IS NOT NULL OR told.sent_at IS NOT NULL
"""

# Of what waits, what nobody is claiming; nobody does until our transaction ends, so what is written now leaves with it.
_PIN = """
SELECT id::text FROM notifications WHERE id = ANY(%(ids)s::uuid[]) AND status || '' = 'pending' AND attempts = 0
   FOR SHARE SKIP LOCKED
"""


@dataclass(frozen=True, slots=True)
class NewNotification:
    """A ledger row to write; `match` is why it is pending or suppressed.

    `due_at` is when it may leave, or when to look again at what holds it back: a cooldown, a window, a parent.
    """

    org_id: str
    event_id: str
    incident_id: str
    channel_id: str
    event_type: EventType
    match: Match
    due_at: datetime
    route_id: str | None = None
    silence_id: str | None = None
    group_key: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """Ids of new rows: what may leave now, and what should have announced something at a channel that is off."""

    due: list[str]
    unheard: list[str]


def write(connection: Connection, rows: Sequence[NewNotification], now: datetime) -> Written:
    """Write ledger rows in delivery order.

    A row that exists already stays as it is; the id that it would have had is answered all the same.
    """
    if not rows:
        return Written([], [])
    pending = [STATUS_OF[row.match] is LedgerStatus.PENDING for row in rows]
    ids = [str(uuid7()) for _ in rows]
    connection.exec_driver_sql(
        _WRITE,
        {
            "ids": words(ids),
            "orgs": words(row.org_id for row in rows),
            "events": words(row.event_id for row in rows),
            "incidents": words(row.incident_id for row in rows),
            "channels": words(row.channel_id for row in rows),
            "types": words(row.event_type for row in rows),
            "reasons": words(None if is_pending else row.match for row, is_pending in zip(rows, pending, strict=True)),
            "routes": words(row.route_id for row in rows),
            "silences": words(row.silence_id for row in rows),
            "groups": words(row.group_key for row in rows),
            "dues": moments(row.due_at for row in rows),
        },
    )
    off = Match.CHANNEL_DISABLED
    return Written(
        [id_ for id_, row, is_pending in zip(ids, rows, pending, strict=True) if is_pending and row.due_at <= now],
        [id_ for id_, row in zip(ids, rows, strict=True) if row.match is off and row.event_type in ANNOUNCING],
    )


def group_states(connection: Connection, keys: Collection[GroupKey]) -> dict[GroupKey, GroupState]:
    """How these groups stand at their channels; without those of which nothing is known.

    What waits in them is not taken away before the transaction ends.
    """
    if not keys:
        return {}
    parameters = {"channels": words(channel for channel, _ in keys), "groups": texts(group for _, group in keys)}
    rows = connection.exec_driver_sql(_GROUPS, parameters).all()
    untried = [row[5] for row in rows if row[3] == 0]
    pinned = {row[0] for row in connection.exec_driver_sql(_PIN, {"ids": words(untried)})} if untried else set()
    return {
        (channel, group): GroupState(
            waits_until=next_at if id_ in pinned else None,
            under_way=id_ is not None and id_ not in pinned,
            told_at=told_at,
        )
        for channel, group, next_at, _, told_at, id_ in rows
    }
