"""Incidents as answers: content and standing put together, the shortcut through the cache, and what ETags say.

An ETag is the incident's version and how its notifications stand, like W/"7.2.0.0.0"; for If-Match only the version
counts, since nobody overwrites a delivery.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from flask import Response, request

from api import audit
from api.context import caller, services
from api.replies import reply
from common import telemetry
from common.store import incidents_read
from common.store.engine import Connection
from common.store.incident_changes import Changes
from common.store.incidents_read import Deliveries, Standing


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer and its ETag."""

    document: dict[str, Any]
    tag: str


def merged(content: dict[str, Any], standing: Standing) -> dict[str, Any]:
    """An incident as the API shows it."""
    return {
        **content,
        "monitor_name": standing.monitor_name,
        "acknowledgement_expires_at": standing.ack_expires_at,
        "duration_seconds": standing.duration_s,
        "assignee": standing.assignee,
        "assignee_name": standing.assignee_name,
        "deliveries": asdict(standing.deliveries),
    }


def look(incident_id: str) -> Shown:
    """An incident as it is now. Raises NotFound."""
    org_id, cache = caller().org_id, services().incident_cache
    known = cache.get(org_id, incident_id)
    with services().database.begin(org_id) as connection:
        if known is not None:
            standing = incidents_read.standing(connection, org_id=org_id, incident_id=incident_id)
            if standing.version == known["version"]:
                telemetry.INCIDENT_CACHE.labels("hit").inc()
                return _shown(known, standing)
        content, standing = incidents_read.whole(connection, org_id=org_id, incident_id=incident_id)
    telemetry.INCIDENT_CACHE.labels("miss" if known is None else "outdated").inc()
    cache.put(org_id, incident_id, content)
    return _shown(content, standing)


def written(connection: Connection, incident_id: str) -> Shown:
    """An incident as this transaction leaves it, which may still fail: nothing for the cache."""
    content, standing = incidents_read.whole(connection, org_id=caller().org_id, incident_id=incident_id)
    return _shown(content, standing)


def note(
    connection: Connection, incident_id: str, changes: Changes, *, org_id: str | None = None, actor: str | None = None
) -> None:
    """Write down in the audit log what somebody changed; `org_id` and `actor` are the caller's where there is one."""
    before, after = ({name: change[side] for name, change in changes.items()} for side in ("from", "to"))
    audit.changed(connection, "incident", incident_id, before, after, org_id=org_id, actor=actor)


def answer(shown: Shown, status: int = 200) -> Response:
    """The answer with its ETag."""
    response = reply(shown.document, status)
    return _tagged(response, shown.tag)


def answer_unless_known(shown: Shown) -> Response:
    """The answer, or 304 for whoever has it already (If-None-Match)."""
    if request.if_none_match.contains_weak(shown.tag):
        return _tagged(Response(status=304), shown.tag)
    return answer(shown)


def seen() -> Collection[int] | None:
    """The versions that If-Match names; None without it, or for any version (*)."""
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return None
    heads = [str(tag).partition(".")[0] for tag in request.if_match.as_set(include_weak=True)]  # None: malformed
    return frozenset(int(head) for head in heads if head.isascii() and head.isdigit() and len(head) <= 10)


def _shown(content: dict[str, Any], standing: Standing) -> Shown:
    return Shown(merged(content, standing), _tag(standing.version, standing.deliveries))


def _tag(version: int, told: Deliveries) -> str:
    return f"{version}.{told.sent}.{told.pending}.{told.dead}.{told.suppressed}"


def _tagged(response: Response, tag: str) -> Response:
    response.set_etag(tag, weak=True)
    # Browsers may keep it, but have to ask whether it still holds.
    response.headers["Cache-Control"] = "private, no-cache"
    return response
