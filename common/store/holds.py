"""What holds back what a monitor has to tell: a maintenance window, its own or an ancestor's, or one that is down.

Of a monitor's incident only the beginning and reminders are held back; see common.domain.matching. Who decides holds
the organization's row, as relays do, and so does whoever ends a hold: it finds what is written here, or comes before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from common.domain.health import Health
from common.domain.matching import Hold, Match
from common.store.arrays import texts, words
from common.store.engine import Connection

#: How long a parent that is down may hold something back without being looked at again: its recovery is not waited for
#: by this but seen at once (parents); this is for whoever takes the parent from its child.
LOOK_AGAIN = timedelta(minutes=5)

#: Generations above a monitor that count; the API allows no loops.
_GENERATIONS = 50

# Each monitor with those above it, and what holds it back. One look-up a step, whatever the planner believes (LIMIT,
# OFFSET 0), and by the monitor: no order and no time is asked for that another index would offer.
# - of several windows the one that ends last;
# - the nearest ancestor that is down; or one that is down no more, whether its incident is over or goes on (it flaps,
#   or is degraded), while nobody has looked at the child since, or its newest check says that it is recovering, too:
#   not for longer than that takes.
# - no ancestor, if the monitor stands above itself: all of a loop that is down would be silent for ever.
_OF = f"""
WITH RECURSIVE up AS (
  SELECT m.id AS asked, m.monitor_no AS child_no, m.org_id, m.id, m.monitor_no, m.parent_id, 0 AS above
    FROM unnest(%(monitors)s::uuid[]) AS a(id) CROSS JOIN LATERAL (
      SELECT * FROM monitors x WHERE x.id = a.id LIMIT 1) m
  UNION ALL
  SELECT u.asked, u.child_no, u.org_id, p.id, p.monitor_no, p.parent_id, u.above + 1
    FROM up u CROSS JOIN LATERAL (
      SELECT * FROM monitors x WHERE x.org_id = u.org_id AND x.id = u.parent_id LIMIT 1) p
   WHERE u.above < {_GENERATIONS} AND (u.above = 0 OR u.id <> u.asked)
), windows AS (
  SELECT DISTINCT ON (u.asked) u.asked, s.window_id, s.ends_at
    FROM up u CROSS JOIN LATERAL (
      SELECT x.window_id, x.begins_at, x.ends_at FROM maintenance_spans x
       WHERE x.monitor_no = u.monitor_no AND x.phase < 2 OFFSET 0) s
   WHERE s.begins_at <= %(now)s AND s.ends_at > %(now)s
   ORDER BY u.asked, s.ends_at DESC
), child AS (
  SELECT u.asked, v.last_slot, v.last_verdict, m.interval_s * interval '1 second' AS every,
         ((m.recovery_threshold + 1) * m.interval_s + m.timeout_s + 5) * interval '1 second' AS patience
    FROM up u CROSS JOIN LATERAL (SELECT * FROM monitors x WHERE x.id = u.asked LIMIT 1) m
    LEFT JOIN LATERAL (SELECT x.last_slot, x.last_verdict FROM votes x WHERE x.monitor_no = u.child_no
                        ORDER BY x.last_slot DESC LIMIT 1) v ON true
   WHERE u.above = 0 AND u.parent_id IS NOT NULL
), parent AS (
  SELECT a.id, coalesce(s.open_incident, i.id) AS incident_id,
         s.open_incident IS NOT NULL AND s.health = {Health.DOWN.value} AS lasting,
         CASE WHEN s.open_incident IS NULL THEN i.resolved_at
              WHEN s.health <> {Health.DOWN.value} THEN s.since END AS back_since
    FROM (SELECT DISTINCT u.org_id, u.id, u.monitor_no FROM up u WHERE u.above > 0) a
   CROSS JOIN LATERAL (
      SELECT x.health, x.since, x.open_incident FROM monitor_states x WHERE x.monitor_no = a.monitor_no LIMIT 1) s
    LEFT JOIN LATERAL (
      SELECT x.id, x.resolved_at FROM incidents x
       WHERE x.org_id = a.org_id AND x.monitor_id = a.id AND x.dedup_key = 'monitor:' || a.id
       ORDER BY x.opened_at + interval '0' DESC LIMIT 1) i ON true
), parents AS (
  SELECT DISTINCT ON (u.asked) u.asked, p.incident_id, p.lasting,
         CASE WHEN p.lasting THEN %(now)s::timestamptz + %(again)s
              ELSE least(p.back_since + c.patience,
                         greatest(%(now)s, c.last_slot + c.every) + interval '1 second') END AS until
    FROM up u JOIN parent p ON p.id = u.id JOIN child c USING (asked)
   WHERE u.above > 0 AND (
         p.lasting
      OR (p.back_since + c.patience > %(now)s
          AND NOT coalesce(c.last_slot > p.back_since AND c.last_verdict IN (2, 3), false)))
     AND NOT EXISTS (SELECT 1 FROM up x WHERE x.asked = u.asked AND x.above > 0 AND x.id = x.asked)
   ORDER BY u.asked, p.lasting DESC, u.above
)
SELECT asked::text, '{Match.PARENT_DOWN.value}', incident_id::text, until, lasting FROM parents
UNION ALL
SELECT asked::text, '{Match.MAINTENANCE.value}', window_id::text, ends_at, false FROM windows
"""

# So that the end of these parents' incidents is seen.
_WATCH = """
INSERT INTO parent_holds (incident_id, org_id)
SELECT i.id, i.org_id FROM incidents i WHERE i.id = ANY(%(incidents)s::uuid[])
 ORDER BY i.id ON CONFLICT (incident_id) DO NOTHING
"""
_NOTE = """
INSERT INTO held_notes (incident_id, org_id, reason, held_by, at)
SELECT u.incident_id, i.org_id, u.reason, u.held_by, %(now)s
  FROM unnest(%(incidents)s::uuid[], %(reasons)s::text[], %(bys)s::uuid[]) AS u(incident_id, reason, held_by)
  JOIN incidents i ON i.id = u.incident_id
 ORDER BY u.incident_id ON CONFLICT (incident_id) DO NOTHING
"""

# A window's name, or whose incident it is.
_NAMES = """
SELECT (SELECT w.name FROM maintenance_windows w WHERE w.org_id = %(org_id)s AND w.id = %(by)s), m.id::text, m.name
  FROM (SELECT) AS one
  LEFT JOIN incidents i ON i.org_id = %(org_id)s AND i.id = %(by)s
  LEFT JOIN monitors m ON m.org_id = i.org_id AND m.id = i.monitor_id
"""

# What these windows or parents hold back is decided on anew, soon: for whoever ends or changes them.
_LOOK_AGAIN = """
UPDATE notifications n SET held_until = least(n.held_until, %(now)s)
 WHERE n.silence_id = ANY(%(bys)s::uuid[]) AND n.status = 'suppressed' AND n.reason = ANY(%(reasons)s::text[])
   AND n.held_until IS NOT NULL
"""


def of(connection: Connection, monitors: Collection[str], now: datetime) -> dict[str, Hold]:
    """{monitor: what holds back what it has to tell}; a window goes before a parent."""
    if not monitors:
        return {}
    found: dict[str, Hold] = {}
    keys = {"monitors": words(monitors), "now": now, "again": LOOK_AGAIN}
    for monitor, reason, by, until, lasting in connection.exec_driver_sql(_OF, keys):
        if monitor not in found or reason == Match.MAINTENANCE.value:
            found[monitor] = Hold(Match(reason), by, until, lasting=lasting)
    return found


def described(connection: Connection, hold: Hold, *, org_id: str) -> dict[str, Any]:
    """A window or a parent that holds something back, as timelines tell of it."""
    names = connection.exec_driver_sql(_NAMES, {"org_id": org_id, "by": hold.by}).one()
    return said(hold.reason, hold.by, *names)


def said(reason: str, by: str, window: str | None, parent_id: str | None, parent: str | None) -> dict[str, Any]:
    """What a timeline says of it."""
    if reason == Match.MAINTENANCE.value:
        return {"reason": reason, "maintenance_id": by, "maintenance": window}
    return {"reason": reason, "parent_id": parent_id, "parent": parent, "parent_incident_id": by}


def note(connection: Connection, held: Mapping[str, Hold], now: datetime) -> None:
    """These incidents' beginnings are held back, {incident: by what}: their timelines are to say so."""
    if not held:
        return
    connection.exec_driver_sql(
        _NOTE,
        {
            "incidents": words(held),
            "reasons": texts(hold.reason for hold in held.values()),
            "bys": words(hold.by for hold in held.values()),
            "now": now,
        },
    )


def watch(connection: Connection, held: Collection[Hold]) -> None:
    """Have the end of parents' incidents seen that hold something back from here on; the organization is held."""
    parents = {hold.by for hold in held if hold.reason is Match.PARENT_DOWN and hold.lasting}
    if parents:
        connection.exec_driver_sql(_WATCH, {"incidents": words(sorted(parents))})


def look_again(connection: Connection, bys: Collection[str], now: datetime) -> None:
    """What these windows or parents' incidents hold back is decided on anew; the organization is held."""
    if bys:
        reasons = texts((Match.MAINTENANCE, Match.PARENT_DOWN))
        connection.exec_driver_sql(_LOOK_AGAIN, {"bys": words(bys), "reasons": reasons, "now": now})
