"""What follows from made results: their failures' details, outages and incidents, states and votes.

All as the product would have written it, timelines numbered; only nobody is told: nothing goes into the outbox.
"""

from __future__ import annotations

from typing import Any

from common.domain.checks import Reason, Verdict
from common.domain.health import Health
from common.store.engine import Connection
from common.store.seeding_watched import AT, TROUBLE, TROUBLES

# What the failures among them say.
_DETAILS = f"""
INSERT INTO result_details (scheduled_at, monitor_no, location, message, failed_assertion)
SELECT {AT.format(age="a.age")}, s.monitor_no, %(location)s, k.message, k.failed_assertion
  FROM seeded s
 CROSS JOIN LATERAL (
   SELECT age FROM generate_series(0, 2) age WHERE s.fate IN (1, 2)
   UNION ALL SELECT 4 * q + 4 + o FROM generate_series(0, s.outages - 1) q, generate_series(1, 2) o) a
 CROSS JOIN LATERAL (SELECT {TROUBLE} AS no) t
 CROSS JOIN LATERAL ({TROUBLES}) k
"""

# Past outages, and those that go on (q = -1). Times are those of the deciding results; some were acknowledged.
_OUTAGES = f"""
CREATE TEMP TABLE outages ON COMMIT DROP AS
SELECT md5(format('incident %%s %%s %%s', %(seed)s::text, s.id, o.q))::uuid AS id, s.id AS monitor_id, m.name,
       m.labels, k.reason, k.message, k.failed_assertion,
       CASE WHEN s.fate = 1 AND o.q < 0 THEN 'warning' ELSE m.severity END AS severity,
       CASE WHEN s.fate = 1 AND o.q < 0 THEN 'degraded' ELSE 'down' END AS health,
       {AT.format(age="o.opened_age")} AS opened_at,
       CASE WHEN h.no & 3 = 0 THEN
         {AT.format(age="o.opened_age")} + least(40, %(interval_s)s / 2.0) * interval '1 second' END AS acknowledged_at,
       CASE WHEN o.q >= 0 THEN {AT.format(age="(4 * o.q + 4)")} END AS resolved_at,
       format('%%s. %%s, ticket %%s.', (%(symptoms)s::text[])[1 + mod(h.no, cardinality(%(symptoms)s::text[]))],
              (%(findings)s::text[])[1 + mod(h.no >> 8, cardinality(%(findings)s::text[]))],
              100000 + mod(h.no >> 16, 900000)) AS description
  FROM seeded s JOIN monitors m ON m.org_id = %(org)s AND m.id = s.id
 CROSS JOIN LATERAL (
   SELECT -1 AS q, 1 AS opened_age WHERE s.fate IN (1, 2)
   UNION ALL SELECT q, 4 * q + 5 FROM generate_series(0, s.outages - 1) q) o
 CROSS JOIN LATERAL (SELECT hashint8extended(s.n * 1024::bigint + o.q, %(seed)s) & x'7fffffffffff'::bigint AS no) h
 CROSS JOIN LATERAL (SELECT o.opened_age AS age) a
 CROSS JOIN LATERAL (SELECT {TROUBLE} AS no) t
 CROSS JOIN LATERAL ({TROUBLES}) k
"""
_REASONS = "(ARRAY[{names}])[array_position(ARRAY[{numbers}], o.reason)]".format(
    names=", ".join(f"'{reason.label}'" for reason in Reason), numbers=", ".join(str(int(reason)) for reason in Reason)
)
_INCIDENTS = f"""
INSERT INTO incidents (id, org_id, monitor_id, source, dedup_key, name, title, description, severity, priority, status,
                       version, cause, labels, opened_at, acknowledged_at, resolved_at)
SELECT o.id, %(org)s, o.monitor_id, 'monitor', 'monitor:' || o.monitor_id, o.name, o.name || ' is ' || o.health,
       o.description, o.severity, CASE o.severity WHEN 'critical' THEN 'P1' WHEN 'error' THEN 'P2' ELSE 'P3' END,
       CASE WHEN o.resolved_at IS NOT NULL THEN 'resolved' WHEN o.acknowledged_at IS NOT NULL THEN 'acknowledged'
            ELSE 'open' END,
       1 + (o.acknowledged_at IS NOT NULL)::int + (o.resolved_at IS NOT NULL)::int,
       jsonb_strip_nulls(jsonb_build_object('reason', {_REASONS}, 'message', o.message,
         'expected', o.failed_assertion ->> 'expected', 'seen', o.failed_assertion ->> 'seen')),
       o.labels, o.opened_at, o.acknowledged_at, o.resolved_at
  FROM outages o ORDER BY o.opened_at, o.id
"""

# Their timelines, numbered as the relay would have numbered them.
_SEQ = """
UPDATE organizations SET last_seq = last_seq + (
  SELECT count(*) + count(acknowledged_at) + count(resolved_at) FROM outages)
 WHERE id = %(org)s
RETURNING last_seq - (SELECT count(*) + count(acknowledged_at) + count(resolved_at) FROM outages)
"""
_EVENTS = """
INSERT INTO incident_events (id, org_id, incident_id, seq, version, type, actor, data, at)
SELECT md5(format('event %%s %%s', o.id, e.type))::uuid, %(org)s, o.id,
       %(seq)s + row_number() OVER (ORDER BY e.at, o.id, e.version), e.version, e.type, 'tocsin', e.data, e.at
  FROM outages o CROSS JOIN LATERAL (VALUES
         (1, 'opened', '{}'::jsonb, o.opened_at),
         (2, 'acknowledged', '{}', o.acknowledged_at),
         (2 + (o.acknowledged_at IS NOT NULL)::int, 'resolved', '{"reason": "recovered"}', o.resolved_at)
       ) AS e(version, type, data, at)
 WHERE e.at IS NOT NULL
"""

# What the results add up to (common.domain.health). After an outage of the past, five are well.
_STATES = f"""
INSERT INTO monitor_states (monitor_no, org_id, resting, health, incident_worst, since, open_incident)
SELECT s.monitor_no, %(org)s, s.fate = 3, h.health, CASE WHEN i.id IS NOT NULL THEN h.health END,
       CASE WHEN s.fate IN (1, 2) THEN {AT.format(age="1")} WHEN s.fate = 3 THEN {AT.format(age="0")}
            WHEN s.outages > 0 THEN {AT.format(age="4")} ELSE {AT.format(age="(s.results - 1)")} END, i.id
  FROM seeded s
 CROSS JOIN LATERAL (
   SELECT (ARRAY[{int(Health.UP)}, {int(Health.DEGRADED)}, {int(Health.DOWN)}, {int(Health.PENDING)}])[s.fate + 1]
            AS health) h
  LEFT JOIN outages i ON i.monitor_id = s.id AND i.resolved_at IS NULL
"""
_VOTES = f"""
INSERT INTO votes (monitor_no, location, last_slot, latency_ms, health, reason, not_up, down, up, not_down,
                   last_verdict)
SELECT s.monitor_no, %(location)s, {AT.format(age="0")}, CASE WHEN s.fate = 2 THEN 0.6 ELSE s.latency_ms END,
       (ARRAY[{int(Health.UP)}, {int(Health.DEGRADED)}, {int(Health.DOWN)}, {int(Health.PENDING)}])[s.fate + 1],
       (ARRAY[0, {int(Reason.HEADER_MISMATCH)}, {int(Reason.CONNECT_REFUSED)}, 0])[s.fate + 1],
       CASE WHEN s.fate IN (1, 2) THEN 3 ELSE 0 END, CASE WHEN s.fate = 2 THEN 3 ELSE 0 END,
       CASE WHEN s.fate = 0 THEN w.well ELSE 0 END, CASE WHEN s.fate IN (0, 1) THEN w.well ELSE 0 END,
       (ARRAY[{int(Verdict.UP)}, {int(Verdict.DEGRADED)}, {int(Verdict.DOWN)}, {int(Verdict.UP)}])[s.fate + 1]
  FROM seeded s
 CROSS JOIN LATERAL (SELECT CASE WHEN s.outages > 0 THEN 5 ELSE least(100, s.results) END AS well) w
"""

# How they were watched and how well they were, in all of their past. Who is paused is so since the newest result.
_WATCHED = f"""
WITH paused AS (
  UPDATE watch_changes w SET enabled = true FROM seeded s WHERE s.fate = 3 AND w.monitor_no = s.monitor_no
  RETURNING w.monitor_no, w.interval_s, w.places
)
INSERT INTO watch_changes (monitor_no, interval_s, places, enabled, gone, at)
SELECT p.monitor_no, p.interval_s, p.places, false, false, {AT.format(age="0")}
  FROM paused p JOIN seeded s USING (monitor_no)
"""
_HEALTHS = f"""
INSERT INTO health_changes (monitor_no, health, at)
SELECT h.monitor_no, h.health, h.at FROM (
  SELECT s.monitor_no, {int(Health.UP)} AS health, {AT.format(age="(s.results - 1)")} AS at FROM seeded s
  UNION ALL
  SELECT s.monitor_no, e.health, e.at FROM outages o JOIN seeded s ON s.id = o.monitor_id
   CROSS JOIN LATERAL (VALUES ({int(Health.DOWN)}, o.opened_at), ({int(Health.UP)}, o.resolved_at)) AS e(health, at)
) h JOIN monitor_states m USING (monitor_no)
 WHERE h.at < m.since ORDER BY h.monitor_no, h.at
"""

# What autovacuum would have done by the time there are so many.
_ANALYZE = "ANALYZE monitors, monitor_states, votes, results, result_details, incidents, incident_events"


def finish(connection: Connection, **shared: Any) -> int:
    """Everything that follows from the results; how many incidents there are now."""
    connection.exec_driver_sql(_DETAILS, shared)
    connection.exec_driver_sql(_OUTAGES, shared)
    connection.exec_driver_sql(_INCIDENTS, shared)
    seq = connection.exec_driver_sql(_SEQ, shared).scalar_one()
    connection.exec_driver_sql(_EVENTS, {**shared, "seq": seq})
    connection.exec_driver_sql(_STATES, shared)
    connection.exec_driver_sql(_VOTES, shared)
    connection.exec_driver_sql(_WATCHED, shared)
    connection.exec_driver_sql(_HEALTHS, shared)
    connection.exec_driver_sql(_ANALYZE)
    return int(connection.exec_driver_sql("SELECT count(*) FROM outages").scalar_one())
