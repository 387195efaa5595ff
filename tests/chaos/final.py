"""The last look: what database and queues hold after the quiet, as rows that the checker reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from common.broker import HEARTBEAT_TIMEOUT_MS, NOTIFY_QUEUE, queue_name
from common.domain.checks import Kind, Lane, Reason, Verdict
from tests.chaos.events import Final

_LOCATION = "local"
_QUEUES = (*(queue_name(lane, _LOCATION) for lane in Lane), NOTIFY_QUEUE)
_NAMESPACE = "tocsin"

# Moments are Unix seconds, slots milliseconds.
_TABLES = {
    "monitors": "SELECT id::text, monitor_no, key, name, enabled FROM monitors",
    "incidents": """
        SELECT id::text, monitor_id::text AS monitor, dedup_key, status, severity, version, cause->>'reason' AS reason,
               extract(epoch FROM opened_at) AS opened_at, extract(epoch FROM resolved_at) AS resolved_at
          FROM incidents ORDER BY opened_at""",
    "incident_events": """
        SELECT id::text, incident_id::text AS incident, version, type, seq, extract(epoch FROM at) AS at
          FROM incident_events ORDER BY incident_id, version""",
    "notifications": """
        SELECT id::text, no, event_id::text AS event, incident_id::text AS incident, channel_id::text AS channel,
               event_type, status, reason, attempts, unknown_outcome, extract(epoch FROM created_at) AS created_at,
               extract(epoch FROM sent_at) AS sent_at, route_id::text AS route, silence_id::text AS silence,
               group_key, message_id::text AS message
          FROM notifications ORDER BY no""",
    "delivery_attempts": """
        SELECT notification_id::text AS notification, number, outcome, status_code, error, duration_ms,
               extract(epoch FROM at) AS at, message_id::text AS message
          FROM delivery_attempts ORDER BY at""",
    "outbox": "SELECT id, incident_id::text AS incident, event_id::text AS event, type FROM outbox",
    "alerts": "SELECT alert_id, status, incident_id::text AS incident FROM alerts",
    "silences": """
        SELECT id::text, extract(epoch FROM starts_at) AS begins_at, extract(epoch FROM ends_at) AS ends_at,
               extract(epoch FROM settled_at) AS settled_at FROM silences""",
    "reminders": """
        SELECT route_id::text AS route, incident_id::text AS incident, extract(epoch FROM due_at) AS due_at
          FROM reminders""",
    "votes": """
        SELECT monitor_no, location, version, round(extract(epoch FROM last_slot) * 1000) AS last_slot_ms, health,
               not_up, down, up, not_down, last_verdict FROM votes""",
    "monitor_states": """
        SELECT monitor_no, version, health, incident_worst, open_incident::text AS open_incident,
               extract(epoch FROM since) AS since FROM monitor_states""",
    "results": """
        SELECT monitor_no, location, round(extract(epoch FROM scheduled_at) * 1000) AS slot_ms, kind, verdict, reason
          FROM results ORDER BY monitor_no, scheduled_at""",
    "leases": "SELECT name, holder, epoch, extract(epoch FROM expires_at) AS expires_at FROM leases",
    "lease_writes": """
        SELECT no, extract(epoch FROM at) AS at, operation, holder, epoch, old_holder, old_epoch,
               extract(epoch FROM expires_at) AS expires_at, extract(epoch FROM old_expires_at) AS old_expires_at
          FROM chaos_lease_writes ORDER BY no""",
}

_WATCH_LEASES = """
CREATE TABLE IF NOT EXISTS chaos_lease_writes (
  no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  operation text NOT NULL, holder text, epoch bigint, expires_at timestamptz,
  old_holder text, old_epoch bigint, old_expires_at timestamptz);
CREATE OR REPLACE FUNCTION chaos_note_lease() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  INSERT INTO chaos_lease_writes
         (operation, holder, epoch, expires_at, old_holder, old_epoch, old_expires_at)
  VALUES (TG_OP, NEW.holder, NEW.epoch, NEW.expires_at, OLD.holder, OLD.epoch, OLD.expires_at);
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER chaos_note_lease AFTER INSERT OR UPDATE OR DELETE ON leases
  FOR EACH ROW EXECUTE FUNCTION chaos_note_lease();
"""


def watch_leases(connection: psycopg.Connection[Any]) -> None:
    """Have the database write down every write to `leases`."""
    connection.execute(_WATCH_LEASES)


def last_look(connection: psycopg.Connection[Any], client: redis.Redis) -> Final:
    """All tables at one moment, then the queues."""
    tables: dict[str, list[dict[str, Any]]] = {}
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        looked_at = time.time()  # before the first statement, whose snapshot all share
        for name, query in _TABLES.items():
            tables[name] = [_plain(row) for row in cursor.execute(query)]
    for result in tables["results"]:
        result["kind"] = Kind(ord(result["kind"]) - ord("0")).label
        result["verdict"] = Verdict(ord(result["verdict"]) - ord("0")).label
        result["reason"] = Reason(result["reason"]).label
    return Final(looked_at, {**tables, **queue_state(client)})


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, Decimal) else _text(value) for name, value in row.items()}


def _number(value: Decimal) -> float | int:
    return int(value) if value == value.to_integral_value() else float(value)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def queue_state(client: redis.Redis) -> dict[str, list[dict[str, Any]]]:
    """What waits in each queue, and who holds how many messages."""
    answer: Any = client.zrange(f"{_NAMESPACE}:__heartbeats__", 0, -1, withscores=True)
    beats = {name.decode(): beat for name, beat in answer}
    names = [name for queue in _QUEUES for name in (queue, f"{queue}.DQ")]
    return {
        "queues": [_queue(client, name) for name in names],
        "acks": [ack for name in names for ack in _acks(client, name, beats)],
    }


Where = tuple[str, str, str]
"""queue, "waits", "held" or "stored", and who holds it"""


def messages(client: redis.Redis) -> dict[tuple[str, str], Where]:
    """Where each message is, by (queue, id). What is delayed until later is left out: it may wait."""
    found: dict[tuple[str, str], Where] = {}
    for queue in _QUEUES:
        for name in (queue, f"{queue}.DQ"):
            key = f"{_NAMESPACE}:{name}"
            bodies: Any = client.hgetall(f"{key}.msgs")
            found |= {(name, id_.decode()): (name, "stored", "") for id_ in bodies}
            waiting: Any = client.lrange(key, 0, -1)
            found |= {(name, id_.decode()): (name, "waits", "") for id_ in waiting}
            holders: Any = client.keys(f"{_NAMESPACE}:__acks__.*.{name}")
            for holder in holders:
                broker = holder.decode().removeprefix(f"{_NAMESPACE}:__acks__.").removesuffix(f".{name}")
                held: Any = client.smembers(holder)
                found |= {(name, id_.decode()): (name, "held", broker) for id_ in held}
            for id_, body in bodies.items():
                if _eta_ms(body) > time.time() * 1000:
                    found.pop((name, id_.decode()), None)
    return found


def stuck(before: dict[tuple[str, str], Where], after: dict[tuple[str, str], Where]) -> list[dict[str, Any]]:
    """What is at the same place at two looks."""
    return [
        {"queue": queue, "id": id_, "where": where[1], "broker": where[2]}
        for (queue, id_), where in after.items()
        if before.get((queue, id_)) == where
    ]


def _eta_ms(body: bytes) -> float:
    try:
        return float(json.loads(body)["options"].get("eta", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0.0


def _queue(client: redis.Redis, name: str) -> dict[str, Any]:
    key = f"{_NAMESPACE}:{name}"
    return {
        "queue": name,
        "waiting": client.llen(key),
        "bodies": client.hlen(f"{key}.msgs"),
        "set_aside": client.zcard(f"{key}.XQ"),
    }


def _acks(client: redis.Redis, name: str, beats: dict[str, float]) -> Iterator[dict[str, Any]]:
    now_ms = time.time() * 1000
    keys: Any = client.keys(f"{_NAMESPACE}:__acks__.*.{name}")
    for key in keys:
        broker = key.decode().removeprefix(f"{_NAMESPACE}:__acks__.").removesuffix(f".{name}")
        alive = now_ms - beats.get(broker, 0) < HEARTBEAT_TIMEOUT_MS
        yield {"queue": name, "broker": broker, "held": client.scard(key), "alive": alive}
