"""Results as people read them: newest first, all locations of one monitor merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.store.engine import Connection

# One descending index scan per location, merged: a single scan over (monitor_no, location, scheduled_at) would have to
# read all of a monitor's results to sort them by time. The org filter stands in the monitor that is looked up.
_LIST = """
SELECT r.scheduled_at, r.location, l.name AS location_name, r.verdict::text::smallint AS verdict, r.reason, r.code,
       r.dns_ms, r.connect_ms, r.tls_ms, r.ttfb_ms, r.total_ms, d.message, d.failed_assertion
  FROM monitors m
 CROSS JOIN locations l
 CROSS JOIN LATERAL (
   SELECT * FROM results x
    WHERE x.monitor_no = m.monitor_no AND x.location = l.id
      AND x.scheduled_at <= %(before_at)s::timestamptz
      AND (x.scheduled_at, x.location) < (%(before_at)s::timestamptz, %(before_location)s::smallint)
      AND (%(verdicts)s::text[] IS NULL OR x.verdict::text = ANY(%(verdicts)s::text[]))
    ORDER BY x.scheduled_at DESC LIMIT %(limit)s
 ) r
  LEFT JOIN result_details d
    ON d.monitor_no = r.monitor_no AND d.location = r.location AND d.scheduled_at = r.scheduled_at
 WHERE m.org_id = %(org_id)s AND m.id = %(monitor_id)s
 ORDER BY r.scheduled_at DESC, r.location DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Which results of which monitor. `before` is the (scheduled_at, location) of the page before's last row."""

    org_id: str
    monitor_id: str
    limit: int
    before: tuple[datetime, int] | None = None
    verdicts: Sequence[int] | None = None


def list_page(connection: Connection, page: Page) -> list[dict[str, Any]]:
    """Rows newest first; the last row's (scheduled_at, location) is the cursor of the next page."""
    before_at, before_location = page.before or ("infinity", 0)
    rows = connection.exec_driver_sql(
        _LIST,
        {
            "org_id": page.org_id,
            "monitor_id": page.monitor_id,
            "limit": page.limit,
            "before_at": before_at,
            "before_location": before_location,
            "verdicts": None if page.verdicts is None else [str(int(verdict)) for verdict in page.verdicts],
        },
    )
    return [dict(row) for row in rows.mappings()]
