"""What channels send with, from the settings: for the notifier, and for the API that tries a channel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from common.channels.base import Context, MailServer, Network
from common.channels.links import Links
from common.http.wiring import way_out
from common.settings import Settings
from common.vault import Vault


def open_context(settings: Settings, vault: Vault, now: Callable[[], datetime], *, max_handles: int) -> Context:
    """A context whose engine belongs to the loop that first uses it, with at most `max_handles` requests under way."""
    way = way_out(settings, max_handles=max_handles)
    return Context(
        http=way.engine,
        now=now,
        base_url=settings.base_url,
        network=Network(way.resolver, way.rules),
        links=Links(vault, settings.base_url),
        mail=mail_server(settings),
    )


def mail_server(settings: Settings) -> MailServer | None:
    """The installation's own mail server, if it has one."""
    found = settings.smtp_server
    if found is None:
        return None
    return MailServer(found.host, found.port, found.tls, settings.mail_from, found.username, found.password)
