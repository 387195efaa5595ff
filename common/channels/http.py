"""Channels over HTTP: the sending itself, the one table from what came back to what follows, what may be said of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from common.channels.base import Context, Destination, Message
from common.channels.settings import ChannelSettings
from common.domain.checks import Reason
from common.domain.delivery import SEND_DEADLINE_S, Attempt, Outcome
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


class HttpChannel(ABC):
    """A channel that is one POST request."""

    settings: type[ChannelSettings]
    keeps_incidents = False

    @abstractmethod
    def request(self, message: Message, destination: Destination, context: Context) -> HttpRequest:
        """The request of one attempt. Raises Unsendable."""

    async def send(self, message: Message, destination: Destination, context: Context) -> Attempt:
        """Send the request and judge what came back."""
        request = self.request(message, destination, context)
        return judge(await context.http.send(request), request, context.now())


def post(
    url: str, headers: Mapping[str, str], body: bytes, *, traceparent: str = "", timeout_s: float = SEND_DEADLINE_S
) -> HttpRequest:
    """A JSON request as all channels send it: a redirect is not followed, for it would take the message elsewhere."""
    return HttpRequest(
        "POST",
        url,
        headers=(("Content-Type", "application/json"), *headers.items()),
        body=body,
        timeout_s=timeout_s,
        follow_redirects=False,
        max_body_bytes=_MAX_ANSWER_BYTES,
        traceparent=traceparent,
    )


def judge(exchange: HttpExchange, request: HttpRequest, now: datetime) -> Attempt:
    """What an exchange means. A final status counts even when the rest of the answer broke off: it was decided then."""
    if exchange.status >= 200:
        return judge_status(exchange.status, retry_after_s(exchange.header("retry-after"), now))
    outcome = Outcome.UNKNOWN if exchange.reason in _UNSURE else Outcome.FAILED
    return Attempt(outcome, None, redact(f"{exchange.reason.label}: {exchange.message}", request))


def judge_status(status: int, wait_s: float | None = None) -> Attempt:
    """What a final HTTP status means."""
    outcome = _outcome_of(status)
    error = "" if outcome is Outcome.DELIVERED else f"the receiver answered {status}"
    return Attempt(outcome, status, error, retry_after_s=wait_s, gone=status == _GONE)


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
