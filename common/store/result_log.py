"""Append results: lean rows for all, a message for failures only. A result that is there already stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from common.clock import from_ms
from common.domain.checks import Result
from common.store.arrays import integers, reals
from common.store.engine import Connection

# One row per check; the primary key (monitor, location, slot) makes a repeated check change nothing.
_APPEND = """
INSERT INTO results (scheduled_at, monitor_no, config_version, dns_ms, connect_ms, tls_ms, ttfb_ms, total_ms, location,
                     reason, code, verdict, kind)
SELECT to_timestamp(u.slot_ms / 1000.0::float8), u.monitor_no, u.config_version, u.dns_ms, u.connect_ms, u.tls_ms,
       u.ttfb_ms, u.total_ms, u.location, u.reason, u.code, u.verdict, u.kind
  FROM unnest(
    %(slots)s::bigint[], %(monitors)s::int[], %(configs)s::int[], %(dns)s::real[], %(connect)s::real[],
    %(tls)s::real[], %(ttfb)s::real[], %(total)s::real[], %(locations)s::smallint[], %(reasons)s::smallint[],
    %(codes)s::smallint[], %(verdicts)s::"char"[], %(kinds)s::"char"[]
  ) AS u(slot_ms, monitor_no, config_version, dns_ms, connect_ms, tls_ms, ttfb_ms, total_ms, location, reason, code,
         verdict, kind)
    ON CONFLICT (monitor_no, location, scheduled_at) DO NOTHING
"""

# What went wrong, for those that failed.
_EXPLAIN = """
INSERT INTO result_details (scheduled_at, monitor_no, location, message, failed_assertion)
SELECT * FROM unnest(%(slots)s::timestamptz[], %(monitors)s::int[], %(locations)s::smallint[], %(messages)s::text[],
                     %(assertions)s::jsonb[])
    ON CONFLICT (monitor_no, location, scheduled_at) DO NOTHING
"""


def append(connection: Connection, results: Sequence[Result]) -> None:
    """Store results, and messages of those that have one."""
    if not results:
        return
    connection.exec_driver_sql(_APPEND, _columns(results))
    failed = [result for result in results if result.observation.message]
    if failed:
        connection.exec_driver_sql(
            _EXPLAIN,
            {
                "slots": [from_ms(r.check.scheduled_at_ms) for r in failed],
                "monitors": [r.check.monitor_no for r in failed],
                "locations": [r.location for r in failed],
                "messages": [storable(r.observation.message) for r in failed],
                "assertions": [_assertion(r) for r in failed],
            },
        )


def _columns(results: Sequence[Result]) -> dict[str, Any]:
    phases = [r.observation.phases for r in results]
    return {
        "slots": integers(r.check.scheduled_at_ms for r in results),
        "monitors": integers(r.check.monitor_no for r in results),
        "configs": integers(r.check.config_version for r in results),
        "dns": reals(p.dns_ms for p in phases),
        "connect": reals(p.connect_ms for p in phases),
        "tls": reals(p.tls_ms for p in phases),
        "ttfb": reals(p.ttfb_ms for p in phases),
        "total": reals(p.total_ms for p in phases),
        "locations": integers(r.location for r in results),
        "reasons": integers(int(r.observation.reason) for r in results),
        "codes": integers(r.observation.code for r in results),
        "verdicts": integers(int(r.observation.verdict) for r in results),
        "kinds": integers(int(r.check.kind) for r in results),
    }


def _assertion(result: Result) -> Jsonb | None:
    failed = result.observation.failed_assertion
    if failed is None:
        return None
    values = {"source": failed.source, "op": failed.op, "expected": failed.expected, "seen": failed.seen}
    return Jsonb({key: storable(value) for key, value in values.items()})


def storable(text: str) -> str:
    """Text that PostgreSQL can hold: a target may have sent NUL, or what is not Unicode."""
    return text.replace("\x00", "�").encode("utf-8", "replace").decode()
