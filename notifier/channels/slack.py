"""Slack incoming webhooks (and what speaks like them): a fallback text and blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from common.http.exchange import HttpRequest
from notifier.channels.base import Context, Destination, HttpChannel, Message, post, text_of

_MARKS: Mapping[str, str] = MappingProxyType(
    {
        "opened": ":rotating_light:",
        "escalated": ":fire:",
        "acknowledged": ":eyes:",
        "resolved": ":white_check_mark:",
    },
)
#: Slack takes 3,000 characters in a section; escaping makes one character up to five.
_MAX_CHARS = 500


class SlackChannel(HttpChannel):
    """The URL is the secret: `secrets.url`, or `config.url` where the organization does not mind."""

    def request(self, message: Message, destination: Destination, context: Context) -> HttpRequest:
        """The message as Slack wants it."""
        url = text_of(destination.secrets if destination.secrets.get("url") else destination.config, "url")
        headline = _headline(message)
        link = f"{context.base_url}/v1/incidents/{message.incident['id']}"
        blocks = [
            _section(f"{_MARKS.get(message.event_type, ':bell:')} *{headline}*"),
            _section("\n".join(f"*{name}*: {_escape(value)}" for name, value in _facts(message))),
            {"type": "context", "elements": [_markdown(f"<{link}|Incident> · {message.at.isoformat()}")]},
        ]
        body = json.dumps({"text": headline, "blocks": blocks}, ensure_ascii=False).encode()
        return post(url, {}, body)


def _headline(message: Message) -> str:
    return f"{message.event_type.capitalize()}: {_escape(message.incident['title'])}"


def _facts(message: Message) -> list[tuple[str, Any]]:
    cause = message.incident.get("cause") or {}
    facts = [
        ("Severity", f"{message.incident['severity']} ({message.incident['priority']})"),
        ("Cause", cause.get("message") or cause.get("reason")),
        ("Monitor", (message.monitor or {}).get("name")),
    ]
    return [(name, value) for name, value in facts if value]


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _markdown(text)}


def _markdown(text: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text}


def _escape(value: Any) -> str:
    """Slack's three control characters; without them nobody's title can mention a channel or forge a link."""
    return str(value)[:_MAX_CHARS].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
