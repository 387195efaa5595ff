"""/ack/<token>: the link in a message. It shows the incident and asks once; only the answer (POST) acknowledges.

Whoever holds the link may use it, without a login. Looking changes nothing: mail scanners and chat previews look too.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from flask import Response, render_template_string

from api import incident_documents
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

_STYLE = """
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1rem;background:#f4f5f9;color:#1d2330;
font:17px/1.5 system-ui,sans-serif}
main{width:100%;max-width:26rem;background:#fff;border-radius:14px;padding:1.6rem;border-top:6px solid #475569;
box-shadow:0 6px 24px #1d233018}
main.critical{border-color:#b3261e}main.error{border-color:#c2410c}main.warning{border-color:#a16207}
main.info{border-color:#1d4ed8}main.done{border-color:#15803d}
h1{font-size:1.3rem;margin:0 0 .6rem;overflow-wrap:anywhere}p{margin:.3rem 0}.q{color:#667;font-size:.95rem}
button{width:100%;margin-top:1.2rem;padding:.9rem;border:0;border-radius:10px;background:#1d4ed8;color:#fff;
font:inherit;font-weight:600;cursor:pointer}
button:focus-visible{outline:3px solid #93b4ff;outline-offset:2px}
@media(prefers-color-scheme:dark){body{background:#14161c;color:#dde}main{background:#1e212b}.q{color:#99a}}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ page.heading }} · Tocsin</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">
<style>{{ style|safe }}</style></head>
<body><main class="{{ page.mood }}"><h1>{{ page.heading }}</h1>
{% for line in page.lines %}<p>{{ line }}</p>
{% endfor %}{% if page.note %}<p class="q">{{ page.note }}</p>{% endif %}
{% if page.asks %}<form method="post"><button type="submit">Acknowledge</button></form>{% endif %}
</main></body></html>
"""

_POLICY = (
    "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


@dataclass(frozen=True, slots=True)
class _Page:
    """What to show. `asks`: with the button."""

    status: int
    heading: str
    lines: tuple[str, ...] = ()
    note: str = ""
    mood: str = ""
    asks: bool = False


_WRONG = _Page(404, "This link is not valid", ("It may have been cut off on its way here.",))
_GONE = _Page(404, "There is nothing here any more", ("The incident or its channel was deleted.",))
_EXPIRED = _Page(410, "This link has expired", ("Log in, or ask somebody who can, to acknowledge the incident.",))


@routes.get("/ack/<token>")
def show_acknowledgement(token: str) -> Response:
    """Ask whether to acknowledge."""
    return _show(_look(token))


@routes.post("/ack/<token>")
def acknowledge(token: str) -> Response:
    """Acknowledge; what is acknowledged or resolved already stays as it is."""
    return _show(_act(token))


def _look(token: str) -> _Page:
    grant = _grant(token)
    if isinstance(grant, _Page):
        return grant
    try:
        with services().database.begin(grant.org_id) as connection:
            channels.get(connection, org_id=grant.org_id, channel_id=grant.channel_id)
            incident = incidents_read.get(connection, org_id=grant.org_id, incident_id=grant.incident_id)
    except NotFound:
        return _GONE
    return _page_of(incident)


def _act(token: str) -> _Page:
    grant = _grant(token)
    if isinstance(grant, _Page):
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
    return _look(token)


def _grant(token: str) -> Grant | _Page:
    grant = Links(services().vault, services().settings.base_url).read(token)
    if grant is None:
        return _WRONG
    return _EXPIRED if grant.expires_at <= utc_now() else grant


def _page_of(incident: dict[str, Any]) -> _Page:
    facts = (f"{incident['severity']} ({incident['priority']})",)
    since = f"Since {_minute(incident['opened_at'])}"
    title, severity = incident["title"], incident["severity"]
    if incident["status"] == Status.RESOLVED:
        return _Page(200, title, ("It is resolved: there is nothing left to do.",), since, "done")
    if incident["status"] == Status.ACKNOWLEDGED:
        when = f"Acknowledged {_minute(incident['acknowledged_at'])}"
        return _Page(200, title, ("It is acknowledged. Thank you.",), f"{since}. {when}", "done")
    asks = (*facts, "Acknowledging tells everybody that somebody takes care of it.")
    return _Page(200, title, asks, since, severity, asks=True)


def _minute(moment: Any) -> str:
    return str(moment)[:16].replace("T", " ") + " UTC"


def _show(page: _Page) -> Response:
    html = render_template_string(_PAGE, page=page, style=_STYLE)
    response = Response(html, page.status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    return response
