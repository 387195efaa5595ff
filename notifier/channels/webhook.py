"""Standard Webhooks 1.0.0: the event as signed JSON, with an id that is the same at every attempt."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from datetime import UTC

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from common.domain.delivery import Poison
from common.http.exchange import HttpRequest
from notifier.channels.base import Context, Destination, HttpChannel, Message, Unsendable, post, text_of

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


class WebhookChannel(HttpChannel):
    """`config.url` is where, `secrets.secret` ("whsec_…") signs."""

    def request(self, message: Message, destination: Destination, context: Context) -> HttpRequest:
        """The signed request of one attempt."""
        url = text_of(destination.config, "url")
        message_id = f"msg_{message.notification_id}"
        sent_at = context.now().astimezone(UTC)
        try:
            signer = Webhook(text_of(destination.secrets, "secret"))
        except (Base64Error, ValueError, EmptyWebhookSecretError):
            raise Unsendable(Poison.SECRET_UNREADABLE, "the webhook's secret is not whsec_ and base64") from None
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": signer.sign(message_id, sent_at, message.body.decode()),
        }
        return post(url, headers, message.body, traceparent=_traceparent(message))


def _traceparent(message: Message) -> str:
    """The check that led to the event goes on in the receiver's trace; the notification is the span."""
    if not _TRACE_ID.fullmatch(message.correlation_id):
        return ""
    return f"00-{message.correlation_id}-{message.notification_id.replace('-', '')[-16:]}-01"
