"""What a channel is: one verb, `send`, which never raises for a failing receiver.

Most channels speak HTTP: those implement `request` only. This module owns the sending itself, the one table from what
came back to what follows, and what may be said about it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import urlsplit

from common.domain.checks import Reason
from common.domain.delivery import SEND_DEADLINE_S, Attempt, Outcome, Poison
from common.domain.errors import TocsinError
from common.http.exchange import HttpExchange, HttpRequest

#: Nothing in an answer's body matters to us; one that is longer is broken off.
_MAX_ANSWER_BYTES = 64 * 1024

#: Refusals that time may heal: request timeout, too early, too many requests.
_TRANSIENT_4XX = frozenset({408, 425, 429})
_GONE = 410

#: A gateway that lost its upstream cannot say whether it was told.
_GATEWAY_UNSURE = frozenset({502, 504})

#: Transport failures after which the message may have arrived all the same. After every other it certainly did not.
_UNSURE: frozenset[Reason] = frozenset(
    {Reason.CONNECTION_RESET, Reason.TIMEOUT, Reason.EMPTY_REPLY, Reason.PROTOCOL_ERROR, Reason.HEADERS_TOO_LARGE,
     Reason.BODY_TOO_LARGE}
)  # fmt: skip

_HIDDEN = "[hidden]"


class Unsendable(TocsinError):
    """This notification can never be sent as things stand; `poison` says why."""

    code = "UNSENDABLE"

    def __init__(self, poison: Poison, message: str) -> None:
        super().__init__(message)
        self.poison = poison


@dataclass(frozen=True, slots=True)
class Message:
    """One event, ready to be told. `body` is the webhook's JSON and the same bytes at every attempt.

    `title`, `severity` and the like are for channels that speak to people; `incident` and `monitor` are the snapshot.
    """

    notification_id: str
    event_type: str
    at: datetime
    correlation_id: str
    body: bytes
    incident: Mapping[str, Any]
    monitor: Mapping[str, Any] | None


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
class Context:
    """What sending needs besides: the way out, the time, and where people find Tocsin."""

    http: HttpSender
    now: Callable[[], datetime]
    base_url: str


class Channel(Protocol):
    """A type of channel."""

    async def send(self, message: Message, destination: Destination, context: Context) -> Attempt:
        """Make one attempt. Raises Unsendable when there is nothing that could be sent."""
        ...


class HttpChannel(ABC):
    """A channel that is one POST request."""

    @abstractmethod
    def request(self, message: Message, destination: Destination, context: Context) -> HttpRequest:
        """The request of one attempt. Raises Unsendable."""

    async def send(self, message: Message, destination: Destination, context: Context) -> Attempt:
        """Send the request and judge what came back."""
        request = self.request(message, destination, context)
        return judge(await context.http.send(request), request, context.now())


def post(url: str, headers: Mapping[str, str], body: bytes, *, traceparent: str = "") -> HttpRequest:
    """A JSON request as all channels send it: a redirect is not followed, for it would take the message elsewhere."""
    return HttpRequest(
        "POST",
        url,
        headers=(("Content-Type", "application/json"), *headers.items()),
        body=body,
        timeout_s=SEND_DEADLINE_S,
        follow_redirects=False,
        max_body_bytes=_MAX_ANSWER_BYTES,
        traceparent=traceparent,
    )


def judge(exchange: HttpExchange, request: HttpRequest, now: datetime) -> Attempt:
    """What an exchange means. A final status counts even when the rest of the answer broke off: it was decided then."""
    status = exchange.status
    if status < 200:
        outcome = Outcome.UNKNOWN if exchange.reason in _UNSURE else Outcome.FAILED
        return Attempt(outcome, None, redact(f"{exchange.reason.label}: {exchange.message}", request))
    outcome = _outcome_of(status)
    return Attempt(
        outcome,
        status,
        "" if outcome is Outcome.DELIVERED else f"the receiver answered {status}",
        retry_after_s=retry_after_s(exchange.header("retry-after"), now),
        gone=status == _GONE,
    )


def _outcome_of(status: int) -> Outcome:
    if status < 300:
        return Outcome.DELIVERED
    # A redirect is a failure for Standard Webhooks, and one that time does not heal: like a 4xx.
    if status < 500 and status not in _TRANSIENT_4XX:
        return Outcome.REJECTED
    return Outcome.UNKNOWN if status in _GATEWAY_UNSURE else Outcome.FAILED


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, None without (or with an unreadable) one."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # More digits than any wait that would be honoured.
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def redact(text: str, request: HttpRequest) -> str:
    """Free a message of what is secret in a URL: its path, query and credentials; and of what PostgreSQL refuses."""
    parts = urlsplit(request.url)
    for secret in (request.url, parts.path, parts.query, parts.username, parts.password):
        if secret and len(secret) > 1:
            text = text.replace(secret, _HIDDEN)
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:500]


def text_of(destination: Mapping[str, Any], key: str) -> str:
    """A configured text. Raises Unsendable when it is missing."""
    value = destination.get(key)
    if not isinstance(value, str) or not value:
        raise Unsendable(Poison.CHANNEL_INVALID, f"the channel has no {key}")
    return value


#: Nothing: for channels without secrets.
NO_SECRETS: Mapping[str, Any] = MappingProxyType({})
