"""A message as mail: text and HTML, threaded by incident, the same bytes at every attempt."""

from __future__ import annotations

import hashlib
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

from common.channels.base import Message
from common.channels.story import Story, headline

_COLOURS = {"critical": "#b3261e", "error": "#c2410c", "warning": "#a16207", "info": "#1d4ed8"}
_OVER_COLOUR = "#15803d"

#: Of a digest: how many incidents are told in full, how many threads it belongs to.
_LISTED = 50
_THREADS = 10

_HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title></head>
<body style="margin:0;padding:24px 12px;background:#f4f5f9;font:16px/1.5 system-ui,sans-serif;color:#1d2330">
<div style="max-width:560px;margin:0 auto">
{cards}
<p style="font-size:13px;color:#667">Sent by Tocsin.</p>
</div></body></html>
"""
_CARD = """\
<div style="background:#fff;border-radius:8px;border-top:4px solid {colour};padding:16px 20px;margin-bottom:16px">
<h1 style="font-size:18px;margin:0 0 12px">{headline}</h1>
<table style="border-collapse:collapse;font-size:14px">
{rows}
</table>
<p style="margin:16px 0 0">{links}</p>
</div>
"""
_ROW = (
    '<tr><td style="padding:2px 16px 2px 0;color:#667;vertical-align:top">{name}</td>'
    '<td style="padding:2px 0;word-break:break-word">{value}</td></tr>'
)
_BUTTON = (
    '<a href="{url}" style="display:inline-block;background:#1d4ed8;color:#fff;text-decoration:none;'
    'border-radius:6px;padding:8px 16px;margin-right:12px">Acknowledge</a>'
)
_LINK = '<a href="{url}" style="color:#1d4ed8">Incident</a>'


def mail(message: Message, stories: list[Story], sender: Address, recipients: list[Address]) -> EmailMessage:
    """The mail. Header values are one line (stories are), and the email package refuses any that is not."""
    found = EmailMessage(policy=SMTP)
    found["Subject"] = _subject(stories)
    found["From"] = Address("Tocsin" if not sender.display_name else sender.display_name, addr_spec=sender.addr_spec)
    found["To"] = recipients
    found["Date"] = format_datetime(message.at)
    found["Message-ID"] = f"<{message.notification_id}@{sender.domain}>"
    # Nobody sends the first mail of a thread: every mail of an incident refers to it, whichever comes first.
    threads = list(dict.fromkeys(str(event.incident["id"]) for event in message.events))[:_THREADS]
    references = " ".join(f"<incident.{incident_id}@{sender.domain}>" for incident_id in threads)
    found["In-Reply-To"] = references.split(" ", 1)[0]
    found["References"] = references
    # No auto-replies, please: RFC 3834, and Exchange's own.
    found["Auto-Submitted"] = "auto-generated"
    found["X-Auto-Response-Suppress"] = "All"
    found.set_content(_text(stories))
    found.add_alternative(_html(stories), subtype="html")
    # A random boundary would make every attempt another message.
    found.set_boundary(f"=={hashlib.sha256(message.notification_id.encode()).hexdigest()[:32]}==")
    return found


def _subject(stories: list[Story]) -> str:
    severity = "" if len(stories) > 1 else f"[{stories[0].severity}] "
    return f"{severity}{headline(stories)}"


def _text(stories: list[Story]) -> str:
    parts = [headline(stories)] if len(stories) > 1 else []
    parts += [_text_card(story) for story in stories[:_LISTED]]
    if len(stories) > _LISTED:
        parts.append(f"… and {len(stories) - _LISTED} more")
    return "\n\n".join([*parts, "-- \nSent by Tocsin."]) + "\n"


def _text_card(story: Story) -> str:
    lines = [story.headline, *(f"{name + ':':<13}{value}" for name, value in story.facts), f"Incident:    {story.link}"]
    if story.acknowledge:
        lines.append(f"Acknowledge: {story.acknowledge}")
    return "\n".join(lines)


def _html(stories: list[Story]) -> str:
    cards = [_html_card(story) for story in stories[:_LISTED]]
    if len(stories) > 1:
        cards.insert(0, f'<h1 style="font-size:20px">{escape(headline(stories))}</h1>')
    if len(stories) > _LISTED:
        cards.append(f"<p>… and {len(stories) - _LISTED} more</p>")
    return _HTML.format(title=escape(headline(stories)), cards="\n".join(cards))


def _html_card(story: Story) -> str:
    rows = "\n".join(_ROW.format(name=escape(name), value=escape(value)) for name, value in story.facts)
    button = _BUTTON.format(url=escape(story.acknowledge)) if story.acknowledge else ""
    colour = _OVER_COLOUR if story.over else _COLOURS.get(story.severity, "#475569")
    links = button + _LINK.format(url=escape(story.link))
    return _CARD.format(colour=colour, headline=escape(story.headline), rows=rows, links=links)
