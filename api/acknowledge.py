"""/ack/<token>: the link in a message. It shows the incident and asks once; only the answer (POST) acknowledges.

Whoever holds the link may use it, without a login. Looking changes nothing: mail scanners and chat previews look too.
"""

from __future__ import annotations

from typing import Any

from flask import Response

from api import incident_documents
from api.acknowledge_page import Page, moment, show
from api.context import request_id, services
from api.routing import Routes
from common import log
from common.channels.links import Grant, Links
from common.clock import utc_now
from common.domain.errors import InvalidTransition, NotFound
from common.domain.incident import Status
from common.store import channels, incident_changes, incidents_read, monitors
from common.store.incidents import Deed

routes = Routes("acknowledge")

_WRONG = Page(
    404, "Not valid", "This link does not work", "broken",
    note="It may have been cut off on its way here. Open it from the message again, or copy all of it.",
)  # fmt: skip
_GONE = Page(
    404, "Gone", "There is nothing here any more", "broken",
    note="The incident, or the channel that sent the link, was deleted.",
)  # fmt: skip
_EXPIRED = Page(
    410, "Expired", "This link has expired", "clock",
    note="Links are good for seven days. Log in, or ask somebody who can, to acknowledge the incident.",
)  # fmt: skip


@routes.get("/ack/<token>")
def show_acknowledgement(token: str) -> Response:
    """Ask whether to acknowledge."""
    return show(_look(token))


@routes.post("/ack/<token>")
def acknowledge(token: str) -> Response:
    """Acknowledge; what is acknowledged or resolved already stays as it is."""
    return show(_act(token))


def _look(token: str, *, just_now: bool = False) -> Page:
    grant = _grant(token)
    if isinstance(grant, Page):
        return grant
    try:
        with services().database.begin(grant.org_id) as connection:
            channels.get(connection, org_id=grant.org_id, channel_id=grant.channel_id)
            incident = incidents_read.get(connection, org_id=grant.org_id, incident_id=grant.incident_id)
    except NotFound:
        return _GONE
    return _page_of(incident, just_now=just_now)


def _act(token: str) -> Page:
    grant = _grant(token)
    if isinstance(grant, Page):
        return grant
    org_id, incident_id = grant.org_id, grant.incident_id
    try:
        with services().database.begin(org_id) as connection:
            channels.get(connection, org_id=org_id, channel_id=grant.channel_id)
            deed = Deed(f"link:{grant.channel_id}", monitors.now(connection), request_id())
            wanted = Status.ACKNOWLEDGED
            changes = incident_changes.set_status(
                connection, org_id=org_id, incident_id=incident_id, wanted=wanted, deed=deed
            )
            incident_documents.note(connection, incident_id, changes, org_id=org_id, actor=deed.actor)
        services().incident_cache.forget(org_id, [incident_id])
    except NotFound:
        return _GONE
    except InvalidTransition:
        return _look(token)
    log.get_logger().info("acknowledged_by_link", incident_id=incident_id, channel_id=grant.channel_id)
    return _look(token, just_now="status" in changes)


def _grant(token: str) -> Grant | Page:
    grant = Links(services().vault, services().settings.base_url).read(token)
    if grant is None:
        return _WRONG
    return _EXPIRED if grant.expires_at <= utc_now() else grant


def _page_of(incident: dict[str, Any], *, just_now: bool = False) -> Page:
    now = utc_now()
    facts = [moment("Since", incident["opened_at"], now)]
    cause = (incident["cause"] or {}).get("message") or ""
    shown = {"heading": incident["title"], "cause": cause if cause != incident["title"] else ""}
    if incident["status"] == Status.RESOLVED:
        facts.append(moment("Resolved", incident["resolved_at"], now))
        note = "There is nothing left to do."
        return Page(200, "Resolved", icon="done", tone="done", facts=tuple(facts), note=note, **shown)
    facts.insert(0, ("Severity", f"{incident['severity']} ({incident['priority']})", ""))
    if incident["status"] == Status.ACKNOWLEDGED:
        facts.append(moment("Acknowledged", incident["acknowledged_at"], now))
        state = "Acknowledged" if just_now else "Already acknowledged"
        note = "Everybody who was told of it hears that somebody takes care." if just_now else ""
        return Page(200, state, icon="done", tone="done", facts=tuple(facts), note=note, **shown)
    note = "Acknowledging tells everybody who was told of it that somebody takes care."
    return Page(200, "Open", icon="alert", tone=incident["severity"], facts=tuple(facts), note=note, asks=True, **shown)
