"""Channels that are one request, over an engine that answers what it is told: no network, no server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from common.channels.base import Context, Destination
from common.channels.links import Links
from common.channels.registry import CHANNELS
from common.clock import utc_now
from common.domain.checks import Reason
from common.domain.delivery import Attempt
from common.http.exchange import HttpExchange, HttpRequest
from common.store.notifications import Claimed
from notifier.messages import build
from tests.telling import BASE_URL, CLAIM, VAULT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BASE = "https://hooks.example/services/s3cr3t"
URL = f"{BASE}?token=t0k3n"

#: What each type needs to be told where to go.
DESTINATIONS = {
    "webhook": Destination(CLAIM.channel_id, {"url": URL}, {"secret": SECRET}),
    "slack": Destination(CLAIM.channel_id, {}, {"url": URL}),
    "pagerduty": Destination(CLAIM.channel_id, {"url": URL}, {"routing_key": "r0ut1ng"}),
    "alertmanager": Destination(CLAIM.channel_id, {"url": BASE}, {"token": "b34r3r"}),
}


class Wire:
    """An engine that gives these answers, the last one again and again, and keeps what it was asked."""

    def __init__(self, *exchanges: HttpExchange) -> None:
        self.exchanges = list(exchanges)
        self.asked: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpExchange:
        self.asked.append(request)
        return self.exchanges.pop(0) if len(self.exchanges) > 1 else self.exchanges[0]


def context_over(wire: Wire) -> Context:
    return Context(wire, utc_now, BASE_URL, links=Links(VAULT, BASE_URL))


def send(
    type_: str, *exchanges: HttpExchange, destination: Destination | None = None, claims: tuple[Claimed, ...] = (CLAIM,)
) -> tuple[Attempt, list[HttpRequest]]:
    """Send a message of these claims; the attempt, and the requests that it made."""
    wire = Wire(*exchanges)
    where = destination or DESTINATIONS[type_]
    attempt = asyncio.run(CHANNELS[type_].send(build(claims), where, context_over(wire)))
    return attempt, wire.asked


def failed(reason: Reason, text: str = "no") -> HttpExchange:
    exchange = HttpExchange()
    exchange.fail(reason, text)
    return exchange


def body_of(request: HttpRequest) -> Any:
    return json.loads(request.body or b"")
