"""Monitors, straight into the database: what the API would write for them, without its cost."""

from __future__ import annotations

import base64
import secrets
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

from bench.plan import Plan
from bench.target import Target
from common.vault import Vault

_LOCATION = "local"

# check_from lies in the past: only slots are due, and no check at once.
_MONITORS = """
WITH made AS (
  INSERT INTO monitors (id, org_id, name, type, target, interval_s, timeout_s, failure_threshold, recovery_threshold,
                        retry_interval_s, severity, location_ids, check_from)
  SELECT gen_random_uuid(), %(org)s, 'monitor ' || number, 'http', target, %(interval)s, least(10, %(interval)s),
         %(threshold)s, 1, 1, 'error', ARRAY[%(location)s::smallint], now() - interval '1 day'
    FROM unnest(%(targets)s::text[]) WITH ORDINALITY AS u(target, number)
  RETURNING monitor_no, org_id
), states AS (
  INSERT INTO monitor_states (monitor_no, org_id) SELECT monitor_no, org_id FROM made
)
INSERT INTO votes (monitor_no, location) SELECT monitor_no, %(location)s FROM made
"""
_CHANNEL = """
INSERT INTO channels (id, org_id, name, type, config, secrets, is_default)
VALUES (%(id)s, %(org)s, 'bench', 'webhook', %(config)s, %(secrets)s, true)
"""


def seed(connection: psycopg.Connection[Any], plan: Plan, target: Target) -> UUID:
    """Give the first organization the plan's monitors; the first `plan.flaky` of them can be made to fail."""
    first = connection.execute("SELECT id FROM organizations").fetchone()
    assert first is not None
    org: UUID = first[0]
    connection.execute("INSERT INTO locations (name) VALUES (%s) ON CONFLICT DO NOTHING", (_LOCATION,))
    found = connection.execute("SELECT id FROM locations WHERE name = %s", (_LOCATION,)).fetchone()
    assert found is not None
    connection.execute(
        _MONITORS,
        {
            "org": org,
            "interval": plan.interval_s,
            "threshold": plan.failure_threshold,
            "location": found[0],
            "targets": [target.url(number, flaky=number < plan.flaky) for number in range(plan.monitors)],
        },
    )
    # What autovacuum would have done by the time there are so many.
    connection.execute("VACUUM (ANALYZE) monitors, votes, monitor_states")
    return org


def add_webhook(connection: psycopg.Connection[Any], org: UUID, url: str, encryption_keys: str) -> None:
    """Make the organization's default channel: a webhook."""
    channel = uuid4()
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    sealed = Vault(encryption_keys).seal(f"channel:{org}:{channel}", {"secret": secret})
    connection.execute(_CHANNEL, {"id": channel, "org": org, "config": Jsonb({"url": url}), "secrets": sealed})
