"""What the API writes down of pings, many at once, and that it is there to hear them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.store.arrays import integers, reals, texts, words
from common.store.engine import Connection

# Each ping finds its monitor by the hash of its secret. Statement and answer in one: which of them found one, and
# whether it is paused. `age_ms`: how long it waited for us. A paused monitor takes pings only where it was not asked.
_APPEND = """
WITH sent AS (
  SELECT * FROM unnest(%(hashes)s::bytea[], %(ages)s::real[], %(kinds)s::smallint[], %(codes)s::smallint[],
                       %(latencies)s::real[], %(rids)s::uuid[], %(sources)s::text[], %(bodies)s::text[],
                       %(stricts)s::smallint[])
         WITH ORDINALITY AS u(token_hash, age_ms, kind, exit_code, latency_ms, rid, source, body, strict, n)
), found AS (
  SELECT s.*, h.monitor_no
    FROM sent s JOIN heartbeats h USING (token_hash) JOIN monitors m ON m.monitor_no = h.monitor_no
   WHERE m.deleted_at IS NULL AND m.type = 'heartbeat' AND (m.enabled OR s.strict = 0)
), added AS (
  INSERT INTO ping_inbox (at, monitor_no, kind, exit_code, latency_ms, rid, source, body)
  SELECT clock_timestamp() - f.age_ms * interval '1 millisecond', f.monitor_no, f.kind, f.exit_code, f.latency_ms,
         f.rid, f.source, f.body
    FROM found f ORDER BY f.n
)
SELECT n - 1 FROM found
"""

# A sign of life; a silence before it, read first (FROM), is written down. `patience_ms`: how long it may be. One that
# begins soon after the last has ended prolongs it: who judges reads the newest spells, and an API that dies again and
# again would push out all others.
_HEAR = """
WITH before AS (SELECT until FROM hearing FOR UPDATE),
silence AS (
  SELECT until AS from_at, clock_timestamp() AS until_at FROM before
   WHERE until < clock_timestamp() - %(patience_ms)s * interval '1 millisecond'
), prolonged AS (
  UPDATE deaf_spells d SET until_at = s.until_at FROM silence s
   WHERE d.from_at = (SELECT max(from_at) FROM deaf_spells)
     AND d.until_at BETWEEN s.from_at - %(apart_s)s * interval '1 second' AND s.until_at RETURNING 1
), spell AS (
  INSERT INTO deaf_spells (from_at, until_at)
  SELECT from_at, until_at FROM silence WHERE NOT EXISTS (SELECT 1 FROM prolonged)
      ON CONFLICT (from_at) DO NOTHING RETURNING 1
)
UPDATE hearing SET until = greatest(hearing.until, clock_timestamp()) FROM before
RETURNING (SELECT count(*) FROM spell) + (SELECT count(*) FROM prolonged)
"""
#: Spells that are no longer apart (seconds) are one.
_APART_S = 10
_FORGET = "DELETE FROM deaf_spells WHERE until_at < now() - interval '400 days'"


@dataclass(frozen=True, slots=True)
class Heard:
    """A ping as the API takes it. `strict`: a paused monitor's is refused."""

    token_hash: bytes
    kind: int
    exit_code: int | None = None
    latency_ms: float = -1.0
    rid: str | None = None
    source: str = ""
    body: str = ""
    strict: bool = False


def append(connection: Connection, heard: Sequence[tuple[Heard, float]]) -> set[int]:
    """Put pings, each with its age in milliseconds, into the inbox; the indexes of those that belong to a monitor."""
    pings = [ping for ping, _ in heard]
    rows = connection.exec_driver_sql(
        _APPEND,
        {
            "hashes": [ping.token_hash for ping in pings],
            "ages": reals(age_ms for _, age_ms in heard),
            "kinds": integers(ping.kind for ping in pings),
            "codes": integers(ping.exit_code for ping in pings),
            "latencies": reals(ping.latency_ms for ping in pings),
            "rids": words(ping.rid for ping in pings),
            "sources": texts(ping.source for ping in pings),
            "bodies": texts(ping.body for ping in pings),
            "stricts": integers(int(ping.strict) for ping in pings),
        },
    )
    return {int(row[0]) for row in rows}


def hear(connection: Connection, *, patience_ms: int) -> bool:
    """Say that we are there; whether nobody was for a while."""
    count: Any = connection.exec_driver_sql(_HEAR, {"patience_ms": patience_ms, "apart_s": _APART_S}).scalar_one()
    if count:
        connection.exec_driver_sql(_FORGET)
    return bool(count)
