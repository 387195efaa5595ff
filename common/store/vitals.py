"""Whether the whole path lives, from the slot to the receiver: what PostgreSQL has to show for each part of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from common.store.engine import Connection
from common.store.notifications import CLAIMABLE

#: What is on its way longer than this is stuck.
PATIENCE = timedelta(seconds=60)

# The scheduler's lease (scheduler/lease.py).
_LED = "SELECT EXISTS (SELECT 1 FROM leases WHERE name = 'scheduler' AND expires_at > clock_timestamp())"

# Among the monitors that are checked most often and have been for a while: is there any, and has any a scheduled result
# of its last interval? now(), not clock_timestamp(): a stable time leaves older partitions out.
_CHECKED = """
WITH often AS (
  SELECT m.monitor_no, m.location_ids, (m.interval_s + 60) * interval '1 second' AS due_within FROM monitors m
   WHERE m.enabled AND m.deleted_at IS NULL AND m.type <> 'heartbeat'
     AND m.check_from < now() - (m.interval_s + 60) * interval '1 second'
   ORDER BY m.interval_s LIMIT 500
)
SELECT NOT EXISTS (SELECT 1 FROM often) OR EXISTS (
  SELECT 1 FROM often o WHERE EXISTS (
    SELECT 1 FROM results r
     WHERE r.monitor_no = o.monitor_no AND r.location = ANY(o.location_ids) AND r.scheduled_at > now() - o.due_within
       AND r.kind = '0'))
"""

_RELAYED = "SELECT NOT EXISTS (SELECT 1 FROM outbox WHERE created_at < %(before)s)"

# Nothing could have been claimed for so long (`now` is that moment) at a healthy channel that nobody is sending to.
_DELIVERED = f"""
WITH waiting AS (SELECT DISTINCT channel_id FROM notifications WHERE status = 'pending')
SELECT NOT EXISTS (
  SELECT 1 FROM waiting w JOIN channels c ON c.id = w.channel_id
   WHERE c.enabled AND c.deleted_at IS NULL AND c.failures = 0
     AND (c.cap_count IS NULL OR c.cap_started_at IS NULL OR c.cap_used < c.cap_count
          OR c.cap_started_at + c.cap_window_s * interval '1 second' <= %(now)s)
     AND NOT EXISTS (SELECT 1 FROM notifications n
                      WHERE n.channel_id = c.id AND n.status = 'pending' AND n.leased_until > %(really_now)s)
     AND EXISTS (SELECT 1 FROM notifications n WHERE n.channel_id = c.id AND {CLAIMABLE}))
"""


class Stuck(StrEnum):
    """A part of the path that does not prove alive."""

    SCHEDULER = "no scheduler leads"
    CHECKS = "no scheduled result was stored"
    RELAY = "announced events wait in the outbox"
    DELIVERY = "notifications wait at healthy channels"


def stuck(connection: Connection, now: datetime) -> frozenset[Stuck]:
    """The parts that do not prove alive; empty when all do. Without monitors that are due, no check has to."""
    before = now - PATIENCE
    alive = {
        Stuck.SCHEDULER: connection.exec_driver_sql(_LED),
        Stuck.CHECKS: connection.exec_driver_sql(_CHECKED),
        Stuck.RELAY: connection.exec_driver_sql(_RELAYED, {"before": before}),
        Stuck.DELIVERY: connection.exec_driver_sql(_DELIVERED, {"now": before, "really_now": now}),
    }
    return frozenset(part for part, answer in alive.items() if not answer.scalar_one())
