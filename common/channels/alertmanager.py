"""Out to an Alertmanager: POST /api/v2/alerts, the events of a message as one array."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field

from common.channels.base import Context, Destination, Event, Message, text_of
from common.channels.http import HttpChannel, post
from common.channels.settings import ChannelSettings, OptionalSecret, web_host, web_problem
from common.channels.story import Story, moment, plain, tell
from common.domain.errors import FieldError
from common.http.exchange import HttpRequest
from common.http.target import Host

#: Alertmanager resolves what is not sent again and again, unless told until when an alert lasts. Ours end by being
#: resolved, so it is told a time that nobody waits for.
_LASTS = timedelta(days=365)

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
_OWN = frozenset({"alertname", "severity", "source", "incident_id"})


class AlertmanagerSettings(ChannelSettings):
    """Its base URL, with a bearer token or a user and password where it asks for them."""

    LEADS: ClassVar[frozenset[str]] = frozenset({"url"})
    SHADED: ClassVar[frozenset[str]] = frozenset({"url"})

    url: Annotated[str, Field(min_length=1, max_length=2048, description="Like http://alertmanager:9093.")]
    username: Annotated[str | None, Field(min_length=1, max_length=320, pattern="^[^:\x00-\x1f\x7f]+$")] = None
    password: OptionalSecret = None
    token: OptionalSecret = None

    def problems(self) -> Iterator[FieldError]:
        """One way to authenticate at most."""
        yield from web_problem("url", self.url)
        if "?" in self.url or "#" in self.url:
            yield FieldError("url", "is its base URL, without ? and #")
        if (self.username is None) != (self.password is None):
            yield FieldError("password", "username and password are given together")
        if self.token is not None and self.username is not None:
            yield FieldError("token", "give either a token or a username and password")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            yield FieldError("token", "must be printable ASCII")

    def hosts(self) -> Iterator[tuple[str, Host]]:
        """The URL's."""
        yield from web_host("url", self.url)


class AlertmanagerChannel(HttpChannel):
    """`config.url` is where; `secrets.token`, or `config.username` and `secrets.password`, open it."""

    settings = AlertmanagerSettings
    keeps_incidents = True

    def request(self, message: Message, destination: Destination, context: Context) -> HttpRequest:
        """All events as one request."""
        url = text_of(destination.config, "url").rstrip("/")
        stories = tell(message, destination.channel_id, context)
        alerts: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
        for event, story in zip(message.events, stories, strict=True):
            for alert in _alerts(event, story):
                # Of one alert the last word counts.
                alerts[tuple(sorted(alert["labels"].items()))] = alert
        body = json.dumps(list(alerts.values()), ensure_ascii=False).encode()
        return post(f"{url}/api/v2/alerts", _authorization(destination), body)


def _authorization(destination: Destination) -> dict[str, str]:
    token = destination.secrets.get("token")
    if token:
        return {"Authorization": f"Bearer {token}"}
    username = destination.config.get("username")
    if not username:
        return {}
    pair = f"{username}:{text_of(destination.secrets, 'password')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _alerts(event: Event, story: Story) -> list[dict[str, Any]]:
    """The event's alert, and the ends of those that earlier events of the incident had begun.

    An alert there is its labels. An escalation changes one, an edit any of them: each time it is another alert, and
    the one before has to end.
    """
    incident = event.incident
    starts_at = moment(incident.get("opened_at")) or event.at
    ends_at = (moment(incident.get("resolved_at")) or event.at) if story.over else event.at + _LASTS
    labels = _labels(event, {**incident, "monitor": (event.monitor or {}).get("name")})
    old = (_labels(event, before) for before in event.earlier)
    over = [_alert(story, before, starts_at, min(ends_at, event.at)) for before in old if before != labels]
    return [_alert(story, labels, starts_at, ends_at), *over]


def _alert(story: Story, labels: dict[str, str], starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
    annotations = {"summary": story.title, "link": story.link}
    annotations |= {name.lower(): value for name, value in story.facts if name != "Severity"}
    if story.acknowledge:
        annotations["acknowledge"] = story.acknowledge
    return {
        "labels": labels,
        "annotations": annotations,
        "startsAt": starts_at.isoformat(),
        "endsAt": max(ends_at, starts_at).isoformat(),
        "generatorURL": story.link,
    }


def _labels(event: Event, told: Mapping[str, Any]) -> dict[str, str]:
    """What the alert is, as the event or an earlier one told it."""
    labels = told.get("labels") or {}
    own = {
        "alertname": labels.get("alertname") or told.get("name") or told.get("monitor") or "Tocsin",
        "source": told.get("source"),
        "severity": told.get("severity"),
        "incident_id": event.incident["id"],
    }
    foreign = {_label_name(name): value for name, value in labels.items()}
    merged = {**{name: value for name, value in foreign.items() if name not in _OWN}, **own}
    return {name: text for name, value in merged.items() if (text := plain(value or ""))}


def _label_name(name: str) -> str:
    cleaned = _NOT_IN_NAMES.sub("_", name)
    return cleaned if cleaned[:1].isalpha() or cleaned.startswith("_") else f"_{cleaned}"
