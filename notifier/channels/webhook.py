"""Standard Webhooks 1.0.0: the event as signed JSON, with an id that is the same at every attempt."""

from __future__ import annotations

import re
from datetime import UTC

from standardwebhooks import Webhook

from common.domain.delivery import Poison
from common.http.exchange import HttpRequest
from notifier.channels.base import Context, Destination, HttpChannel, Message, Unsendable, post, text_of

#: The library decodes whatever resembles base64; a secret that somebody mangled must not sign anything.
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{32,88}={0,2}")
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


class WebhookChannel(HttpChannel):
    """`config.url` is where, `secrets.secret` ("whsec_…") signs."""

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
