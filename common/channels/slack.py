"""Slack incoming webhooks (and what speaks like them): a fallback text and blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from common.channels.base import Context, Destination, Message, text_of
from common.channels.http import HttpChannel, post
from common.channels.settings import ChannelSettings, Secret, web_host, web_problem
from common.channels.story import Story, headline, tell
from common.domain.errors import FieldError
from common.http.exchange import HttpRequest
from common.http.target import Host

_MARKS: Mapping[str, str] = MappingProxyType(
    {
        "opened": ":rotating_light:",
        "escalated": ":fire:",
        "reminder": ":bell:",
        "acknowledged": ":eyes:",
        "resolved": ":white_check_mark:",
    },
)
#: Slack takes 3,000 characters in a section, 50 blocks, about 13,000 characters in all. Escaping makes one character up
#: to five, so a text is cut after it.
_SECTION_CHARS = 3_000
_VALUE_CHARS = 500
_LISTED = 10


class SlackSettings(ChannelSettings):
    """The URL of an incoming webhook; it is the secret."""

    LEADS: ClassVar[frozenset[str]] = frozenset()

    url: Secret

    def problems(self) -> Iterator[FieldError]:
        """The URL has to be one."""
        yield from web_problem("url", self.url)

    def hosts(self) -> Iterator[tuple[str, Host]]:
        """The URL's."""
        yield from web_host("url", self.url)


class SlackChannel(HttpChannel):
    """`secrets.url` is where."""

    settings = SlackSettings

    def request(self, message: Message, destination: Destination, context: Context) -> HttpRequest:
        """The message as Slack wants it."""
        url = text_of(destination.secrets, "url")
        stories = tell(message, destination.channel_id, context)
        blocks = _digest(stories) if len(stories) > 1 else _single(stories[0])
        blocks.append({"type": "context", "elements": [_plain(f"Tocsin · {message.at:%Y-%m-%d %H:%M:%S} UTC")]})
        text = _escape(headline(stories))
        quiet = {"mrkdwn": False, "link_names": False, "unfurl_links": False, "unfurl_media": False}
        body = {"text": text, "blocks": blocks, **quiet}
        return post(url, {}, json.dumps(body, ensure_ascii=False).encode())


def _single(story: Story) -> list[dict[str, Any]]:
    facts = "\n".join(f"{name}: {_escape(value)}" for name, value in story.facts)
    return [
        _section(_plain(f"{_mark(story)} {_escape(story.headline)}", emoji=True)),
        _section(_plain(_whole_lines(facts))),
        _section(_links(story)),
    ]


def _digest(stories: list[Story]) -> list[dict[str, Any]]:
    blocks = [_section(_plain(_escape(headline(stories))))]
    for story in stories[:_LISTED]:
        cause = next((value for name, value in story.facts if name == "Cause"), "")
        line = f"{_mark(story)} {_escape(story.headline)} ({_escape(story.severity)})"
        blocks.append(_section(_plain(_whole_lines(f"{line}\n{_escape(cause)}", limit=1_000), emoji=True)))
        blocks.append(_section(_links(story)))
    if len(stories) > _LISTED:
        blocks.append(_section(_plain(f"… and {len(stories) - _LISTED} more")))
    return blocks


def _whole_lines(text: str, limit: int = _SECTION_CHARS) -> str:
    """As many lines as fit: a line cut in its middle could end within an escape or a link."""
    lines: list[str] = []
    room = limit
    for line in text.split("\n"):
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join(lines)


def _links(story: Story) -> dict[str, str]:
    """The only mark-up there is, and nothing from outside is in it."""
    acknowledge = f" · <{story.acknowledge}|Acknowledge>" if story.acknowledge else ""
    return {"type": "mrkdwn", "text": f"<{story.link}|Incident>{acknowledge}"}


def _mark(story: Story) -> str:
    return _MARKS.get(story.event_type, ":bell:")


def _section(text: dict[str, Any]) -> dict[str, Any]:
    return {"type": "section", "text": text}


def _plain(text: str, *, emoji: bool = False) -> dict[str, Any]:
    """Text in which Slack obeys nothing; with `emoji`, names between colons become pictures."""
    return {"type": "plain_text", "text": text, "emoji": emoji}


def _escape(value: str) -> str:
    """Slack's three control characters; and what reads only the fallback text (Mattermost) finds nobody to mention."""
    cut = value[:_VALUE_CHARS].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return cut.replace("@", "@\u2060")
