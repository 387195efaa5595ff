"""Standard Webhooks 1.0.0: the event as signed JSON, with an id that is the same at every attempt."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Annotated, ClassVar

from pydantic import Field
from standardwebhooks import Webhook

from common.channels.base import Context, Destination, Message, Unsendable, text_of
from common.channels.http import HttpChannel, post
from common.channels.settings import ChannelSettings, web_host, web_problem
from common.domain.delivery import Poison
from common.domain.errors import FieldError
from common.http.exchange import HttpRequest
from common.http.target import Host

#: The library decodes whatever resembles base64; a secret that somebody mangled must not sign anything.
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{32,88}={0,2}")
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


class WebhookSettings(ChannelSettings):
    """Where a webhook goes. The path may hold a token of the receiver; only those who may write channels see it."""

    SHADED: ClassVar[frozenset[str]] = frozenset({"url"})

    url: Annotated[str, Field(min_length=1, max_length=2048)]

    def problems(self) -> Iterator[FieldError]:
        """The URL has to be one."""
        yield from web_problem("url", self.url)

    def hosts(self) -> Iterator[tuple[str, Host]]:
        """The URL's."""
        yield from web_host("url", self.url)

    @classmethod
    def generate(cls) -> Mapping[str, str]:
        """What signs the webhooks."""
        return {"secret": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()}


class WebhookChannel(HttpChannel):
    """`config.url` is where, `secrets.secret` ("whsec_…") signs."""

    settings = WebhookSettings

    def request(self, message: Message, destination: Destination, context: Context) -> HttpRequest:
        """The signed request of one attempt."""
        url = text_of(destination.config, "url")
        message_id = f"msg_{message.notification_id}"
        sent_at = context.now().astimezone(UTC)
        signer = Webhook(_secret(destination))
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": signer.sign(message_id, sent_at, message.body.decode()),
        }
        return post(url, headers, message.body, traceparent=_traceparent(message))


def _secret(destination: Destination) -> str:
    secret = text_of(destination.secrets, "secret")
    if not _SECRET.fullmatch(secret):
        raise Unsendable(Poison.SECRET_UNREADABLE, "the webhook's secret is not whsec_ and base64 of 24 to 64 bytes")
    return secret


def _traceparent(message: Message) -> str:
    """The check that led to the event goes on in the receiver's trace; the notification is the span."""
    if not _TRACE_ID.fullmatch(message.correlation_id):
        return ""
    return f"00-{message.correlation_id}-{message.notification_id.replace('-', '')[-16:]}-01"
