"""The index of channel types: a new one is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from notifier.channels.base import Channel
from notifier.channels.slack import SlackChannel
from notifier.channels.webhook import WebhookChannel

CHANNELS: Mapping[str, Channel] = MappingProxyType(
    {
        "webhook": WebhookChannel(),
        "slack": SlackChannel(),
    },
)
