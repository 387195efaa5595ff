"""What a message says to people: one story per event, told alike in mails, chats and on-call tools.

Everything that came from outside is made plain here: one line, no control or direction-changing characters, cut to a
length. What a medium obeys besides (HTML, Slack's marks) is for its channel to escape.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from common.channels.base import Context, Event, Message

#: Characters of a fact, of a title.
_FACT_CHARS = 500
_TITLE_CHARS = 200

#: Events after which there is something to acknowledge.
_ASKS = frozenset({"opened", "escalated", "reminder"})

_VERBS = {
    "opened": "Opened",
    "escalated": "Escalated",
    "reminder": "Still open",
    "acknowledged": "Acknowledged",
    "resolved": "Resolved",
}


@dataclass(frozen=True, slots=True)
class Story:
    """One event in words. `facts` are (name, value) pairs; `acknowledge` is a link, "" when there is nothing to do."""

    event_type: str
    title: str
    severity: str
    facts: tuple[tuple[str, str], ...]
    link: str
    acknowledge: str

    @property
    def headline(self) -> str:
        """What happened to what, in one line."""
        return f"{_VERBS.get(self.event_type, self.event_type.capitalize())}: {self.title}"

    @property
    def over(self) -> bool:
        """Whether the problem has ended."""
        return self.event_type == "resolved"


def tell(message: Message, channel_id: str, context: Context) -> list[Story]:
    """The stories of a message's events, in order."""
    return [_story(event, message.org_id, channel_id, context) for event in message.events]


def headline(stories: list[Story]) -> str:
    """One line for all of them."""
    if len(stories) == 1:
        return stories[0].headline
    counts = Counter(_VERBS.get(story.event_type, story.event_type).lower() for story in stories)
    return f"{len(stories)} alerts: {', '.join(f'{count} {verb}' for verb, count in counts.items())}"


def plain(value: Any, limit: int = _FACT_CHARS) -> str:
    """A value as one line of harmless text, at most `limit` characters."""
    # Cut first: nothing after a hundred times the limit could be seen anyway, and a megabyte must not be walked.
    text = "".join(" " if _strange(character) else character for character in str(value)[: limit * 4])
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def moment(text: Any) -> datetime | None:
    """A time in a snapshot, None without (or with an unreadable) one."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if found is None:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def span(length: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = max(0, round(length.total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def incident_link(event: Event, context: Context) -> str:
    """Where the incident is."""
    return f"{context.base_url}/v1/incidents/{event.incident['id']}"


def _story(event: Event, org_id: str, channel_id: str, context: Context) -> Story:
    acknowledge = ""
    if context.links is not None and event.event_type in _ASKS:
        acknowledge = context.links.url(org_id, event.incident["id"], channel_id, event.at)
    return Story(
        event.event_type,
        plain(event.incident["title"], _TITLE_CHARS) or "(no title)",
        plain(event.incident["severity"]),
        tuple((name, text) for name, value in _facts(event) if value and (text := plain(value))),
        incident_link(event, context),
        acknowledge,
    )


def _facts(event: Event) -> list[tuple[str, Any]]:
    incident, monitor = event.incident, event.monitor or {}
    cause = incident.get("cause") or {}
    opened_at, resolved_at = moment(incident.get("opened_at")), moment(incident.get("resolved_at"))
    return [
        ("Severity", f"{incident['severity']} ({incident['priority']})"),
        ("Monitor", monitor.get("name")),
        ("Target", monitor.get("target")),
        ("Cause", cause.get("message") or cause.get("reason")),
        ("Expected", cause.get("expected")),
        ("Seen", cause.get("seen")),
        ("Description", incident.get("description")),
        ("Since", opened_at and f"{opened_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Duration", opened_at and resolved_at and span(resolved_at - opened_at)),
    ]


def _strange(character: str) -> bool:
    # Control, format (direction marks, zero width), surrogate, private, unassigned, line and paragraph separators.
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}
