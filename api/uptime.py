"""/v1/monitors/{id}/uptime: how a monitor did in a window. The rules are in docs/reports.md."""

from __future__ import annotations

from typing import Any

from api import uptime_windows
from api.context import caller, services
from api.routing import Routes
from api.schemas_uptime import Uptime, UptimeQuery
from api.uptime_documents import uptime_document
from common.domain.accounting_cover import cover
from common.store import monitors, rollups, uptime

routes = Routes("monitors")

#: Moments after the last rollup are accounted for result by result; more of them than this are left for later.
_LONGEST_TAIL_MS = 6 * 3_600_000


@routes.get("/v1/monitors/<monitor_id>/uptime", permission="monitors:read", query=UptimeQuery, answer=Uptime)
def get_uptime(monitor_id: str, query: UptimeQuery) -> dict[str, Any]:
    """Uptime, coverage, time by category, incidents, MTTR, MTBF and latency in a window.

    `window` in the answer is what was counted: it begins at whole five minutes (or with the monitor), and ends where
    the answers of its checks are there.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        row = monitors.get(connection, org_id=org_id, monitor_id=monitor_id)
        rolled, now_ms = rollups.progress(connection)
        begin_ms, end_ms = uptime_windows.asked(query, now_ms)
        covered = cover(rolled, begin_ms, end_ms)
        last_ms = covered.end_ms
        if end_ms > rolled.fine_to_ms:
            settled_ms = uptime_windows.settled_ms(now_ms, row["timeout_s"])
            last_ms = max(last_ms, min(end_ms, settled_ms, last_ms + _LONGEST_TAIL_MS))
        found = uptime.read(connection, uptime.Asked(org_id, monitor_id, row["monitor_no"], covered, last_ms))
    return uptime_document(found)
