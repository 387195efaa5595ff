"""PagerDuty, Events API v2: trigger, acknowledge, resolve, one request per event, folded there by the incident's id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import Field

from common.channels.base import Context, Destination, Event, Message, text_of
from common.channels.http import post
from common.channels.lanes import send_each
from common.channels.settings import ChannelSettings, Secret, web_host, web_problem
from common.channels.story import Story, plain, tell
from common.domain.delivery import Attempt
from common.domain.errors import FieldError
from common.http.target import Host

_URL = "https://events.pagerduty.com/v2/enqueue"
_ACTIONS: Mapping[str, str] = MappingProxyType({"acknowledged": "acknowledge", "resolved": "resolve"})
_SEVERITIES = frozenset({"critical", "error", "warning", "info"})

#: PagerDuty's limits.
_SUMMARY_CHARS = 1_024
_MAX_BYTES = 512 * 1024


class PagerDutySettings(ChannelSettings):
    """An integration's routing key. `url` only for the EU region, or for what speaks like PagerDuty."""

    LEADS: ClassVar[frozenset[str]] = frozenset({"url"})

    routing_key: Secret
    url: Annotated[str, Field(min_length=1, max_length=2048)] = _URL

    def problems(self) -> Iterator[FieldError]:
        """The URL has to be one."""
        yield from web_problem("url", self.url)

    def hosts(self) -> Iterator[tuple[str, Host]]:
        """The URL's."""
        yield from web_host("url", self.url)


class PagerDutyChannel:
    """`secrets.routing_key` is who, `config.url` where."""

    settings = PagerDutySettings
    keeps_incidents = True

    async def send(self, message: Message, destination: Destination, context: Context) -> Attempt:
        """Send every event of the message."""
        url, key = text_of(destination.config, "url"), text_of(destination.secrets, "routing_key")
        stories = tell(message, destination.channel_id, context)
        bodies = [
            (str(event.incident["id"]), _encode(_body(event, story, key)))
            for event, story in zip(message.events, stories, strict=True)
        ]
        return await send_each(bodies, lambda body, timeout_s: post(url, {}, body, timeout_s=timeout_s), context)


def _body(event: Event, story: Story, key: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "routing_key": key,
        "event_action": _ACTIONS.get(event.event_type, "trigger"),
        "dedup_key": str(event.incident["id"]),
    }
    if body["event_action"] != "trigger":
        return body
    monitor = event.monitor or {}
    links = [{"href": story.link, "text": "Incident"}]
    if story.acknowledge:
        links.append({"href": story.acknowledge, "text": "Acknowledge"})
    return {
        **body,
        "client": "Tocsin",
        "client_url": story.link,
        "links": links,
        "payload": {
            "summary": plain(event.incident["title"], _SUMMARY_CHARS) or "(no title)",
            "source": plain(monitor.get("target") or event.incident.get("source")) or "tocsin",
            "severity": story.severity if story.severity in _SEVERITIES else "error",
            "timestamp": event.at.isoformat(),
            "component": plain(monitor.get("name")) if monitor.get("name") else None,
            "class": plain((event.incident.get("cause") or {}).get("reason") or "") or None,
            "custom_details": {**dict(story.facts), "labels": _labels(event)},
        },
    }


def _labels(event: Event) -> dict[str, str]:
    return {plain(name): plain(value) for name, value in (event.incident.get("labels") or {}).items()}


def _encode(body: dict[str, Any]) -> bytes:
    """JSON within the limit: details go first, the event itself is always small enough."""
    encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    if len(encoded) <= _MAX_BYTES:
        return encoded
    payload = {**body["payload"], "custom_details": {"note": "left out: too large"}}
    return json.dumps({**body, "payload": payload}, ensure_ascii=False, separators=(",", ":")).encode()
