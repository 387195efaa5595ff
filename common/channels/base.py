"""What a channel is: one verb, `send`, which never raises for a failing receiver, and the settings it needs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Protocol

from common.channels.links import Links
from common.channels.settings import ChannelSettings
from common.domain.delivery import Attempt, Poison
from common.domain.egress import EgressMode, EgressRules
from common.domain.errors import TocsinError
from common.http.exchange import HttpExchange, HttpRequest
from common.http.resolver import Resolver


class Unsendable(TocsinError):
    """This notification can never be sent as things stand; `poison` says why."""

    code = "UNSENDABLE"

    def __init__(self, poison: Poison, message: str) -> None:
        super().__init__(message)
        self.poison = poison


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one incident, as it was: `incident` and `monitor` are the snapshot that was stored with it.

    `earlier`, for an Alertmanager alone: the same of the incident's earlier events, as far as it makes their labels
    (`severity`, `source`, `name`, `labels`, and `monitor`: its name).
    """

    event_type: str
    at: datetime
    incident: Mapping[str, Any]
    monitor: Mapping[str, Any] | None
    earlier: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One event, or several of a group, ready to be told. All of it is the same at every attempt.

    `notification_id` is the message's id: the notification's own, or the one that the notifications of a group share.
    `body` is the webhook's JSON; `events` (at least one, oldest first) are for channels that speak another language.
    """

    notification_id: str
    org_id: str
    at: datetime
    correlation_id: str
    body: bytes
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """A configured channel with its secrets open. Never logged."""

    channel_id: str
    config: Mapping[str, Any]
    secrets: Mapping[str, Any]


class HttpSender(Protocol):
    """The part of HttpEngine that channels use."""

    async def send(self, request: HttpRequest) -> HttpExchange:
        """Carry out a request; failures are in the exchange."""
        ...


@dataclass(frozen=True, slots=True)
class Network:
    """For channels that connect themselves: how names are resolved, and which addresses may be reached."""

    resolver: Resolver
    rules: EgressRules


@dataclass(frozen=True, slots=True)
class MailServer:
    """The installation's own mail server, for channels that name none."""

    host: str
    port: int
    tls: str  # "starttls" | "tls" | "none"
    sender: str
    username: str = ""
    password: str = ""


#: Reaches nothing: what a context has until it is told better.
NOWHERE = Network(Resolver(), EgressRules(EgressMode.PUBLIC, deny=(ip_network("0.0.0.0/0"), ip_network("::/0"))))


@dataclass(frozen=True, slots=True)
class Context:
    """What sending needs besides: the way out, the time, where people find Tocsin, how they acknowledge by a link.

    Without `links` messages have no such link; without `mail` every mail channel needs a server of its own.
    """

    http: HttpSender
    now: Callable[[], datetime]
    base_url: str
    network: Network = NOWHERE
    links: Links | None = None
    mail: MailServer | None = None


class Channel(Protocol):
    """A type of channel."""

    @property
    def settings(self) -> type[ChannelSettings]:
        """What its configuration holds."""
        ...

    @property
    def keeps_incidents(self) -> bool:
        """Whether the receiver keeps what it is told open until it hears of the end."""
        ...

    async def send(self, message: Message, destination: Destination, context: Context) -> Attempt:
        """Make one attempt. Raises Unsendable when there is nothing that could be sent."""
        ...


def text_of(values: Mapping[str, Any], key: str) -> str:
    """A configured text. Raises Unsendable when it is missing."""
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise Unsendable(Poison.CHANNEL_INVALID, f"the channel has no {key}")
    return value


#: Nothing: for channels without secrets.
NO_SECRETS: Mapping[str, Any] = MappingProxyType({})
