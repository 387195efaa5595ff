"""Idempotency keys: what a request made is written in the transaction that made it, once per key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from uuid_utils import uuid7

from common.store.engine import Connection

#: How long a key is remembered.
LIFETIME_H = 24

# Who waits for another request with this key gives up sooner than for other locks …
_WAIT_SHORTLY = "SET LOCAL lock_timeout = '2s'"
_WAIT_AS_USUAL = "SET LOCAL lock_timeout TO DEFAULT"

# … whose transaction may still end either way: then this key is ours, or it is taken. Returns nothing when taken.
_CLAIM = f"""
INSERT INTO idempotency_keys (id, org_id, actor, route, key, fingerprint, expires_at)
VALUES (%(id)s, %(org_id)s, %(actor)s, %(route)s, %(key)s, %(fingerprint)s,
        clock_timestamp() + interval '{LIFETIME_H} hours')
    ON CONFLICT ON CONSTRAINT idempotency_keys_once DO UPDATE
   SET id = excluded.id, fingerprint = excluded.fingerprint, secrets = NULL, created_at = clock_timestamp(),
       expires_at = excluded.expires_at
 WHERE idempotency_keys.expires_at <= clock_timestamp()
RETURNING id
"""

# A statement of its own: only so does it see what the other transaction has just committed.
_TAKEN = """
SELECT id::text, fingerprint, secrets FROM idempotency_keys
 WHERE key = %(key)s AND actor = %(actor)s AND route = %(route)s AND org_id IS NOT DISTINCT FROM %(org_id)s::uuid
"""

_COMPLETE = "UPDATE idempotency_keys SET secrets = %(answer)s WHERE id = %(id)s"

# Keys past their time, some at a time.
_FORGET = """
DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM idempotency_keys WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT %(limit)s))
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is to be done once. `org_id` None: the operator's; `fingerprint`: HMAC-SHA-256 of the body."""

    org_id: str | None
    actor: str
    route: str
    key: str
    fingerprint: bytes
    id: str = field(default_factory=lambda: str(uuid7()))


@dataclass(frozen=True, slots=True)
class Earlier:
    """The request that had the key before; `answer` is sealed."""

    id: str
    fingerprint: bytes
    answer: str


def claim(connection: Connection, wanted: Claim) -> Earlier | None:
    """Take the key, None when it is ours now. While another transaction may still take it, this waits for a moment.

    A wait that takes too long breaks the transaction (Contended at its end).
    """
    values = _values(wanted)
    connection.exec_driver_sql(_WAIT_SHORTLY)
    ours = connection.exec_driver_sql(_CLAIM, values).first() is not None
    connection.exec_driver_sql(_WAIT_AS_USUAL)
    if ours:
        return None
    row = connection.exec_driver_sql(_TAKEN, values).one()
    return Earlier(row[0], bytes(row[1]), row[2])


def complete(connection: Connection, claim_id: str, answer: str) -> None:
    """Keep the sealed answer for whoever asks again."""
    connection.exec_driver_sql(_COMPLETE, {"id": claim_id, "answer": answer})


def forget(connection: Connection, *, limit: int = 50_000) -> int:
    """Delete keys past their time; how many. Fewer than `limit`: none is left."""
    return connection.exec_driver_sql(_FORGET, {"limit": limit}).rowcount


def _values(wanted: Claim) -> dict[str, Any]:
    return {
        "id": wanted.id,
        "org_id": wanted.org_id,
        "actor": wanted.actor,
        "route": wanted.route,
        "key": wanted.key,
        "fingerprint": wanted.fingerprint,
    }
