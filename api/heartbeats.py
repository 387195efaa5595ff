"""/v1/monitors/{id}/heartbeat and /pings: what a heartbeat is pinged by, and what it was told."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import audit, heartbeats_secrets, pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas_heartbeats import Heartbeat, PingOut, PingsQuery
from common.domain.heartbeats import PingKind
from common.store import heartbeats_read, monitors

routes = Routes("monitors")


# To write, not to read: whoever knows the address can say that all is well.
@routes.get("/v1/monitors/<monitor_id>/heartbeat", permission="monitors:write", answer=Heartbeat)
def get_heartbeat(monitor_id: str) -> dict[str, Any]:
    """The addresses to ping, and when the next ping is expected. 404 for a monitor of another type."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        return _document(monitor_id, heartbeats_read.get(connection, org_id=org_id, monitor_id=monitor_id))


@routes.post("/v1/monitors/<monitor_id>/heartbeat/renew", permission="monitors:write", answer=Heartbeat)
def renew_heartbeat(monitor_id: str) -> dict[str, Any]:
    """New addresses, for when the old ones have become known; those are 404 from now on."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        heartbeats_read.get(connection, org_id=org_id, monitor_id=monitor_id)
        heartbeats_secrets.renew(connection, monitor_id)
        audit.changed(connection, "monitor", monitor_id, {"heartbeat": "address"}, {"heartbeat": "new address"})
        return _document(monitor_id, heartbeats_read.get(connection, org_id=org_id, monitor_id=monitor_id))


@routes.get("/v1/monitors/<monitor_id>/pings", permission="monitors:read", query=PingsQuery, answer=PingOut, paged=True)
def list_pings(monitor_id: str, query: PingsQuery) -> Response:
    """A heartbeat's newest pings, newest first; of each monitor the last 100 are kept."""
    before = pagination.after_number(query.cursor) or None
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        monitors.get(connection, org_id=org_id, monitor_id=monitor_id)
        rows = heartbeats_read.pings(
            connection, org_id=org_id, monitor_id=monitor_id, before=before, limit=query.limit + 1
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode_number(last["n"])
    return pagination.page([_ping(row) for row in shown], cursor)


def _document(monitor_id: str, row: dict[str, Any]) -> dict[str, Any]:
    token = heartbeats_secrets.opened(monitor_id, row["secrets"])
    base = services().settings.base_url
    return {
        "ping_url": f"{base}/ping/{token}",
        "push_url": f"{base}/api/push/{token.replace('-', '')}?status=up&msg=OK&ping=",
        "pings": row["pings"],
        "last_ping_at": row["heard_at"],
        "expected_at": row["expected_at"],
        "deadline_at": row["deadline_at"],
        "running": len(row["runs"]),
    }


def _ping(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "n": row["n"],
        "kind": PingKind(row["kind"]).label,
        "at": row["at"],
        "exit_code": row["exit_code"],
        "duration_ms": row["duration_ms"],
        "rid": row["rid"],
        "source": row["source"] or None,
        "body": row["body"] or None,
    }
