"""The index of channel types: a new one is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from common.channels.alertmanager import AlertmanagerChannel
from common.channels.apprise import AppriseChannel
from common.channels.base import Channel
from common.channels.email import EmailChannel
from common.channels.pagerduty import PagerDutyChannel
from common.channels.slack import SlackChannel
from common.channels.webhook import WebhookChannel

CHANNELS: Mapping[str, Channel] = MappingProxyType(
    {
        "webhook": WebhookChannel(),
        "slack": SlackChannel(),
        "email": EmailChannel(),
        "pagerduty": PagerDutyChannel(),
        "alertmanager": AlertmanagerChannel(),
        "apprise": AppriseChannel(),
    },
)
