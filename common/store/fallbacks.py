"""Give to a channel's fallback what the channel could not be told.

An announcement that died or was suppressed unheard goes, as a ledger row of its own, to the first usable channel of the
fallbacks' chain. From there on that channel hears of the incident like any other that heard it begin: what is written
already is given to it here, in order, and the relay sees to what comes.

What waits at a channel that has been failing for a while is given too, once, and still arrives at the channel itself
when that is well again.

The caller's transaction has just ended these announcements, or marked them, so it holds their rows; a relay that
decides who hears of the incident's end waits for them (outbox, _PIN_ANNOUNCEMENTS) and finds what is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from uuid_utils import uuid7

from common.domain.delivery import FALLBACK_AFTER
from common.domain.matching import ANNOUNCING
from common.store.engine import Connection

#: Why a fallback has a notification, until an attempt says more.
REASON = "fallback"

#: Fallbacks of fallbacks that are followed; a loop, which the API refuses, ends here.
_LONGEST_CHAIN = 10

# The channels of these notifications and the first usable one that their fallbacks lead to.
_TARGETS = f"""
WITH RECURSIVE chain AS (
  SELECT c.id AS origin, c.fallback_id AS id, 1 AS place
    FROM (SELECT DISTINCT channel_id FROM notifications WHERE id = ANY(%(ids)s::uuid[])) n
    JOIN channels c ON c.id = n.channel_id WHERE c.fallback_id IS NOT NULL
  UNION ALL
  SELECT f.origin, c.fallback_id, f.place + 1 FROM chain f JOIN channels c ON c.id = f.id
   WHERE NOT (c.enabled AND c.deleted_at IS NULL) AND c.fallback_id IS NOT NULL AND f.place < {_LONGEST_CHAIN}
)
SELECT DISTINCT ON (f.origin) f.origin::text, f.id::text FROM chain f JOIN channels c ON c.id = f.id
 WHERE c.enabled AND c.deleted_at IS NULL AND f.id <> f.origin
 ORDER BY f.origin, f.place
"""

# What waits to announce an open incident at channels that have been failing since then and have a fallback.
_WAITING = """
SELECT n.id::text, n.channel_id::text FROM channels c CROSS JOIN LATERAL (
  SELECT n.id, n.channel_id FROM notifications n JOIN incidents i ON i.org_id = n.org_id AND i.id = n.incident_id
   WHERE n.channel_id = c.id AND n.status = 'pending' AND n.handed_over_at IS NULL
     AND n.event_type = ANY(%(announcing)s) AND i.status <> 'resolved'
   ORDER BY n.no LIMIT %(limit)s FOR NO KEY UPDATE OF n SKIP LOCKED
) n
 WHERE c.failures > 0 AND c.failing_since <= %(since)s AND c.fallback_id IS NOT NULL
   AND c.enabled AND c.deleted_at IS NULL
 LIMIT %(limit)s
"""
_MARK = "UPDATE notifications SET handed_over_at = %(now)s WHERE id = ANY(%(ids)s::uuid[])"

# The announcements among them, in the order of their incidents' timelines.
_ANNOUNCEMENTS = """
SELECT n.id::text, u.target::text, n.event_id::text
  FROM unnest(%(origins)s::uuid[], %(targets)s::uuid[]) AS u(origin, target)
  JOIN notifications n ON n.channel_id = u.origin JOIN incident_events e ON e.id = n.event_id
 WHERE n.id = ANY(%(ids)s::uuid[]) AND n.event_type = ANY(%(announcing)s)
 ORDER BY n.incident_id, e.version
"""

# What is written of the same incidents for the same channels after them, where the fallback has heard now. What was
# held back for another reason (a silence, a cooldown) stays so.
_REST = """
WITH told AS (
  SELECT n.org_id, n.incident_id, n.channel_id, u.target, min(e.version) AS version
    FROM unnest(%(origins)s::uuid[], %(targets)s::uuid[]) AS u(origin, target)
    JOIN notifications n ON n.channel_id = u.origin JOIN incident_events e ON e.id = n.event_id
   WHERE n.id = ANY(%(ids)s::uuid[]) AND n.event_type = ANY(%(announcing)s)
   GROUP BY n.org_id, n.incident_id, n.channel_id, u.target
)
SELECT n.id::text, t.target::text, n.event_id::text FROM told t
  JOIN notifications n ON n.org_id = t.org_id AND n.incident_id = t.incident_id AND n.channel_id = t.channel_id
  JOIN incident_events e ON e.id = n.event_id
 WHERE e.version > t.version AND NOT (n.id = ANY(%(ids)s::uuid[]) AND n.event_type = ANY(%(announcing)s))
   AND (n.status <> 'suppressed' OR n.reason IN ('not_announced', 'channel_disabled'))
   AND EXISTS (SELECT 1 FROM notifications a
                WHERE a.org_id = n.org_id AND a.incident_id = n.incident_id AND a.channel_id = t.target
                  AND a.event_type = ANY(%(announcing)s) AND (a.status IN ('pending', 'sent') OR a.unknown_outcome))
 ORDER BY n.incident_id, e.version
"""

# Write them in this order. What left together arrives together: a message's notifications stay a group. A row that the
# fallback has stands, unless it says that nobody there had heard or that the channel was off; then it comes last now.
_GIVE = """
INSERT INTO notifications AS f (id, org_id, event_id, incident_id, channel_id, event_type, status, reason,
                                next_attempt_at, route_id, group_key)
SELECT u.id, n.org_id, n.event_id, n.incident_id, u.target, n.event_type, 'pending', %(reason)s, %(now)s, n.route_id,
       COALESCE(n.group_key, 'message:' || n.message_id)
  FROM unnest(%(new_ids)s::uuid[], %(sources)s::uuid[], %(targets)s::uuid[])
       WITH ORDINALITY AS u(id, source, target, place)
  JOIN notifications n ON n.id = u.source
 ORDER BY u.place
    ON CONFLICT (event_id, channel_id) DO UPDATE
   SET status = 'pending', reason = excluded.reason, next_attempt_at = excluded.next_attempt_at, no = DEFAULT,
       route_id = excluded.route_id, group_key = excluded.group_key, message_id = NULL, first_attempt_at = NULL
 WHERE f.status = 'suppressed' AND f.reason IN ('not_announced', 'channel_disabled')
RETURNING f.id::text
"""


def hand_over(connection: Connection, ids: Sequence[str], now: datetime) -> list[str]:
    """Give what these notifications should have told, dead or suppressed now, to fallbacks; the ids of the new rows.

    Only announcements are given: a channel that never heard a problem begin is not told of its end.
    """
    if not ids:
        return []
    targets = _targets(connection, ids)
    if not targets:
        return []
    parameters = {
        "ids": list(ids),
        "origins": list(targets),
        "targets": list(targets.values()),
        "announcing": [event.value for event in ANNOUNCING],
    }
    given = _give(connection, connection.exec_driver_sql(_ANNOUNCEMENTS, parameters).all(), now)
    return given + _give(connection, connection.exec_driver_sql(_REST, parameters).all(), now)


def hand_over_waiting(connection: Connection, now: datetime, *, limit: int) -> tuple[list[str], bool]:
    """Give what waits at channels that have been failing for FALLBACK_AFTER, up to `limit` announcements.

    The ids of the new rows, and whether there may be more.
    """
    parameters = {"since": now - FALLBACK_AFTER, "limit": limit, "announcing": [event.value for event in ANNOUNCING]}
    rows = connection.exec_driver_sql(_WAITING, parameters).all()
    targets = _targets(connection, [row[0] for row in rows]) if rows else {}
    # What has no usable channel to go to now may have one later.
    ids = [id_ for id_, channel_id in rows if channel_id in targets]
    if ids:
        connection.exec_driver_sql(_MARK, {"ids": ids, "now": now})
    return hand_over(connection, ids, now), bool(ids) and len(rows) == limit


def _targets(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """{channel: the one that its fallbacks lead to} of these notifications."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(_TARGETS, {"ids": list(ids)})}


def _give(connection: Connection, rows: Sequence[Any], now: datetime) -> list[str]:
    """`rows` are (notification, channel that gets the same, event)."""
    # Once, of an event that died at two channels with one fallback.
    chosen = {(event, target): source for source, target, event in rows}
    if not chosen:
        return []
    given = connection.exec_driver_sql(
        _GIVE,
        {
            "new_ids": [str(uuid7()) for _ in chosen],
            "sources": list(chosen.values()),
            "targets": [target for _, target in chosen],
            "reason": REASON,
            "now": now,
        },
    )
    return [row[0] for row in given]
